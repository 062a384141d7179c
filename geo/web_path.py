"""Files of a web server by the part of pathlib's interface that reading a dataset needs."""

import contextlib
import dataclasses
import errno
import functools
import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from geo.errors import StateError, StorageError
from geo.object_path import RangeFile, obstore_module, retry_options
from geo.remote_names import redact

SCHEMES = ("http://", "https://")


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class WebPath:
    """A file, or a folder of files, below a URL; no requests are made until something is asked.

    Attributes:
        root: scheme, host and port, such as https://example.org.
        key: path without slashes at its ends, nothing percent-encoded.
    """

    root: str
    key: str

    @classmethod
    def parse(cls, url: str) -> "WebPath":
        """The path of a URL.

        Raises:
            StorageError: if it names no host, or has a query: nothing can be put behind one.
        """
        parts = urlsplit(url)
        if not parts.hostname or parts.query or parts.fragment:
            raise StorageError(
                f"{redact(url)}: expected a folder's URL such as https://HOST/FOLDER, without a "
                "query: the names of the dataset's files are put behind it"
            )
        return cls(f"{parts.scheme}://{parts.netloc}", unquote(parts.path).strip("/"))

    def __truediv__(self, name: str) -> "WebPath":
        return WebPath(self.root, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return redact(f"{self.root}/{self.key}")

    @property
    def name(self) -> str:
        """The last part of the path; the host where there is none."""
        return (self.key or self.root).rsplit("/", 1)[-1]

    def resolve(self) -> "WebPath":
        """Itself."""
        return self

    def state(self) -> dict[str, Any]:
        """The file's e_tag, last_modified and size, by a GET of one byte.

        Raises:
            FileNotFoundError: if the server does not have it.
        """
        with _told(self):
            options: Any = {"range": (0, 1)}
            answer = obstore_module().get(_store(self.root), self.key, options=options)
            answer.bytes()
            return dict(answer.meta)

    def exists(self) -> bool:
        """Whether the server has the file."""
        try:
            self.state()
        except FileNotFoundError:
            return False
        return True

    def read_bytes(self) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: if the server does not have it.
        """
        with _told(self):
            return bytes(obstore_module().get(_store(self.root), self.key).bytes())

    def read_text(self) -> str:
        """The whole file as UTF-8."""
        return self.read_bytes().decode()

    def read_range(self, start: int, end: int) -> bytes:
        """Bytes from `start` up to but without `end`."""
        with _told(self):
            store = _store(self.root)
            return bytes(obstore_module().get_range(store, self.key, start=start, end=end))

    def open(self) -> io.RawIOBase:
        """The file as a binary file that can seek; only what is read is fetched."""
        return RangeFile(self, self.state()["size"])


@functools.lru_cache(maxsize=16)
def _store(root: str) -> Any:
    from obstore.store import HTTPStore

    options: Any = {"timeout": "30s", "connect_timeout": "10s", "allow_http": True}
    retries: Any = {**retry_options(), "max_retries": 3}
    return HTTPStore(root, client_options=options, retry_config=retries)


@contextlib.contextmanager
def _told(path: WebPath) -> Iterator[None]:
    """What a server answers as errors that a person can act on."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "no such file on the server", str(path)) from None
    except (BaseError, OSError, ValueError) as error:
        text = redact(str(error).split("\n\nDebug source")[0].strip().rstrip(": "))
        is_patient = " retries, " in text or "error sending request" in text
        kind = StorageError if is_patient else StateError
        raise kind(f"{path}: the server does not answer as it should ({text})") from None
