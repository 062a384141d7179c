"""Objects of S3 and Google Cloud Storage by the part of pathlib's interface that we use.

An object appears by one PUT, or when its multipart upload is completed: whole or not at all.
Credentials come from the environment only. Folders do not exist; a prefix is one while something
lies below it.
"""

import contextlib
import dataclasses
import datetime
import errno
import fnmatch
import functools
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from geo.errors import StateError, StorageError
from geo.remote_names import redact, to_url

SCHEMES = ("s3://", "gs://")
MAX_RETRIES = 6
"""Tries after the first of each request, with growing pauses, before it fails."""
RETRY_TIMEOUT_S = 90
REQUEST_TIMEOUT_S = 60
_READ_BYTES = 8 << 20
_SETTINGS = ("AWS_", "GOOGLE_", "GS_")
"""Beginnings of the names in the environment that say how buckets are reached."""

# A machine's own service for credentials is asked last: there were none elsewhere.
_METADATA_SERVICE = (
    "169.254.169.254",
    "/latest/api/token",
    "/latest/meta-data",
    "computeMetadata",
    "metadata.google",
)
_CREDENTIALS = {
    "s3://": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_ENDPOINT_URL for another service, "
    "AWS_NO_SIGN_REQUEST=YES for a public bucket)",
    "gs://": "GOOGLE_APPLICATION_CREDENTIALS (GS_NO_SIGN_REQUEST=YES for a public bucket)",
}


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class ObjectPath:
    """An object, or what lies below a prefix; no requests are made until something is asked.

    On purpose no `os.PathLike`: `open` refuses it instead of writing to a local folder "s3:".

    Attributes:
        bucket: such as s3://BUCKET.
        key: without slashes at its ends; empty for the whole bucket.
    """

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str) -> "ObjectPath":
        """The path of a URL such as s3://BUCKET/KEY.

        Raises:
            StorageError: if it names no bucket, or holds credentials or a query.
        """
        scheme = next((scheme for scheme in SCHEMES if url.startswith(scheme)), None)
        if scheme is None:
            raise StorageError(f"{redact(url)}: expected s3://BUCKET/KEY or gs://BUCKET/KEY")
        bucket, _, key = url.removeprefix(scheme).partition("/")
        # A colon begins a password: a secret key of AWS's may hold slashes.
        if "@" in bucket or ":" in bucket or "?" in url:
            raise StorageError(
                f"{redact(url)}: credentials and queries have no place in it; set "
                f"{_CREDENTIALS[scheme]} in the environment"
            )
        if not bucket:
            raise StorageError(f"{url} names no bucket; expected {scheme}BUCKET/KEY")
        return cls(scheme + bucket, "/".join(part for part in key.split("/") if part))

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key; the bucket's name where there is no key."""
        return (self.key or self.bucket).rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """The name without its last extension."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def parent(self) -> "ObjectPath":
        """The prefix that it lies below."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def resolve(self) -> "ObjectPath":
        """Itself: there are neither links nor relative keys."""
        return self

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing to do: prefixes are there when something lies below them."""

    def state(self) -> dict[str, Any]:
        """The object's e_tag, last_modified and size.

        Raises:
            FileNotFoundError: if there is no such object.
        """
        with _told(self):
            return dict(obstore_module().head(_store(self.bucket), self.key))

    def exists(self) -> bool:
        """Whether there is such an object."""
        try:
            self.state()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether something lies below it."""
        with _told(self):
            pages = obstore_module().list(_store(self.bucket), self._prefix(), chunk_size=1)
            return any(len(page) for page in pages)

    def read_bytes(self) -> bytes:
        """The whole object.

        Raises:
            FileNotFoundError: if there is no such object.
        """
        with _told(self):
            return bytes(obstore_module().get(_store(self.bucket), self.key).bytes())

    def read_text(self) -> str:
        """The whole object as UTF-8."""
        return self.read_bytes().decode()

    def read_range(self, start: int, end: int) -> bytes:
        """Bytes from `start` up to but without `end`."""
        with _told(self):
            return bytes(
                obstore_module().get_range(_store(self.bucket), self.key, start=start, end=end)
            )

    def write_bytes(self, data: bytes) -> None:
        """Put the whole object, replacing another."""
        with _told(self):
            obstore_module().put(_store(self.bucket), self.key, data)

    def create_bytes(self, data: bytes) -> bool:
        """Put the whole object unless there is one; whether this call put it.

        One conditional request. A service that is known to have none
        (AWS_CONDITIONAL_PUT=disabled) is asked first and then told, which leaves a gap between.
        """
        from obstore.exceptions import AlreadyExistsError

        with _told(self):
            store = _store(self.bucket)
            try:
                obstore_module().put(store, self.key, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            except NotImplementedError:
                if self.exists():
                    return False
                obstore_module().put(store, self.key, data)
        return True

    def write_text(self, text: str) -> None:
        """Put a text as UTF-8."""
        self.write_bytes(text.encode())

    def upload(self, file: Path) -> None:
        """Put a local file: in parts where it is large, whole when the last part is there."""
        with _told(self):
            obstore_module().put(_store(self.bucket), self.key, file)

    def download(self, file: Path) -> None:
        """Write the object to a local file, in ranges of a few MB; the size is bounded by none.

        Raises:
            FileNotFoundError: if there is no such object.
        """
        size = self.state()["size"]
        with file.open("wb") as sink:
            for start in range(0, size, _READ_BYTES):
                sink.write(self.read_range(start, min(start + _READ_BYTES, size)))

    def touch(self) -> None:
        """Put an empty object."""
        self.write_bytes(b"")

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object; one that is not there is none, whatever `missing_ok` says."""
        self.remove([self])

    @staticmethod
    def remove(paths: "list[ObjectPath]") -> None:
        """Remove objects of one bucket, many by one request where the service can."""
        if paths:
            with _told(paths[0]):
                obstore_module().delete(_store(paths[0].bucket), [path.key for path in paths])

    def iterdir(self) -> "Iterator[ObjectPath]":
        """What lies directly below it: objects and prefixes, sorted."""
        with _told(self):
            found = obstore_module().list_with_delimiter(_store(self.bucket), self._prefix())
        keys = [entry["path"] for entry in found["objects"]] + list(found["common_prefixes"])
        return iter(sorted(ObjectPath(self.bucket, key) for key in keys))

    def glob(self, pattern: str) -> "Iterator[ObjectPath]":
        """Entries of `iterdir` whose name fits a pattern without slashes."""
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def walk(self) -> "Iterator[tuple[ObjectPath, int]]":
        """Every object below it and its size, a thousand by each request."""
        with _told(self):
            for page in obstore_module().list(_store(self.bucket), self._prefix()):
                for entry in page:
                    yield ObjectPath(self.bucket, entry["path"]), entry["size"]

    def open(self) -> "RangeFile":
        """The object as a binary file that can seek; only what is read is fetched.

        Raises:
            FileNotFoundError: if there is no such object.
        """
        return RangeFile(self, self.state()["size"])

    def _prefix(self) -> str | None:
        return self.key or None


class _HasRanges(Protocol):
    """What gives the bytes from `start` up to but without `end`."""

    def read_range(self, start: int, end: int) -> bytes: ...


class RangeFile(io.RawIOBase):
    """Something remote as a file: a read is one request, for readers that ask for large parts."""

    def __init__(self, path: _HasRanges, size: int) -> None:
        super().__init__()
        self._path, self._size, self._at = path, size, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; as for every file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, but for the end of the object."""
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        view[: end - self._at] = self._path.read_range(self._at, end)
        num, self._at = end - self._at, end
        return num


def obstore_module() -> Any:
    """The library that speaks to object stores and web servers."""
    # Imported when a bucket is first used: local runs do without, and start sooner.
    import obstore

    return obstore


def retry_options() -> Any:
    """How requests are tried again: pauses grow from half a second, within a limit."""
    return {
        "max_retries": MAX_RETRIES,
        "retry_timeout": datetime.timedelta(seconds=RETRY_TIMEOUT_S),
        "backoff": {
            "base": 2,
            "init_backoff": datetime.timedelta(seconds=0.5),
            "max_backoff": datetime.timedelta(seconds=10),
        },
    }


def _store(bucket: str) -> Any:
    names = (name for name in os.environ if name.startswith(_SETTINGS))
    return _connect(bucket, tuple(sorted((name, os.environ[name]) for name in names)))


@functools.lru_cache(maxsize=64)
def _connect(bucket: str, settings: tuple[tuple[str, str], ...]) -> Any:
    """A client of a bucket; another one where the environment says something else."""
    from obstore.store import GCSStore, S3Store

    options: Any = {
        "timeout": f"{REQUEST_TIMEOUT_S}s",
        "connect_timeout": "10s",
        "allow_http": _endpoint().startswith("http://"),
    }
    # Both libraries call the same things by different names: one variable serves both.
    config: Any = {}
    if bucket.startswith("gs://"):
        options["allow_http"] = os.environ.get("GOOGLE_BASE_URL", "").startswith("http://")
        if _is_on("GS_NO_SIGN_REQUEST"):
            config["skip_signature"] = True
        return GCSStore(
            bucket.removeprefix("gs://"),
            client_options=options,
            retry_config=retry_options(),
            **config,
        )
    if _endpoint():
        config["endpoint"] = _endpoint()
    if _is_on("AWS_NO_SIGN_REQUEST"):
        config["skip_signature"] = True
    return S3Store(
        bucket.removeprefix("s3://"),
        client_options=options,
        retry_config=retry_options(),
        **config,
    )


def _is_on(name: str) -> bool:
    """Whether a switch of GDAL's is on in the environment."""
    return os.environ.get(name, "").upper() in ("YES", "TRUE", "ON", "1")


def _endpoint() -> str:
    """URL of an S3 service that is not Amazon's; empty if none is named in the environment."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    host = os.environ.get("AWS_S3_ENDPOINT", "").rstrip("/")
    if not host or "://" in host:
        return host
    is_plain = os.environ.get("AWS_HTTPS", "YES").upper() in ("NO", "FALSE", "OFF", "0")
    return f"{'http' if is_plain else 'https'}://{host}"


def gdal_s3_options() -> dict[str, str]:
    """What GDAL calls the settings in the environment that it does not know by their name."""
    endpoint = _endpoint()
    if not endpoint:
        return {}
    scheme, _, host = endpoint.partition("://")
    return {
        "AWS_S3_ENDPOINT": host,
        "AWS_HTTPS": "YES" if scheme == "https" else "NO",
        # Services of one's own seldom have a host name per bucket.
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }


@contextlib.contextmanager
def _told(path: ObjectPath) -> Iterator[None]:
    """What a store answers as errors that a person can act on."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error) or "bucket does not exist" in str(error):
            raise _no_bucket(path) from None
        raise FileNotFoundError(errno.ENOENT, "no such object", str(path)) from None
    except (BaseError, OSError) as error:
        raise _storage_error(path, error) from None


def _no_bucket(path: ObjectPath) -> StorageError:
    return StorageError(
        f"{path}: the bucket {path.bucket} does not exist; create it, or correct the name"
    )


def _storage_error(path: ObjectPath, error: BaseException) -> StorageError:
    # The library's text goes on with its own source code's view of the error.
    text = redact(str(error).split("\n\nDebug source")[0].strip())
    if "NoSuchBucket" in text or "bucket does not exist" in text:
        return _no_bucket(path)
    names = _CREDENTIALS[path.bucket[:5]]
    kind = type(error).__name__
    if any(sign in text for sign in _METADATA_SERVICE) or "credential" in text.lower():
        return StateError(
            f"{path}: no credentials for {path.bucket}; set {names} in the environment ({text})"
        )
    if "Received redirect" in text and path.bucket.startswith("s3://"):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        asked = f"not in {region}" if region else "in a region that is not named"
        return StateError(
            f"{path}: the bucket {path.bucket} lies {asked}; set AWS_REGION to the bucket's "
            f"region in the environment ({text})"
        )
    if "Permission" in kind or "Unauthenticated" in kind or "403 For" in text or "401 U" in text:
        return StateError(
            f"{path}: access to {path.bucket} is refused; check {names} and the bucket's policy "
            f"({text})"
        )
    return StorageError(f"{path}: the object store does not answer as it should ({text})")


def url_of_object(path: str) -> str | None:
    """The s3:// or gs:// URL of a path, GDAL's names included; None for anything else."""
    url = to_url(path)
    return url if url is not None and url.startswith(SCHEMES) else None
