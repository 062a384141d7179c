"""Polygons in pixel coordinates become instance ids of pixels."""

import numpy as np
import rasterio.features
import shapely
from rasterio.enums import MergeAlg

from geo.matching import Int64Array, PolygonObjects
from model.places import BoolArray, Int32Array


def burn_polygons(
    polygons: PolygonObjects, ids: Int64Array, shape: tuple[int, int]
) -> tuple[Int32Array, int]:
    """Ids of the polygons that pixels' centres lie in.

    Where polygons overlap, the smaller one wins: it would vanish otherwise.

    Args:
        polygons: valid polygons in continuous pixel coordinates (x, y), the first pixel's centre at
            (0.5, 0.5).
        ids: id of each, above 0; parts of one building share it.
        shape: (height, width).

    Returns:
        int32 of that shape, 0 where no polygon is; and the number of pixels that several claim.
    """
    if len(polygons) == 0:
        return np.zeros(shape, np.int32), 0
    order = np.argsort(-shapely.area(polygons), kind="stable")
    shapes = list(zip(polygons[order], ids[order].tolist(), strict=True))
    burnt = rasterio.features.rasterize(shapes, out_shape=shape, dtype="int32")
    claims = rasterio.features.rasterize(
        [(polygon, 1) for polygon in polygons],
        out_shape=shape,
        dtype="int32",
        merge_alg=MergeAlg.add,
    )
    return burnt, int((claims > 1).sum())


def burn_area(area: shapely.Geometry, shape: tuple[int, int]) -> BoolArray:
    """Pixels whose centres lie in an area given in pixel coordinates; bool of that shape."""
    if area.is_empty:
        return np.zeros(shape, np.bool_)
    mask = rasterio.features.rasterize([(area, 1)], out_shape=shape, dtype="uint8")
    return np.asarray(mask, np.bool_)
