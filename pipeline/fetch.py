"""Files that a job needs as local ones: a remote bundle or area of interest, fetched once."""

import hashlib
import os
import tempfile
from pathlib import Path

from geo.atomic_files import atomic_path
from geo.errors import StorageError
from geo.object_path import ObjectPath, url_of_object
from geo.places import as_place
from geo.remote_names import redact, to_url
from geo.remote_state import remote_state

CACHE_ENVIRONMENT_NAME = "EVERYROOF_CACHE"


def cache_folder() -> Path:
    """Folder of fetched files on this machine: of this user only, made when needed."""
    name = os.environ.get(CACHE_ENVIRONMENT_NAME)
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(name) if name else Path(tempfile.gettempdir()) / f"everyroof-cache-{user}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise StorageError(
            f"{folder} belongs to another user; set {CACHE_ENVIRONMENT_NAME} to a folder of yours"
        )
    return folder


def local_copy(name: str) -> str:
    """A path on this machine of a file: itself, or a copy fetched once for each version.

    Args:
        name: a path, file://PATH, or an http(s), s3 or gs URL.

    Raises:
        StorageError: if it cannot be fetched.
    """
    url = to_url(name)
    if url is None:
        return str(as_place(name))
    try:
        state = remote_state(url)
        stem = hashlib.sha256(f"{url} {state}".encode()).hexdigest()[:32]
        path = cache_folder() / f"{stem}{Path(url.partition('?')[0]).suffix}"
        if not path.exists():
            with atomic_path(path) as temporary:
                _download(url, temporary)
    except FileNotFoundError:
        raise StorageError(f"{redact(name)} does not exist; check the name") from None
    return str(path)


def _download(url: str, path: Path) -> None:
    if url_of_object(url) is not None:
        ObjectPath.parse(url).download(path)
        return
    import obstore
    from obstore.exceptions import BaseError

    from geo.remote_state import http_store

    try:
        with path.open("wb") as file:
            for chunk in obstore.get(http_store(url), ""):
                file.write(chunk)
    except BaseError as error:
        text = redact(str(error).split("\n\nDebug source")[0])
        raise StorageError(f"{redact(url)} cannot be fetched: {text}") from None


def local_bundle(name: str, sha256: str, shared: ObjectPath | None) -> str:
    """The bundle of a job on this machine, whichever machine that is.

    Args:
        name: as the config has it; a path is one of the machine that started the job.
        sha256: hash of the bundle that the job was started with.
        shared: object with a copy that the starter left for other machines, if it did.

    Raises:
        StorageError: if no file with that hash can be had.
    """
    path = Path(local_copy(name))
    if path.exists() and file_sha256(path) == sha256:
        return str(path)
    if shared is not None:
        copy = Path(local_copy(str(shared)))
        if file_sha256(copy) == sha256:
            return str(copy)
    raise StorageError(
        f"{redact(name)} is not here, or not the bundle that the job was started with; give all "
        "machines the same file, or name it by a URL"
    )


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
