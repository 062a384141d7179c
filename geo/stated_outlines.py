"""Outlines of images as a catalogue states them: checked, made continuous, and kept with slack.

A catalogue rounds, simplifies, draws curved edges straight, or outlines only the part with data.
What it states is therefore grown a little and used in two ways: to find the images of a tile, and,
where an image reaches beyond it, as the limit of what is used of it (`geo.image_limits`), so that
what a pixel becomes depends on neither the tile nor on which tiles happened to open the image.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geo.grid import MAX_LATITUDE_DEG, MIN_LATITUDE_DEG, WorldGrid, unwrap_longitude

Float64Array = npt.NDArray[np.float64]
Geometries = npt.NDArray[np.object_]

SLACK_SHARE = 0.01
"""Share of an outline's longer side that it is grown by. A straight line in degrees bends away from
a straight edge in UTM by L^2 tan(latitude) / (8 earth radii): 0.4 % of a 110 km granule at 60
degrees north."""
LEAST_SLACK_DEG = 2e-5
"""Two metres: outlines are often rounded to five decimals."""
MAX_STEP_DEG = 0.05
"""Longer edges get points in between before they are bent into a zone's grid."""


def check_outlines(outlines: Geometries) -> list[str]:
    """What is wrong with each outline; empty where nothing is.

    Args:
        outlines: shapely geometries in degrees (longitude, latitude), None where there is none.
    """
    bounds = shapely.bounds(outlines)
    missing = shapely.is_missing(outlines) | shapely.is_empty(outlines)
    is_polygonal = np.isin(shapely.get_type_id(outlines), (3, 6))
    with np.errstate(invalid="ignore"):
        is_sound = is_polygonal & ~missing & (bounds[:, 0] >= -360) & (bounds[:, 2] <= 540)
        is_sound &= (bounds[:, 1] >= MIN_LATITUDE_DEG) & (bounds[:, 3] <= MAX_LATITUDE_DEG)
    reasons = [""] * len(outlines)
    for index in np.flatnonzero(~is_sound).tolist():
        west, south, east, north = bounds[index].tolist()
        reasons[index] = _reason(
            west, south, east, north, bool(missing[index]), bool(is_polygonal[index])
        )
    return reasons


def _reason(
    west: float, south: float, east: float, north: float, is_missing: bool, is_polygonal: bool
) -> str:
    place = f"longitude {west:g} to {east:g}, latitude {south:g} to {north:g}"
    if is_missing:
        return "its outline is missing"
    if not is_polygonal:
        return f"its outline is no polygon ({place})"
    if not np.isfinite([west, south, east, north]).all():
        return "its outline has coordinates that are no numbers"
    if west < -360 or east > 540 or south < -90 or north > 90:
        return (
            f"its outline does not lie on the earth ({place}): degrees are expected, longitude "
            "before latitude"
        )
    if south < MIN_LATITUDE_DEG or north > MAX_LATITUDE_DEG:
        return (
            f"it reaches from latitude {south:.4f} to {north:.4f}; the world grid holds "
            f"{MIN_LATITUDE_DEG:.0f} to {MAX_LATITUDE_DEG:.0f} degrees (UTM)"
        )
    return ""


def continuous_outlines(outlines: Geometries) -> Geometries:
    """Outlines without a jump at the antimeridian, each one polygon, grown by the slack.

    What spans more than half the earth, in one ring or in parts on both sides of 180 degrees,
    crosses the antimeridian; several parts become their convex hull.

    Args:
        outlines: valid for `check_outlines`.

    Returns:
        Polygons without holes; longitudes run beyond 180 where they must.
    """
    whole = np.array(outlines, dtype=object)
    if not len(whole):
        return whole
    bounds = shapely.bounds(whole)
    is_plain = (shapely.get_type_id(whole) == 3) & (shapely.get_num_interior_rings(whole) == 0)
    is_plain &= bounds[:, 2] - bounds[:, 0] <= 180.0
    for index in np.flatnonzero(~is_plain).tolist():
        whole[index] = _continuous(whole[index])
    west, south, east, north = shapely.bounds(whole).T
    slack = np.maximum(SLACK_SHARE * np.maximum(east - west, north - south), LEAST_SLACK_DEG)
    return np.asarray(shapely.buffer(whole, slack, join_style="mitre", mitre_limit=2.0))


def _continuous(outline: Any) -> Any:
    west, _, east, _ = outline.bounds
    if east - west > 180.0:
        outline = shapely.transform(outline, lambda c: c + (c[:, :1] < 0) * [360.0, 0.0])
    if outline.geom_type == "Polygon":
        return shapely.Polygon(outline.exterior)
    return shapely.convex_hull(outline)


def meets_area(outlines: Geometries, area: Any) -> npt.NDArray[np.bool_]:
    """Which outlines meet an area, bool.

    Args:
        outlines: continuous outlines in degrees; longitudes may lie a turn away from the area's.
        area: polygons in degrees.
    """
    shapely.prepare(area)
    meets = np.zeros(len(outlines), np.bool_)
    for turn in (-360.0, 0.0, 360.0):
        west, _, east, _ = area.bounds
        bounds = shapely.bounds(outlines)
        near = (bounds[:, 0] + turn <= east) & (bounds[:, 2] + turn >= west) & ~meets
        turned = shapely.transform(outlines[near], lambda c, by=turn: c + [by, 0.0])
        meets[near] = shapely.intersects(area, turned)
    return meets


def outlines_to_pixels(grid: WorldGrid, outlines: Geometries) -> Geometries:
    """Outlines in degrees as pixels (col, row) of a zone's grid, long edges bent.

    Args:
        grid: the zone's grid.
        outlines: shapely geometries in degrees.
    """

    def project(coords: Float64Array) -> Float64Array:
        lon = unwrap_longitude(coords[:, 0], grid.central_meridian_deg)
        # Transverse Mercator folds beyond 80 degrees from the meridian; nothing there is ours.
        lon = np.clip(lon, grid.central_meridian_deg - 20.0, grid.central_meridian_deg + 20.0)
        return np.stack(grid.from_lonlat(lon, coords[:, 1]), axis=1)

    return np.asarray(shapely.transform(shapely.segmentize(outlines, MAX_STEP_DEG), project))
