"""Places of a chip pack as georeferenced files, so that the main job can be scored on them.

Evaluation and calibration read images and polygons; packs hold pixels and ids without a place on
the earth. They get one, each its own, far from the others.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import rasterio.features
import shapely
from affine import Affine

from geo.atomic_files import write_atomically
from geo.errors import RasterError
from geo.gdal import gdal_reason
from model.errors import SourceError
from model.places import BoolArray, Int32Array, Place, Split

_EPSG = 32631
_WEST_M, _NORTH_M = 500_000.0, 5_000_000.0
# More than any place is wide.
_STEP_M = 20_000.0


def write_places(places: Sequence[Place], folder: Path, *, split: Split) -> list[dict[str, str]]:
    """Write an image, its outlines and its labelled area for each place of one side of the split.

    Places whose neighbours share an id, or without a building, are left out: they have no score.

    Args:
        places: of a pack.
        folder: made if there is none; files of the same names are replaced.
        split: which places.

    Returns:
        One entry each, as the YAML of `everyroof evaluate` lists places; files by their names.

    Raises:
        SourceError: if no place is left.
        RasterError: if a file cannot be written.
    """
    chosen = [p for p in places if p.split == split and p.has_instances and p.num_instances > 0]
    if not chosen:
        raise SourceError(
            f"no place for {split} has buildings with outlines of their own; `everyroof pack` says "
            "which regions are held out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return [_write_place(place, folder, number) for number, place in enumerate(chosen)]


def _write_place(place: Place, folder: Path, number: int) -> dict[str, str]:
    stem = place.name.replace("/", "_")
    corner = Affine.translation(_WEST_M, _NORTH_M - number * _STEP_M)
    transform = corner @ Affine.scale(place.gsd_m, -place.gsd_m)
    _write_image(folder / f"{stem}.tif", place, transform)
    _write_polygons(folder / f"{stem}.geojson", _outlines(place.ids, transform))
    _write_polygons(folder / f"{stem}.area.geojson", _outlines(place.known, transform))
    return {
        "name": place.name,
        "category": place.source,
        "image": f"{stem}.tif",
        "labels": f"{stem}.geojson",
        "aoi": f"{stem}.area.geojson",
    }


def _write_image(path: Path, place: Place, transform: Affine) -> None:
    height, width = place.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 3,
        "dtype": "uint8",
        "crs": f"EPSG:{_EPSG}",
        "transform": transform,
        "photometric": "rgb",
        "compress": "deflate",
        "tiled": True,
    }
    try:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as to:
            to.write(place.image.transpose(2, 0, 1))
            to.write_mask(place.valid)
    except rasterio.errors.RasterioError as error:
        raise RasterError(f"{path} cannot be written: {gdal_reason(error)}") from error


def _outlines(ids: Int32Array | BoolArray, transform: Affine) -> list[shapely.Geometry]:
    """One geometry an id, along its pixels."""
    values = ids.astype(np.int32)
    parts: dict[int, list[shapely.Geometry]] = {}
    for shape, value in rasterio.features.shapes(values, values > 0, transform=transform):
        parts.setdefault(int(value), []).append(shapely.geometry.shape(shape))
    return [shapely.union_all(parts[value]) for value in sorted(parts)]


def _write_polygons(path: Path, outlines: Sequence[shapely.Geometry]) -> None:
    frame = geopandas.GeoDataFrame(geometry=list(outlines), crs=_EPSG)
    # In degrees with all digits, as the format's standard has it.
    text = frame.to_crs(4326).to_json(drop_id=True, show_bbox=False)
    write_atomically(path, text.encode())
