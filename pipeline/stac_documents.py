"""JSON documents of a STAC catalogue: files, and what servers and buckets hold."""

import collections
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from geo.gdal import is_remote
from geo.object_path import ObjectPath, url_of_object
from geo.places import as_place
from geo.remote_names import redact, to_url
from pipeline.image_sources import CatalogueError

TIMEOUT_S = (20.0, 120.0)
"""Seconds to connect, and to wait for each answer."""
NUM_RETRIES = 3
NUM_THREADS = 8
"""Documents that are fetched at the same time, and twice as many that wait to be looked at."""

Document = dict[str, Any]


class DocumentReader:
    """Reads documents with one session, which ends with the `with` block.

    The session, and what it imports, are made when a server is first asked.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._io: Any = None
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "DocumentReader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._io is not None:
            self._io.session.close()

    def io(self) -> Any:
        """Pystac's reader with retries and time limits."""
        with self._lock:
            if self._io is None:
                self._io = _session_io()
            return self._io

    def read(self, place: str) -> Document:
        """A document.

        Args:
            place: a path, or a URL that begins with file://, http(s)://, s3:// or gs://.

        Raises:
            CatalogueError: if it cannot be read, or is no JSON object.
        """
        try:
            document = json.loads(self._text(place))
        except Exception as error:
            raise CatalogueError(
                f"{redact(place)}: cannot read the STAC catalogue: {short_reason(error)}"
            ) from error
        if not isinstance(document, dict):
            raise CatalogueError(f"{redact(place)} is no STAC catalogue: expected a JSON object")
        return document

    def read_all(self, places: Sequence[str]) -> Iterator[tuple[str, Document]]:
        """Documents in the order of their places; remote ones are fetched some at a time.

        Raises:
            CatalogueError: when it is the turn of one that cannot be read.
        """
        if not any(is_remote(place) for place in places):
            yield from ((place, self.read(place)) for place in places)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(NUM_THREADS, "stac")
        waiting: collections.deque[tuple[str, Future[Document]]] = collections.deque()
        for place in places:
            waiting.append((place, self._pool.submit(self.read, place)))
            if len(waiting) > 2 * NUM_THREADS:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()

    def _text(self, place: str) -> str:
        if url_of_object(place) is not None:
            return ObjectPath.parse(str(url_of_object(place))).read_text()
        url = to_url(place) or place
        if url.lower().startswith(("http://", "https://")):
            return str(self.io().read_text(url))
        if is_remote(place):
            raise CatalogueError("expected a path, or a URL with https://, s3:// or gs://")
        path = as_place(place) if place.startswith("file://") else Path(place)
        return path.read_bytes().decode()


def _session_io() -> Any:
    from pystac_client.stac_api_io import StacApiIO
    from urllib3 import Retry

    retry = Retry(
        total=NUM_RETRIES,
        backoff_factor=0.5,
        status_forcelist=[429, 500, 502, 503, 504],
        allowed_methods=None,
        raise_on_status=False,
    )
    return StacApiIO(max_retries=retry, timeout=TIMEOUT_S)


def short_reason(error: BaseException) -> str:
    """An error in one line, without secrets; with the HTTP status where there is one."""
    status = getattr(error, "status_code", None)
    text = redact(" ".join(str(error).split()))[:300] or type(error).__name__
    return f"HTTP status {status}: {text}" if status else text
