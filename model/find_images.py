"""Files of a source, from names and patterns; reading of plain image files."""

import glob
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from model.errors import SourceError

T = TypeVar("T")

_WILDCARDS = frozenset("*?[")
# Decoders give what they have of a file that ends early, the rest grey: its last bytes tell.
_ENDINGS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND"}
_TAIL_BYTES = 4096


def find_images(source: str, patterns: Sequence[str], max_images: int | None) -> list[Path]:
    """The image files of a source, sorted by name.

    Args:
        source: name of the source, for messages.
        patterns: file names, or patterns with `*`, `?`, `[...]` and `**`.
        max_images: keep so many, spread evenly; None keeps all.

    Raises:
        SourceError: if a name or pattern finds nothing, or two files have the same stem.
    """
    paths: set[Path] = set()
    for pattern in patterns:
        has_wildcard = bool(_WILDCARDS & set(pattern))
        found = glob.glob(pattern, recursive=True) if has_wildcard else [pattern]
        files = [Path(name) for name in found if Path(name).is_file()]
        if not files:
            raise SourceError(f"source {source}: there is no image {pattern}")
        paths.update(files)
    ordered = sorted(paths, key=lambda path: (path.stem, str(path)))
    for first, second in itertools.pairwise(ordered):
        if first.stem == second.stem:
            raise SourceError(
                f"source {source}: {first} and {second} have the same name; places are called "
                "after them. Make them two sources"
            )
    return ordered if max_images is None else spread_evenly(ordered, max_images)


def spread_evenly(items: Sequence[T], max_items: int) -> list[T]:
    """At most so many items, evenly over their order.

    Args:
        items: any.
        max_items: 0 or more.
    """
    if len(items) <= max_items:
        return list(items)
    return [items[int((k + 0.5) * len(items) / max_items)] for k in range(max_items)]


def beside(image: Path, template: str) -> Path:
    """The file that belongs to an image.

    Args:
        image: the image.
        template: path relative to the image's folder, with {stem} for the image's stem.
    """
    return image.parent / template.replace("{stem}", image.stem)


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image of any format that OpenCV knows as 8 bit RGB, as stored (not turned by EXIF).

    Returns:
        uint8, shape (height, width, 3).

    Raises:
        SourceError: if it is missing, no image, or ends early.
    """
    bgr = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def read_mask(path: Path) -> npt.NDArray[Any]:
    """Read a mask of one band.

    Returns:
        Integers, shape (height, width).

    Raises:
        SourceError: if it is missing, no image, ends early, or has several bands that differ.
    """
    mask = _decode(path, cv2.IMREAD_UNCHANGED)
    if mask.ndim == 3:
        bands = mask[:, :, :3]
        if (bands != bands[:, :, :1]).any():
            raise SourceError(
                f"mask {path} has {mask.shape[2]} bands that differ; expected one band of values"
            )
        mask = bands[:, :, 0]
    if mask.dtype.kind not in "iu":
        raise SourceError(f"mask {path} holds {mask.dtype}; expected integers")
    return np.asarray(mask)


def _decode(path: Path, flags: int) -> npt.NDArray[Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    for start, end in _ENDINGS.items():
        if data.startswith(start) and end not in data[-_TAIL_BYTES:]:
            raise SourceError(f"{path} ends early ({len(data)} bytes); copy it again")
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise SourceError(f"{path} cannot be read as an image: {error}") from error
    if array is None:
        raise SourceError(f"{path} is no image that OpenCV can read ({len(data)} bytes)")
    return np.asarray(array)
