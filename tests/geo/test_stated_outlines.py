"""Outlines as catalogues state them."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo.grid import WorldGrid
from geo.images import open_image
from geo.stated_outlines import (
    LEAST_SLACK_DEG,
    SLACK_SHARE,
    check_outlines,
    continuous_outlines,
    meets_area,
    outlines_to_pixels,
)

BOX = shapely.box(32.0, 0.0, 32.1, 0.1)


def _array(*outlines):
    return np.array(outlines, dtype=object)


@pytest.mark.parametrize(
    ("outline", "word"),
    [
        (BOX, ""),
        (shapely.box(179.9, -1, 180.1, 1), ""),
        (None, "missing"),
        (shapely.Polygon(), "missing"),
        (shapely.Point(1, 2), "no polygon"),
        (shapely.box(454788, 38858, 455788, 39858), "not lie on the earth"),
        (shapely.box(10, 40, 11, 95), "not lie on the earth"),
        (shapely.box(10, 83, 11, 85), "UTM"),
        (shapely.box(10, -81, 11, -79), "UTM"),
    ],
)
def test_what_is_wrong_is_said(outline, word):
    (reason,) = check_outlines(_array(outline))
    assert (word in reason) if word else not reason


def test_of_many_only_the_wrong_ones_are_told():
    outlines = np.array([BOX] * 50, dtype=object)
    outlines[17] = None
    reasons = check_outlines(outlines)
    assert [i for i, reason in enumerate(reasons) if reason] == [17]


@given(
    lon=st.floats(-179.0, 179.0),
    lat=st.floats(-75.0, 75.0),
    width=st.floats(1e-3, 3.0),
    height=st.floats(1e-3, 3.0),
)
def test_a_grown_outline_holds_the_stated_one(lon, lat, width, height):
    stated = shapely.box(lon, lat, lon + width, lat + height)
    (grown,) = continuous_outlines(_array(stated))
    assert grown.contains_properly(stated)
    slack = max(SLACK_SHARE * max(width, height), LEAST_SLACK_DEG)
    assert stated.buffer(1.5 * slack).contains(grown)


def test_an_outline_in_two_parts_at_the_antimeridian_is_one():
    parts = shapely.MultiPolygon(
        [shapely.box(179.8, -1, 180.0, 1), shapely.box(-180.0, -1, -179.7, 1)]
    )
    ring = shapely.Polygon([(179.8, -1), (-179.7, -1), (-179.7, 1), (179.8, 1)])
    for stated in (parts, ring):
        (outline,) = continuous_outlines(_array(stated))
        assert outline.bounds == pytest.approx((179.8, -1, 180.3, 1), abs=0.03)
        assert outline.geom_type == "Polygon"


def test_holes_do_not_count():
    ring = BOX.difference(BOX.buffer(-0.02))
    (outline,) = continuous_outlines(_array(ring))
    assert outline.contains(BOX)


def test_an_outline_meets_an_area_a_turn_away():
    outlines = _array(shapely.box(179.9, 0, 180.1, 1), shapely.box(-180.2, 0, -179.9, 1), BOX)
    area = shapely.box(-180.0, 0.2, -179.95, 0.3)
    assert meets_area(outlines, area).tolist() == [True, True, False]


@pytest.mark.parametrize("crs", ["EPSG:32636", "EPSG:3857"])
def test_four_corners_in_degrees_hold_the_image(tmp_path, crs):
    """A wide image's edges bend between the corners that a catalogue states."""
    from raster_files import write_raster
    from synthetic import place

    path = write_raster(
        tmp_path / "wide.tif",
        np.full((1, 100, 100), 90, np.uint8),
        crs,
        place(crs, 33.5, 55.0, 1000.0),
    )
    info = open_image(path, num_bands=1)
    corners = shapely.Polygon([info.footprint[i] for i in (0, 16, 32, 48)])
    (outline,) = continuous_outlines(_array(corners))
    assert outline.contains(shapely.Polygon(info.footprint))
    grid = WorldGrid(36, 1000)
    stated, measured = outlines_to_pixels(grid, _array(outline, shapely.Polygon(info.footprint)))
    assert stated.contains(measured)
