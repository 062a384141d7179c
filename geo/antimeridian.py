"""Outlines that cross the antimeridian, cut in two for formats that want it.

Footprints lie whole around their centroid, with longitudes slightly beyond +-180. RFC 7946 asks
for such a shape to be cut into the parts on both sides.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

HALF_TURN_DEG = 180.0
_TURN_DEG = 360.0


def crosses_antimeridian(bbox: pa.StructArray) -> npt.NDArray[np.bool_]:
    """Which rows reach beyond +-180 degrees, by the bounding box; bool, shape (n,).

    Args:
        bbox: the column of that name; its sides are rounded outwards, so that a row that ends
            exactly at the antimeridian may be among them.
    """
    west, east = (bbox.field(name).to_numpy(zero_copy_only=False) for name in ("xmin", "xmax"))
    return np.asarray((west < -HALF_TURN_DEG) | (east > HALF_TURN_DEG))


def cut_at_antimeridian(outline: shapely.Geometry) -> shapely.Geometry:
    """The outline within [-180, 180]: as it is, or a multipolygon of the parts on both sides.

    Args:
        outline: a polygon with longitudes from -540 to 540 degrees.

    Returns:
        Polygon or MultiPolygon, shells counter-clockwise, of the same area in degrees.
    """
    west, _, east, _ = outline.bounds
    if west >= -HALF_TURN_DEG and east <= HALF_TURN_DEG:
        return outline
    parts: list[shapely.Geometry] = []
    for turn in (-_TURN_DEG, 0.0, _TURN_DEG):
        world = shapely.box(turn - HALF_TURN_DEG, -90.0, turn + HALF_TURN_DEG, 90.0)
        part = shapely.intersection(outline, world)
        moved = shapely.transform(part, lambda xy, turn=turn: xy - [turn, 0.0])
        # Points and lines remain where the outline only touches the antimeridian.
        parts += [piece for piece in shapely.get_parts(moved) if piece.area > 0.0]
    turned = shapely.orient_polygons(np.array(parts))
    return turned[0] if len(turned) == 1 else shapely.MultiPolygon(list(turned))
