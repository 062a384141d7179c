"""From the config's `images` to one index: every source read, checked and named apart.

Images of lists and patterns are opened here, several at a time, since nothing else says where they
lie. Those of a catalogue are taken at its word and opened by the workers.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import shapely

from geo.errors import EveryroofError
from geo.images import open_image
from geo.stated_outlines import check_outlines, continuous_outlines, meets_area
from pipeline.config import ConfigError, RunConfig
from pipeline.image_files import list_glob, list_index, list_paths
from pipeline.image_index import FailedImage, ImageIndex, IndexedImage
from pipeline.image_sources import (
    CatalogueError,
    GlobConfig,
    ImageConfig,
    ListConfig,
    ResolvedSource,
    StacConfig,
    TilesConfig,
    VectorIndexConfig,
)
from pipeline.listed_images import ListedImage, Listing, mask_of
from pipeline.stac_images import list_stac
from pipeline.tile_service import degrees_around, open_tiles

logger = logging.getLogger(__name__)

NUM_THREADS = 8
"""Images that are opened at the same time: it is waiting for disks and servers."""
Found = tuple[list[IndexedImage], list[FailedImage]]


def collect_images(config: RunConfig, *, num_bands: int, aoi_wkb: bytes | None) -> ImageIndex:
    """The images of a run, in the order of the config and of each source.

    Args:
        config: the run's config.
        num_bands: bands that the model wants.
        aoi_wkb: area of interest in degrees, or None.

    Raises:
        EveryroofError: if a source cannot be used, or two images have one name.
    """
    area = shapely.from_wkb(aoi_wkb) if aoi_wkb is not None else None
    images: list[IndexedImage] = []
    failed: list[FailedImage] = []
    for source in config.image_sources():
        found, bad = _collect(source, config, num_bands, area)
        images += found
        failed += bad
    _check_unique_ids(images)
    return ImageIndex.of(images, failed)


def _collect(source: ResolvedSource, config: RunConfig, num_bands: int, area: Any) -> Found:
    around = _widened(area, config.grid.aoi_margin_m)
    match source:
        case ImageConfig():
            return _opened([_of_image(source)], config, num_bands)
        case GlobConfig():
            return _opened(list_glob(source).images, config, num_bands)
        case ListConfig():
            return _opened(list_paths(source).images, config, num_bands)
        case StacConfig():
            listing = list_stac(source, around.bounds if around is not None else None)
            return _stated(listing, around, source.stac)
        case VectorIndexConfig():
            return _stated(list_index(source), around, source.index)
        case TilesConfig():
            return [IndexedImage.of_opened(open_tiles(source, around, num_bands))], []


def _of_image(source: ImageConfig) -> ListedImage:
    if source.cloud_mask is not None and source.cloud_mask.asset is not None:
        raise ConfigError(
            f"image {source.path}: cloud_mask names an asset, which only STAC items have; give a "
            "path or a band"
        )
    return ListedImage(
        path=source.path,
        image_id=source.id,
        date=source.date,
        cloud_mask=mask_of(source.cloud_mask, source.path),
    )


def _widened(area: Any, margin_m: float) -> Any:
    if area is None:
        return None
    return area.buffer(degrees_around(margin_m, area.bounds), quad_segs=2)


def _opened(listed: Sequence[ListedImage], config: RunConfig, num_bands: int) -> Found:
    """Images opened now; those that cannot be are told, not fatal."""

    def look(image: ListedImage) -> IndexedImage | FailedImage:
        try:
            info = open_image(
                image.path,
                image_id=image.image_id,
                date=image.date,
                bands=config.raster.bands,
                num_bands=num_bands,
            )
        except EveryroofError as error:
            return FailedImage(path=image.path, reason=str(error))
        return IndexedImage.of_opened(info, image.cloud_mask)

    results = _in_threads(look, listed)
    return (
        [result for result in results if isinstance(result, IndexedImage)],
        [result for result in results if isinstance(result, FailedImage)],
    )


def _in_threads(look: Callable[[Any], Any], listed: Sequence[Any]) -> list[Any]:
    if len(listed) < NUM_THREADS:
        return [look(image) for image in listed]
    with ThreadPoolExecutor(NUM_THREADS, "open") as pool:
        return list(pool.map(look, listed))


def _stated(listing: Listing, area: Any, source: str) -> Found:
    """Images of a catalogue that lie near the area of interest, at its word."""
    stated = np.array([image.outline for image in listing.images], dtype=object)
    reasons = check_outlines(stated)
    failed = listing.failed + [
        FailedImage(path=image.path, reason=f"{source}: {_name(image)}: {reason}")
        for image, reason in zip(listing.images, reasons, strict=True)
        if reason
    ]
    sound = [image for image, reason in zip(listing.images, reasons, strict=True) if not reason]
    outlines = continuous_outlines(stated[[not reason for reason in reasons]])
    inside = np.ones(len(sound), bool) if area is None else meets_area(outlines, area)
    if sound and not inside.any() and not failed:
        bounds = ", ".join(f"{value:.4f}" for value in area.bounds)
        raise CatalogueError(
            f"{source}: none of its {len(sound)} images lies in the area of interest (longitude "
            f"and latitude {bounds})"
        )
    if not inside.all():
        logger.info("%s: %d of %d images near the area", source, inside.sum(), len(sound))
    images = [
        IndexedImage(
            image_id=_name(sound[i]),
            path=sound[i].path,
            date=sound[i].date,
            outline=outlines[i],
            num_px=sound[i].num_px,
            cloud_mask=sound[i].cloud_mask,
        )
        for i in np.flatnonzero(inside).tolist()
    ]
    return images, failed


def _name(image: ListedImage) -> str:
    if image.image_id is not None:
        return image.image_id
    name = os.path.basename(image.path.split("?")[0].rstrip("/"))
    return os.path.splitext(name)[0] or image.path


def _check_unique_ids(images: Iterable[IndexedImage]) -> None:
    seen: dict[str, str] = {}
    for image in images:
        other = seen.setdefault(image.image_id, image.path)
        if other != image.path:
            raise ConfigError(
                f"two images are called {image.image_id!r}: {other} and {image.path}; "
                "give them different ids in the config"
            )
