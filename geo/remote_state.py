"""Which version of a file a server has: found by one small request, without GDAL's caches."""

import functools
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from geo.errors import StateError, StorageError
from geo.network_use import note_request
from geo.object_path import ObjectPath, retry_options, url_of_object
from geo.remote_names import redact, to_url

UNKNOWN = ""
GONE = "gone"
MAX_ASKED_AT_ONCE = 16
"""Requests under way for the files of one image: an answer is mostly waiting."""
MAX_CLIENTS = 320
"""URLs whose client (and connection) is kept: the files of one large image, and some more."""


def remote_state(path: str) -> str:
    """What changes when a file on a server does: its ETag, else its time, and its size.

    Args:
        path: a URL or one of GDAL's names for it.

    Returns:
        A short text; `UNKNOWN` where the server does not tell, or the file lies in an archive.

    Raises:
        FileNotFoundError: if it is not there.
        StateError: if the server answers, but not with that.
        StorageError: if it does not answer after some tries.
    """
    url = to_url(path)
    if url is None:
        return UNKNOWN
    note_request()
    name = url_of_object(path)
    facts = _http_state(url) if name is None else ObjectPath.parse(name).state()
    mark = facts["e_tag"] or facts["last_modified"].isoformat()
    return f"{mark} {facts['size']}"


def remote_states(paths: Sequence[str]) -> list[str]:
    """The states of several files on servers, asked for side by side.

    Args:
        paths: as for `remote_state`.

    Returns:
        A state each, in their order; `GONE` for a file that is not there.

    Raises:
        StorageError: if a server does not answer; the files after it are then not asked for.
    """
    failed = threading.Event()

    def state(path: str) -> str:
        if failed.is_set():
            return UNKNOWN
        try:
            return remote_state(path)
        except FileNotFoundError:
            return GONE
        except StorageError:
            failed.set()
            raise

    if len(paths) <= 1:
        return [state(path) for path in paths]
    with ThreadPoolExecutor(min(len(paths), MAX_ASKED_AT_ONCE), "state") as pool:
        futures = [pool.submit(state, path) for path in paths]
    # All have ended: the first error in the files' order is told, whichever came first.
    return [future.result() for future in futures]


def _http_state(url: str) -> dict[str, Any]:
    """Facts of a file by a GET of one byte: signed URLs often allow no HEAD."""
    import obstore
    from obstore.exceptions import BaseError

    try:
        answer = obstore.get(http_store(url), "", options={"range": (0, 1)})
        answer.bytes()
        return dict(answer.meta)
    except FileNotFoundError:
        raise
    except (BaseError, OSError, ValueError) as error:
        text = redact(str(error).split("\n\nDebug source")[0].strip().rstrip(": "))
        is_patient = " retries, " in text or "error sending request" in text
        raise (StorageError if is_patient else StateError)(text) from None


@functools.lru_cache(maxsize=MAX_CLIENTS)
def http_store(url: str) -> Any:
    """A client for one URL, query included: its path within the store is empty."""
    from obstore.store import HTTPStore

    options: Any = {"timeout": "30s", "connect_timeout": "10s", "allow_http": True}
    retries: Any = {**retry_options(), "max_retries": 3}
    return HTTPStore(url, client_options=options, retry_config=retries)
