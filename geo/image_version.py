"""The version of an image's content: what a stored tile depends on."""

import hashlib
import os

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window

from geo.errors import RasterError
from geo.gdal import is_local_file
from geo.image_names import shown_path
from geo.remote_names import is_remote, redact
from geo.remote_state import GONE, UNKNOWN, remote_states

_END_BYTES = 1 << 16
_SAMPLE_PX = 512
MAX_WATCHED = 256
"""Remote files of one image (sidecars, sources of a VRT). All are asked for once a tile, since
nothing tells cheaply which of them a tile is made of: more would cost more than reading it."""

RemoteFiles = tuple[tuple[str, str], ...]
"""(path, state as `remote_state` tells it) of the files of an image that lie on servers."""


def remote_files(path: str, state: str, dataset: rasterio.DatasetReader) -> RemoteFiles:
    """The files of an image that are read over the network, as they are now.

    Args:
        path: what the dataset was opened from.
        state: its state before it was opened.
        dataset: the open image; its sidecars, and the sources of a VRT, are looked at.

    Raises:
        RasterError: if there are more than `MAX_WATCHED`, or one is not there.
        StorageError: if a server does not answer.
    """
    others = [name for name in dataset.files[1:] if is_remote(name)]
    if len(others) > MAX_WATCHED:
        raise RasterError(
            f"image {shown_path(path)} is made of {len(others)} files on servers, more than the "
            f"{MAX_WATCHED} that can be watched for changes; name them in a list or an index of "
            "images (`images: - list:` or `- index:`) instead of a VRT"
        )
    found = list(zip(others, remote_states(others), strict=True))
    gone = [name for name, mark in found if mark == GONE]
    if gone:
        raise RasterError(
            f"image {shown_path(path)}: {redact(gone[0])}, a part of it, does not exist; check "
            "its URL"
        )
    return tuple((name, mark) for name, mark in [(path, state), *found] if mark != UNKNOWN)


def content_version(path: str, dataset: rasterio.DatasetReader, remote: RemoteFiles = ()) -> str:
    """A hash that changes when the image does, without reading all of it.

    Local files, sidecars and the sources of a VRT included, enter with their size, modification
    time and first and last 64 KiB; files on servers with their ETag (else their time) and size;
    anything else (archives, servers that tell neither) with its tags and the pixels of a coarse
    view. The path itself does not enter.

    Args:
        path: what the dataset was opened from.
        dataset: the open image.
        remote: its files on servers.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    facts = (dataset.driver, dataset.width, dataset.height, dataset.count, dataset.dtypes)
    digest.update(repr((facts, tuple(dataset.transform), dataset.nodatavals)).encode())
    files = [path] if is_local_file(path) else []
    files = list({os.path.realpath(f) for f in [*files, *dataset.files] if os.path.isfile(f)})
    for file in sorted(files, key=os.path.basename):
        _hash_file(digest, file)
    for _, state in remote:
        digest.update(state.encode())
    if not files and not remote:
        digest.update(repr(sorted(dataset.tags().items())).encode())
        digest.update(_sample(dataset).tobytes())
    return digest.hexdigest()[:32]


def _sample(dataset: rasterio.DatasetReader) -> npt.NDArray[np.generic]:
    """A coarse view of band 1 where overviews make that cheap, else its middle."""
    height, width = min(dataset.height, _SAMPLE_PX), min(dataset.width, _SAMPLE_PX)
    if dataset.overviews(1):
        sample = dataset.read(1, out_shape=(height, width))
    else:
        left, top = (dataset.width - width) // 2, (dataset.height - height) // 2
        sample = dataset.read(1, window=Window(left, top, width, height))
    return np.asarray(sample)


def _hash_file(digest: "hashlib._Hash", path: str) -> None:
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        digest.update(repr((stat.st_size, stat.st_mtime_ns)).encode())
        digest.update(file.read(_END_BYTES))
        if stat.st_size > _END_BYTES:
            file.seek(max(_END_BYTES, stat.st_size - _END_BYTES))
            digest.update(file.read(_END_BYTES))
