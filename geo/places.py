"""A place for files: a folder or file on a disk, or a prefix or object of a bucket."""

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from geo.errors import StorageError
from geo.object_path import ObjectPath, url_of_object
from geo.remote_names import redact, to_url
from geo.web_path import SCHEMES, WebPath

Place = Path | ObjectPath
"""Both have the same methods for what we do; a `Path` stays what it was."""

ReadPlace = Place | WebPath
"""Where a finished dataset may be read from: a web server, too."""

_REMOVE_AT_ONCE = 1000


def as_place(name: str | os.PathLike[str] | ObjectPath) -> Place:
    """The place that a text names: a path, file://PATH, s3://BUCKET/KEY or gs://BUCKET/KEY.

    Raises:
        StorageError: for a URL that files cannot be written to.
    """
    if isinstance(name, ObjectPath):
        return name
    text = os.fspath(name)
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    url = url_of_object(text)
    if url is not None:
        return ObjectPath.parse(url)
    if "://" in text or text.startswith("/vsi"):
        raise StorageError(
            f"{redact(text)}: nothing can be written there; name a folder, s3://BUCKET/KEY or "
            "gs://BUCKET/KEY"
        )
    return Path(text)


def as_read_place(name: str | os.PathLike[str] | ObjectPath | WebPath) -> ReadPlace:
    """The place that a text names, to be read: what `as_place` takes, and http(s) URLs.

    Raises:
        StorageError: for a URL that nothing can be read from.
    """
    if isinstance(name, WebPath):
        return name
    url = None if isinstance(name, ObjectPath) else to_url(os.fspath(name))
    if url is not None and url.startswith(SCHEMES):
        return WebPath.parse(url)
    return as_place(name)


def remove_tree(place: Place) -> None:
    """Remove a folder, or every object below a prefix; none is fine."""
    if isinstance(place, Path):
        shutil.rmtree(place, ignore_errors=True)
        return
    batch: list[ObjectPath] = []
    for path, _ in place.walk():
        batch.append(path)
        if len(batch) == _REMOVE_AT_ONCE:
            ObjectPath.remove(batch)
            batch = []
    ObjectPath.remove(batch)


def arrow_source(place: ReadPlace) -> Any:
    """What pyarrow opens for reading: the path, or a file that fetches only what is read."""
    return place if isinstance(place, Path) else place.open()
