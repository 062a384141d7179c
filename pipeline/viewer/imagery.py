"""Tiles of the images under the footprints, made by rio-tiler when they are asked for."""

import functools
import math
import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.errors import RasterioError

from geo.dataset import Dataset
from geo.errors import DatasetError, RasterError
from geo.gdal import gdal_env, gdal_reason
from geo.geoparquet import Bounds
from geo.geoparquet_reader import read_shards
from geo.image_profile import profile_image
from geo.images import ImageInfo, open_image
from geo.raster_config import RasterConfig
from geo.remote_names import is_remote, redact, to_gdal
from geo.value_scaling import ValueScaling
from geo.web_mercator import CIRCUMFERENCE_M, tile_bounds

TILE_PX = 512
MAX_ZOOM = 22
_MAX_PIXELS = 48_000_000
"""Pixels of an image, at its coarsest useful overview, that one tile may read."""
_MAX_IMAGES_PER_TILE = 16
_JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An encoded tile.

    Attributes:
        content: the bytes.
        media_type: image/jpeg where it is opaque, else image/png.
    """

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImages:
    """The images to show.

    Attributes:
        images: those that can be read, the first on top.
        problems: sentences on those that cannot, or that lie elsewhere.
    """

    images: tuple[ImageInfo, ...]
    problems: tuple[str, ...]


def open_images(paths: Sequence[str], dataset: Dataset) -> FoundImages:
    """The images that a person named.

    Raises:
        RasterError: if one cannot be used: missing, no raster, without georeference.
    """
    images = tuple(_open(path, dataset) for path in paths)
    problems = [
        f"{redact(image.path)} does not overlap the footprints: it lies at {_place_words(image)}"
        for image in images
        if not _overlaps(image, dataset)
    ]
    return FoundImages(images=images, problems=tuple(problems))


def find_images(dataset: Dataset) -> FoundImages:
    """The images of the run that are still where they were; no server is asked."""
    images, missing, remote = [], [], []
    for path in _listed_paths(dataset):
        if is_remote(path):
            remote.append(path)
        elif not Path(path).exists():
            missing.append(path)
        else:
            try:
                images.append(_open(path, dataset))
            except RasterError:
                missing.append(path)
    problems = [
        _left_out(paths, why)
        for paths, why in ((missing, "no longer there or changed"), (remote, "on a server"))
        if paths
    ]
    return FoundImages(images=tuple(images), problems=tuple(problems))


class Imagery:
    """Tiles of some images; safe from several threads."""

    def __init__(self, images: Sequence[ImageInfo], dataset: Dataset) -> None:
        # rio-tiler's advice to make overviews, once a tile; `min_zoom` sees to what matters.
        warnings.filterwarnings("ignore", message="The dataset has no Overviews")
        self.images = tuple(images)
        self._outlines = shapely.STRtree([_outline(image) for image in images])
        self._config = _raster_config(dataset)
        self._locks = [threading.Lock() for _ in images]
        self._scaling = functools.cache(self._find_scaling)

    @property
    def bounds(self) -> Bounds | None:
        """West, south, east and north of all images in degrees; None without any."""
        if not self.images:
            return None
        west, south, east, north = shapely.total_bounds(list(map(_outline, self.images))).tolist()
        return west, south, east, north

    @property
    def min_zoom(self) -> int:
        """The least zoom at which every image can be read in bounded memory and time."""
        return max((_min_zoom(image) for image in self.images), default=0)

    def tile(self, z: int, x: int, y: int) -> Picture | None:
        """A tile of 512 pixels; None where no image has a pixel.

        Raises:
            RasterError: if an image cannot be read.
        """
        met = self._meeting(z, x, y)
        if not met:
            return None
        from rio_tiler.errors import EmptyMosaicError, RioTilerError
        from rio_tiler.mosaic import mosaic_reader

        try:
            found, _ = mosaic_reader(met, self._read, x, y, z, threads=0)
        except EmptyMosaicError:
            return None
        except (RioTilerError, RasterioError, OSError) as error:
            names = ", ".join(redact(self.images[k].path) for k in met)
            raise RasterError(f"cannot read {names}: {redact(gdal_reason(error))}") from error
        return encode(found)

    def _meeting(self, z: int, x: int, y: int) -> list[int]:
        """Images that meet a tile, the first on top."""
        west, south, east, north = tile_bounds(z, x, y)
        boxes = [shapely.box(west + t, south, east + t, north) for t in (-360, 0, 360)]
        found = {int(k) for box in boxes for k in self._outlines.query(box, "intersects")}
        kept = [k for k in sorted(found) if z >= _min_zoom(self.images[k])]
        return kept[:_MAX_IMAGES_PER_TILE]

    def _read(self, number: int, x: int, y: int, z: int) -> Any:
        """One image's pixels of a tile, stretched to 8 bit."""
        from rio_tiler.io import Reader

        image = self.images[number]
        with gdal_env(image.path), Reader(to_gdal(image.path)) as reader:
            found = reader.tile(
                x, y, z, tilesize=TILE_PX, indexes=image.bands, resampling_method="bilinear"
            )
        return self.stretched(found, number)

    def part(self, number: int, bounds: Bounds, crs: Any, shape: tuple[int, int]) -> Any:
        """An image's pixels (`rio_tiler.models.ImageData`) of a box.

        Args:
            number: of the image.
            bounds: of the box, in the CRS.
            crs: of the box and of the pixels.
            shape: height and width in pixels.
        """
        from rio_tiler.io import Reader

        image = self.images[number]
        with gdal_env(image.path), Reader(to_gdal(image.path)) as reader:
            found = reader.part(
                bounds,
                dst_crs=crs,
                bounds_crs=crs,
                height=shape[0],
                width=shape[1],
                indexes=image.bands,
                resampling_method="bilinear",
            )
        return self.stretched(found, number)

    def stretched(self, found: Any, number: int) -> Any:
        """An image's pixels (`rio_tiler.models.ImageData`) as 8 bit, as the network saw them."""
        from rio_tiler.models import ImageData

        with self._locks[number]:
            scaling = self._scaling(number)
        if scaling is None:
            return found
        values = np.moveaxis(np.asarray(found.array.data), 0, -1)
        stretched = np.moveaxis(scaling.apply(np.ascontiguousarray(values)), -1, 0)
        return ImageData(
            np.ma.MaskedArray(stretched, mask=np.ma.getmaskarray(found.array)),
            bounds=found.bounds,
            crs=found.crs,
        )

    def _find_scaling(self, number: int) -> ValueScaling | None:
        return profile_image(self.images[number], self._config).scaling


def encode(found: Any) -> Picture | None:
    """Pixels (`rio_tiler.models.ImageData`, 8 bit) as a picture; None if there is none."""
    mask: npt.NDArray[np.uint8] = found.mask
    if not mask.any():
        return None
    if mask.all():
        content = found.render(add_mask=False, img_format="JPEG", QUALITY=_JPEG_QUALITY)
        return Picture(content=content, media_type="image/jpeg")
    return Picture(content=found.render(img_format="PNG", ZLEVEL=1), media_type="image/png")


def _open(path: str, dataset: Dataset) -> ImageInfo:
    """An image with the run's bands, where it has them; one band is shown as grey."""
    bands = _raster_config(dataset).bands
    try:
        with gdal_env(path), rasterio.open(to_gdal(path)) as opened:
            num_bands = opened.count
    except (RasterioError, OSError):
        return open_image(path)  # says what is wrong
    if bands is not None and max(bands) > num_bands:
        bands = None
    if bands is None and num_bands < 3:
        bands = (1, 1, 1)
    return open_image(path, bands=bands, version="seen")


def _raster_config(dataset: Dataset) -> RasterConfig:
    """How the run read its images; fill by colour is left as it is."""
    said = (dataset.manifest.get("config") or {}).get("raster") or {}
    chosen: dict[str, Any] = {
        name: tuple(said[name])
        for name in ("bands", "value_range", "value_percentiles")
        if said.get(name) is not None
    }
    return RasterConfig(nodata_colours=(), **chosen)


def _listed_paths(dataset: Dataset) -> Iterable[str]:
    place = dataset.place_in("images.parquet")
    if "images_file" not in dataset.manifest:
        return [image["path"] for image in dataset.manifest.get("images", [])]
    try:
        table = read_shards(place, columns=["path", "status"])
    except DatasetError:
        return []
    is_opened = np.asarray(table["status"].to_numpy() == "opened", bool)
    return [str(path) for path in table["path"].to_numpy()[is_opened]]


def _outline(image: ImageInfo) -> shapely.Polygon:
    return shapely.Polygon(image.footprint)


def _overlaps(image: ImageInfo, dataset: Dataset) -> bool:
    outline = _outline(image)
    return any(
        outline.intersects(shapely.box(west + turn, south, east + turn, north))
        for shard in dataset.shards
        for west, south, east, north in [shard.bounds]
        for turn in (-360, 0, 360)
    )


def _place_words(image: ImageInfo) -> str:
    centre = _outline(image).centroid
    return f"latitude {centre.y:.4f}, longitude {centre.x:.4f}"


def _min_zoom(image: ImageInfo) -> int:
    """The zoom from which a tile reads no more than `_MAX_PIXELS` of the coarsest overview."""
    sizes = [(image.width, image.height), *image.overview_sizes]
    width, height = min(sizes, key=lambda size: size[0])
    if width * height <= _MAX_PIXELS:
        return 0
    coarse_gsd_m = image.gsd_m * image.width / width
    tile_m = math.sqrt(_MAX_PIXELS) * coarse_gsd_m
    return max(0, math.ceil(math.log2(CIRCUMFERENCE_M / tile_m)))


def _left_out(paths: Sequence[str], why: str) -> str:
    first = redact(paths[0])
    if len(paths) == 1:
        return f"The run's image {first} is {why}; show it with --image"
    return f"{len(paths)} images of the run are {why}, such as {first}; show some with --image"
