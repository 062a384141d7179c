import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_drawings import THRESHOLD, masks, rasterize, window_of

from geo.components import find_instances
from geo.grow import grow_instances
from geo.instances import Instances
from geo.trace import trace_outlines


def find(mask, row_off=0, col_off=0):
    return find_instances(
        np.where(mask, 200, 0).astype(np.uint8),
        threshold=THRESHOLD,
        window=window_of(mask, row_off, col_off),
    )


@settings(deadline=None, max_examples=100)
@given(
    mask=masks(max_side=24), radius_px=st.integers(1, 6), row_off=st.sampled_from([0, -11, -9_000])
)
def test_grown_runs_equal_opencv_dilation(mask, radius_px, row_off):
    found = find(mask, row_off, 40)
    grown = grow_instances(found, radius_px)
    assert len(grown) == len(found)
    outer = window_of(mask, row_off, 40).expand(radius_px)
    square = np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8)
    for index in range(len(found)):
        alone, one = found.take(np.array([index])), grown.take(np.array([index]))
        raster = rasterize(one, outer)
        expected = cv2.dilate(rasterize(alone, outer).astype(np.uint8), square)
        np.testing.assert_array_equal(raster, expected)
        # Sorted, apart from each other, each pixel in one run.
        assert (one.run_end - one.run_start).sum() == expected.sum()
        same_row = one.run_row[1:] == one.run_row[:-1]
        assert (np.diff(one.run_row) >= 0).all()
        assert (one.run_start[1:][same_row] > one.run_end[:-1][same_row]).all()


@settings(deadline=None, max_examples=50)
@given(mask=masks(max_side=24), radius_px=st.integers(1, 4))
def test_grown_instances_have_valid_outlines(mask, radius_px):
    grown = grow_instances(find(mask), radius_px)
    polygons = trace_outlines(grown).to_shapely()
    assert shapely.is_valid(polygons).all()
    pixels = np.zeros(len(grown), np.int64)
    np.add.at(
        pixels,
        np.repeat(np.arange(len(grown)), np.diff(grown.run_offsets)),
        grown.run_end - grown.run_start,
    )
    np.testing.assert_array_equal(shapely.area(polygons), pixels)


def test_growing_twice_is_growing_by_the_sum():
    mask = np.random.default_rng(1).random((40, 40)) < 0.4
    found = find(mask)
    twice, once = grow_instances(grow_instances(found, 2), 3), grow_instances(found, 5)
    for name in ("run_row", "run_start", "run_end", "run_offsets"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(once, name))


def test_all_but_the_runs_stays_and_so_does_the_order():
    mask = np.zeros((8, 12), bool)
    mask[0, 6:8] = mask[1:5, 4] = True
    found = find(mask)
    grown = grow_instances(found, 3)
    # The second one starts further left in the same row once both reach above the image.
    assert grown.first_pixels().tolist() == [[-3, 3], [-2, 1]]
    for name in (
        "num_pixels",
        "probability_sum",
        "image_offsets",
        "image_index",
        "image_pixels",
    ):
        assert getattr(grown, name) is getattr(found, name)


def test_a_pixel_becomes_a_square_and_a_slit_closes():
    grown = grow_instances(find(np.ones((1, 1), bool)), 2)
    assert trace_outlines(grown).to_shapely()[0].equals(shapely.box(-2, -3, 3, 2))
    mask = np.ones((5, 5), bool)
    mask[:4, 2] = False
    grown = grow_instances(find(mask), 1)
    assert trace_outlines(grown).to_shapely()[0].equals(shapely.box(-1, -6, 6, 1))


def test_radius_zero_and_nothing():
    found = find(np.ones((3, 3), bool))
    assert grow_instances(found, 0) is found
    assert len(grow_instances(Instances.empty(), 2)) == 0
    with pytest.raises(ValueError, match="radius_px = -1"):
        grow_instances(found, -1)
