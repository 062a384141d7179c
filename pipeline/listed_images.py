"""What a source says about its images before anything is opened, in one form for all sources."""

import dataclasses
import datetime
import os
from collections.abc import Iterator, Sequence
from typing import Any

from geo.gdal import is_remote
from pipeline.image_index import FailedImage, MaskSource
from pipeline.image_sources import CatalogueError, CloudMaskConfig, Dates


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """An image as its source names it.

    Attributes:
        path: anything GDAL opens.
        image_id: name in the output; None: the file's stem.
        date: day it was taken; None: from its tags.
        outline: shapely polygons in degrees as the catalogue states them; None: nothing states it,
            the image has to be opened when the run is planned.
        num_px: pixels at full resolution; 0 where the catalogue does not say.
        cloud_mask: where its cloud mask lies.
    """

    path: str
    image_id: str | None = None
    date: datetime.date | None = None
    outline: Any = None
    num_px: int = 0
    cloud_mask: MaskSource | None = None


@dataclasses.dataclass(slots=True, kw_only=True)
class Listing:
    """Images of one source, in its order, and entries that cannot be used."""

    images: list[ListedImage] = dataclasses.field(default_factory=list)
    failed: list[FailedImage] = dataclasses.field(default_factory=list)


def mask_of(
    config: CloudMaskConfig | None, image_path: str, mask_path: str | None = None
) -> MaskSource | None:
    """The cloud mask of an image: another file's band, or one of its own.

    Args:
        config: what the source says of masks.
        image_path: the image.
        mask_path: the mask that belongs to it; None: what the config says.
    """
    if config is None:
        return None
    path = mask_path or config.path or image_path
    return MaskSource(path=path, band=config.band or 1, values=config.values)


def needs_own_band(config: CloudMaskConfig | None, source: str) -> None:
    """Refuse a cloud mask in one file or asset for images of a list.

    Raises:
        CatalogueError: if so.
    """
    if config is not None and (config.path is not None or config.asset is not None):
        raise CatalogueError(
            f"{source}: cloud_mask names {'a path' if config.path else 'an asset'}; for these "
            "images it can be a band of their own (cloud_mask: {band: 5, values: [1]})"
        )


def within_dates(date: datetime.date | None, dates: Dates) -> bool:
    """Whether a day lies within limits, both included; an unknown day does."""
    first, last = dates
    if date is None:
        return True
    return (first is None or date >= first) and (last is None or date <= last)


def resolve_path(href: str, base: str) -> str:
    """A path or URL from a catalogue, relative ones taken from the catalogue's own place.

    Args:
        href: what the catalogue says.
        base: path or URL of the catalogue's file.

    Raises:
        CatalogueError: if a catalogue read over the network names a local file.
    """
    if href.startswith("file://"):
        resolved = href.removeprefix("file://")
    elif "://" in href or href.startswith(("/vsi", "/")):
        resolved = href
    elif "://" in base:
        # Queries, of signed URLs for instance, may hold slashes of their own.
        root, _, folder = base.partition("?")[0].partition("://")
        host, _, path = folder.partition("/")
        name, sign, query = href.partition("?")
        joined = os.path.normpath(os.path.join("/", os.path.dirname(path), name))
        resolved = f"{root}://{host}{joined}{sign}{query}"
    else:
        resolved = os.path.normpath(os.path.join(os.path.dirname(base), href))
    if is_remote(base) and href.startswith("/") and not href.startswith("/vsi"):
        root, _, folder = base.partition("://")
        resolved = f"{root}://{folder.partition('/')[0]}{href}"
    if is_remote(base) and not is_remote(resolved):
        raise CatalogueError(
            f"{base} names {href!r}, a file of this machine; a catalogue from the network may only "
            "name images on the network. Save it as a file here if that is meant"
        )
    return resolved


def batches(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Parts of at most `size` rows, in order."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
