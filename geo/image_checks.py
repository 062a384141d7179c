"""What an image must have to be used, and what to do where it has not."""

import os

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from geo.errors import RasterError
from geo.gdal import is_local_file


def check_file(path: str) -> None:
    """Refuse a local file that does not exist or is empty; other paths are left to GDAL.

    Raises:
        RasterError: if so.
    """
    if not is_local_file(path):
        return
    if not os.path.exists(path):
        raise RasterError(f"image {path} does not exist; check the path")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise RasterError(f"image {path} is empty (zero bytes); copy or download it again")


def check_georeference(path: str, dataset: rasterio.DatasetReader) -> None:
    """Refuse an image without CRS or geotransform, or with a degenerate one.

    Raises:
        RasterError: if so.
    """
    transform = dataset.transform
    if transform.is_identity and (dataset.gcps[0] or dataset.rpcs):
        kind = "ground control points" if dataset.gcps[0] else "RPCs"
        raise RasterError(
            f"image {path} is placed by {kind} only; rectify it first: gdalwarp -t_srs EPSG:4326 "
            "IN OUT"
        )
    if dataset.crs is None and transform.is_identity:
        raise RasterError(
            f"image {path} has no georeference; give it one: gdal_translate -a_srs EPSG:CODE "
            "-a_ullr ULX ULY LRX LRY IN OUT, or put a world file beside it and say -a_srs"
        )
    if dataset.crs is None:
        raise RasterError(
            f"image {path} has a geotransform but no CRS; name it: gdal_translate -a_srs EPSG:CODE "
            "IN OUT"
        )
    if transform.is_identity:
        raise RasterError(
            f"image {path} has a CRS but no geotransform; give it one: gdal_translate -a_ullr ULX "
            "ULY LRX LRY IN OUT"
        )
    if not np.isfinite(transform).all() or abs(transform.determinant) < 1e-30:
        raise RasterError(
            f"image {path} has a degenerate geotransform {tuple(transform[:6])}: its pixels have "
            "no area; correct it with gdal_edit.py -a_ullr"
        )


def choose_bands(
    path: str, dataset: rasterio.DatasetReader, bands: tuple[int, ...] | None, num_bands: int
) -> tuple[int, ...]:
    """The bands to read, in the model's order.

    Args:
        path: name of the image for messages.
        dataset: the open image.
        bands: bands asked for, from 1; None: those tagged red, green and blue, else the first ones.
        num_bands: bands that the model wants.

    Raises:
        RasterError: if there are too few, or their values cannot be used.
    """
    if bands is None:
        bands = _default_bands(path, dataset, num_bands)
    if len(bands) != num_bands:
        raise RasterError(
            f"bands = {list(bands)} names {len(bands)} bands, but the model wants {num_bands}"
        )
    if max(bands) > dataset.count or min(bands) < 1:
        raise RasterError(
            f"bands = {list(bands)}, but image {path} has bands 1 to {dataset.count} only"
        )
    types = {dataset.dtypes[band - 1] for band in bands}
    if any(name.startswith("complex") for name in types):
        raise RasterError(
            f"image {path} holds complex values ({', '.join(sorted(types))}); write its magnitude "
            "to a new file first"
        )
    if len(types) > 1:
        raise RasterError(f"image {path} mixes value types {sorted(types)} in bands {list(bands)}")
    return tuple(bands)


def _default_bands(path: str, dataset: rasterio.DatasetReader, num_bands: int) -> tuple[int, ...]:
    interp = dataset.colorinterp
    if interp[0] == ColorInterp.palette:
        raise RasterError(
            f"image {path} has a colour table; write its colours as bands: gdal_translate -expand "
            "rgb IN OUT"
        )
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if num_bands == len(rgb) and all(interp.count(colour) == 1 for colour in rgb):
        return tuple(interp.index(colour) + 1 for colour in rgb)
    colours = [i + 1 for i, kind in enumerate(interp) if kind != ColorInterp.alpha]
    if len(colours) < num_bands:
        example = (colours * num_bands)[:num_bands]
        raise RasterError(
            f"image {path} has {len(colours)} band{'s' * (len(colours) != 1)} besides alpha, fewer "
            f"than the {num_bands} that the model wants; give another image, or say which bands to "
            f"use (repeating one is possible: bands: {example})"
        )
    return tuple(colours[:num_bands])
