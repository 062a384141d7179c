"""Sources of georeferenced images with polygons."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import shapely
from affine import Affine

from geo.errors import DatasetError, GeoError
from geo.image_levels import Level, choose_level
from geo.image_profile import profile_image
from geo.image_reader import ImageReader
from geo.images import ImageInfo, open_image
from geo.matching import Int64Array, PolygonObjects
from geo.pixel_window import PixelWindow
from geo.raster_config import RasterConfig
from geo.references import PolygonLayer, read_polygons
from geo.source_pixels import read_level
from model.burn_polygons import burn_area, burn_polygons
from model.errors import SourceError
from model.find_images import beside, find_images
from model.labelled_image import (
    LabelCounts,
    LabelledImage,
    SkippedImage,
    needs_shrinking,
    shrink_pixels,
)
from model.places import BoolArray, UInt8Array
from model.source_config import DatasetConfig, PolygonSource

# Beyond this ratio pixels count as oblong and are made square.
_MAX_OBLONG = 1.02
# Labels clipped to the labelled area end at its edge, give or take the rounding of a file.
_EDGE_PX = 0.5


def read_polygon_source(
    source: PolygonSource, dataset: DatasetConfig
) -> Iterator[LabelledImage | SkippedImage]:
    """Every image of a source with its labels, in the order of names.

    Args:
        source: the source.
        dataset: pixel size for storing, fill colours.

    Raises:
        SourceError: if a name or pattern finds no image.
    """
    for path in find_images(source.name, source.images, source.max_images):
        try:
            yield _read_image(path, source, dataset)
        except (GeoError, SourceError) as error:
            yield SkippedImage(stem=path.stem, reason=str(error))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ground:
    """Pixels of an image, square, and how to get there from its CRS.

    Attributes:
        image: RGB, uint8, shape (height, width, 3).
        valid: has image data, bool.
        gsd_m: pixel size in metres.
        to_pixels: affine from (x, y) in the image's CRS to continuous pixels.
    """

    image: UInt8Array
    valid: BoolArray
    gsd_m: float
    to_pixels: Affine

    def place(self, geometry: "shapely.Geometry | PolygonObjects") -> Any:
        """Geometries of the image's CRS in pixels."""
        return shapely.transform(
            geometry, lambda xy: np.stack(self.to_pixels @ (xy[:, 0], xy[:, 1]), axis=1)
        )


def _read_image(path: Path, source: PolygonSource, dataset: DatasetConfig) -> LabelledImage:
    info = open_image(str(path))
    crs = pyproj.CRS.from_wkt(info.crs)
    layer = _read_labels(beside(path, source.labels), crs, source.allow_empty)
    area = None
    if source.area is not None:
        area = read_polygons(beside(path, source.area), crs=crs).union()
    ground = _read_ground(info, area, source, dataset)
    polygons = ground.place(layer.polygons)
    meets = _meets(polygons, ground)
    is_meant = source.allow_empty and (len(layer) == 0 or _surround(polygons, ground))
    if not meets.any() and not is_meant:
        raise SourceError(
            f"none of the {len(layer)} polygons of {layer.name} lies on {info.path}: the labels "
            f"cover {_extent(layer.polygons, crs)}, the image {_extent(_outline(info), crs)}; is "
            "the CRS of both right?"
        )
    return _label(path.stem, ground, polygons[meets], layer.source_row[meets], layer, area, source)


def _read_labels(path: Path, crs: pyproj.CRS, allow_empty: bool) -> PolygonLayer:
    try:
        return read_polygons(path, crs=crs)
    except DatasetError:
        if not (allow_empty and path.exists() and len(geopandas.read_file(path)) == 0):
            raise
        return PolygonLayer(
            name=str(path),
            crs=crs,
            polygons=np.zeros(0, object),
            source_row=np.zeros(0, np.int64),
            columns={},
            num_features=0,
            num_repaired=0,
            num_extra_parts=0,
            num_dropped=0,
        )


def _read_ground(
    info: ImageInfo, area: Any, source: PolygonSource, dataset: DatasetConfig
) -> _Ground:
    """The pixels of an image, or of its labelled area and what surrounds it."""
    level = choose_level(info, dataset.store_gsd_m)
    to_level = Affine.scale(1 / level.scale_col, 1 / level.scale_row) @ ~info.affine
    gsd_m = math.sqrt(info.gsd_m**2 * level.scale_col * level.scale_row)
    window = PixelWindow(0, 0, level.width, level.height)
    if area is not None:
        window = _window_of(area, to_level, source.context_m / gsd_m, window, info.path)
    colours = dataset.fill_colours if source.fill_colours is None else source.fill_colours
    image, valid = _read_pixels(info, level, window, RasterConfig(nodata_colours=colours))
    shape, gsd_m = _square_shape(info, level, window, dataset.store_gsd_m)
    if shape != valid.shape:
        image, valid = shrink_pixels(image, valid, shape)
    zoom = Affine.scale(shape[1] / window.width, shape[0] / window.height)
    to_pixels = zoom @ Affine.translation(-window.col_off, -window.row_off) @ to_level
    return _Ground(image=image, valid=valid, gsd_m=gsd_m, to_pixels=to_pixels)


def _window_of(
    area: Any, to_level: Affine, context_px: float, whole: PixelWindow, path: str
) -> PixelWindow:
    """Pixels of a level that hold an area and its surroundings."""
    xy = shapely.get_coordinates(area)
    cols, rows = to_level @ (xy[:, 0], xy[:, 1])
    col, col_end = math.floor(cols.min() - context_px), math.ceil(cols.max() + context_px)
    row, row_end = math.floor(rows.min() - context_px), math.ceil(rows.max() + context_px)
    col, row = max(col, 0), max(row, 0)
    width, height = min(col_end, whole.width) - col, min(row_end, whole.height) - row
    if width < 1 or height < 1:
        raise SourceError(f"the labelled area does not lie on {path}; is its CRS right?")
    return PixelWindow(col, row, width, height)


def _read_pixels(
    info: ImageInfo, level: Level, window: PixelWindow, config: RasterConfig
) -> tuple[UInt8Array, BoolArray]:
    with ImageReader() as reader:
        profile = profile_image(info, config, reader)
        image, valid = read_level(
            reader, info, level, window, fill=profile.fill, scaling=profile.scaling
        )
    if valid is None:
        return image, np.ones(image.shape[:2], np.bool_)
    return image, valid.astype(np.bool_)


def _square_shape(
    info: ImageInfo, level: Level, window: PixelWindow, store_gsd_m: float
) -> tuple[tuple[int, int], float]:
    """Shape with square pixels, not finer than what is stored, and their size in metres."""
    col_m, row_m = info.gsd_col_m * level.scale_col, info.gsd_row_m * level.scale_row
    gsd_m = math.sqrt(col_m * row_m)
    is_oblong = max(col_m, row_m) > _MAX_OBLONG * min(col_m, row_m)
    if needs_shrinking(gsd_m, store_gsd_m):
        gsd_m = store_gsd_m
    elif is_oblong:
        gsd_m = max(col_m, row_m)
    else:
        return (window.height, window.width), gsd_m
    height = max(round(window.height * row_m / gsd_m), 1)
    return (height, max(round(window.width * col_m / gsd_m), 1)), gsd_m


def _meets(polygons: PolygonObjects, ground: _Ground) -> BoolArray:
    """Which polygons lie on the pixels, at least in part."""
    height, width = ground.valid.shape
    box = shapely.box(0, 0, width, height)
    return np.asarray(shapely.intersects(box, polygons))


def _surround(polygons: PolygonObjects, ground: _Ground) -> bool:
    """Whether the pixels lie within the extent of polygons, so that none here means no building."""
    height, width = ground.valid.shape
    extent = shapely.box(*shapely.total_bounds(polygons))
    return bool(shapely.intersects(extent, shapely.box(0, 0, width, height)))


def _label(
    stem: str,
    ground: _Ground,
    polygons: PolygonObjects,
    owner: Int64Array,
    layer: PolygonLayer,
    area: Any,
    source: PolygonSource,
) -> LabelledImage:
    """Burn polygons (in pixels) into ids; what is cut or too small to be seen is unknown ground."""
    shape = ground.valid.shape
    is_unknown = shapely.area(polygons) * ground.gsd_m**2 < source.min_area_m2
    known = ground.valid
    if area is not None:
        area = ground.place(area)
        known = known & burn_area(area, shape)
        inside = area.buffer(-_EDGE_PX)
        shapely.prepare(inside)
        is_unknown |= ~shapely.contains(inside, polygons)
    unknown, _ = burn_polygons(polygons[is_unknown], np.ones(is_unknown.sum(), np.int64), shape)
    # Every polygon stays an instance, also where its ground is unknown: pixels beside it are then
    # neighbours of a building, not of bare ground.
    ids, num_overlap_px = burn_polygons(polygons, np.arange(1, len(polygons) + 1), shape)
    return LabelledImage(
        stem=stem,
        gsd_m=ground.gsd_m,
        image=ground.image,
        ids=ids,
        known=known & (unknown == 0),
        valid=ground.valid,
        has_instances=True,
        counts=LabelCounts(
            num_labels=len(polygons),
            num_repaired=layer.num_repaired,
            num_dropped=layer.num_dropped,
            num_unknown=int(is_unknown.sum()),
            num_overlap_px=num_overlap_px,
        ),
    )


def _outline(info: ImageInfo) -> PolygonObjects:
    """The image's outline in its CRS, as an array of one polygon."""
    corners = ((0, 0), (info.width, 0), (info.width, info.height), (0, info.height))
    return np.array([shapely.Polygon([info.affine @ corner for corner in corners])], object)


def _extent(polygons: PolygonObjects, crs: pyproj.CRS) -> str:
    """Bounds in degrees, which say where on the earth something lies."""
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    west, south, east, north = to_degrees.transform_bounds(*shapely.total_bounds(polygons))
    return f"longitude {west:.4f} to {east:.4f}, latitude {south:.4f} to {north:.4f}"
