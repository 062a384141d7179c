import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_drawings import (
    THRESHOLD,
    assert_same_arrays,
    draw_lattice,
    draw_rings,
    draw_spiral,
    masks,
    window_of,
)

from geo.components import find_instances
from geo.errors import GeometryError
from geo.instances import Instances, concat_instances
from geo.trace import trace_outlines


def find(mask, row_off=0, col_off=0):
    return find_instances(
        np.where(mask, 255, 0).astype(np.uint8),
        threshold=THRESHOLD,
        window=window_of(mask, row_off, col_off),
    )


def shapes_of(mask, row_off, col_off):
    """The oracle: GDAL's polygonizer, in our coordinates."""
    transform = Affine(1, 0, col_off, 0, -1, -row_off)
    shapes = rasterio.features.shapes(
        mask.astype(np.uint8), mask=mask, connectivity=4, transform=transform
    )
    return np.array([shapely.geometry.shape(shape) for shape, _ in shapes], object)


def coords_of(mask):
    """Rings of the only instance, as lists of points."""
    outlines = trace_outlines(find(mask))
    assert len(outlines) == 1
    return [
        outlines.coords[begin:end].tolist()
        for begin, end in zip(outlines.ring_offsets[:-1], outlines.ring_offsets[1:], strict=True)
    ]


@settings(deadline=None, max_examples=200)
@given(
    mask=masks(),
    row_off=st.sampled_from([0, -20, 31, -33_000_000]),
    col_off=st.sampled_from([0, -3, 2_700_000]),
)
def test_outlines_equal_gdal(mask, row_off, col_off):
    found = find(mask, row_off, col_off)
    outlines = trace_outlines(found)
    polygons = outlines.to_shapely()
    expected = shapes_of(mask, row_off, col_off)
    assert len(polygons) == len(expected)
    assert sorted(shapely.to_wkb(shapely.normalize(polygons))) == sorted(
        shapely.to_wkb(shapely.normalize(expected))
    )
    assert shapely.is_valid(polygons).all()
    np.testing.assert_array_equal(shapely.area(polygons), found.num_pixels)
    bounds = found.bounds()
    np.testing.assert_array_equal(
        shapely.bounds(polygons).reshape(-1, 4),
        np.stack([bounds[:, 1], -bounds[:, 2], bounds[:, 3], -bounds[:, 0]], axis=1),
    )


@settings(deadline=None, max_examples=100)
@given(mask=masks())
def test_rings_are_as_promised(mask):
    """Closed, corners only, shell first and counter-clockwise, holes clockwise, fixed starts."""
    found = find(mask)
    outlines = trace_outlines(found)
    for index in range(len(outlines)):
        rings = range(outlines.polygon_offsets[index], outlines.polygon_offsets[index + 1])
        starts = []
        for ring in rings:
            points = outlines.coords[outlines.ring_offsets[ring] : outlines.ring_offsets[ring + 1]]
            assert points[0].tolist() == points[-1].tolist()
            steps = np.diff(points, axis=0)
            assert ((steps != 0).sum(axis=1) == 1).all()
            # Directions alternate: every point is a corner, the first one too.
            assert ((steps[:, 0] != 0) != (np.roll(steps[:, 0], 1) != 0)).all()
            x, y = points[:-1].T
            area = 0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
            assert area > 0 if ring == rings[0] else area < 0
            starts.append((-points[0, 1], points[0, 0]))
        assert starts[1:] == sorted(starts[1:])
        row, _ = found.first_pixels()[index]
        assert starts[0] == (row, found.run_end[found.run_offsets[index]])
    assert not np.signbit(outlines.coords[outlines.coords == 0]).any()


def test_a_block_of_20_px_has_an_area_of_400_and_5_coordinates():
    mask = np.zeros((30, 30), bool)
    mask[4:24, 5:25] = True
    (shell,) = coords_of(mask)
    assert shell == [[25, -4], [5, -4], [5, -24], [25, -24], [25, -4]]
    assert shapely.Polygon(shell).area == 400


def test_one_pixel():
    assert coords_of(np.ones((1, 1), bool)) == [[[1, 0], [0, 0], [0, -1], [1, -1], [1, 0]]]


def test_courtyard():
    mask = np.ones((4, 5), bool)
    mask[1:3, 2:4] = False
    shell, hole = coords_of(mask)
    assert shell == [[5, 0], [0, 0], [0, -4], [5, -4], [5, 0]]
    assert hole == [[2, -1], [4, -1], [4, -3], [2, -3], [2, -1]]


def test_a_hole_that_touches_the_shell_stays_a_hole():
    mask = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    polygon = trace_outlines(find(mask)).to_shapely()[0]
    assert polygon.is_valid
    assert len(polygon.interiors) == 1
    assert polygon.exterior.intersection(polygon.interiors[0]).equals(shapely.Point(1, -1))
    assert polygon.area == 7


def test_holes_that_touch_each_other_stay_apart():
    for mask in (
        np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], bool),
        np.array([[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 1]], bool),
    ):
        polygon = trace_outlines(find(mask)).to_shapely()[0]
        assert polygon.is_valid
        assert [shapely.Polygon(ring).area for ring in polygon.interiors] == [1, 1]


@pytest.mark.parametrize("draw", [draw_spiral, draw_rings, draw_lattice])
def test_large_drawings(draw):
    mask = draw((201, 202))
    found = find(mask)
    polygons = trace_outlines(found).to_shapely()
    assert shapely.is_valid(polygons).all()
    np.testing.assert_array_equal(shapely.area(polygons), found.num_pixels)


def test_overlapping_instances_are_traced_alone():
    """Grown instances overlap: each comes out as if the other were not there."""
    first, second = np.zeros((2, 9, 9), bool)
    first[1:5, 1:5] = True
    second[3:8, 3:8] = True
    both = concat_instances([find(first), find(second)])
    polygons = trace_outlines(both).to_shapely()
    alone = [trace_outlines(find(mask)).to_shapely()[0] for mask in (first, second)]
    assert all(a.equals_exact(b) for a, b in zip(polygons, alone, strict=True))


def test_the_order_of_instances_is_kept_and_does_not_change_outlines():
    mask = np.random.default_rng(4).random((60, 60)) < 0.55
    found = find(mask)
    order = np.random.default_rng(5).permutation(len(found))
    assert_same_arrays(trace_outlines(found.take(order)), trace_outlines(found).take(order))


def test_no_instances():
    outlines = trace_outlines(Instances.empty())
    assert len(outlines) == 0
    assert outlines.ring_offsets.tolist() == [0]
    assert outlines.coords.shape == (0, 2)


@pytest.mark.parametrize(
    ("rows", "starts", "ends"),
    [([0, 0], [0, 5], [3, 9]), ([0, 7], [0, 0], [3, 3]), ([0, 1], [0, 8], [3, 9])],
    ids=["side by side", "a gap of rows", "far below"],
)
def test_pieces_that_were_not_merged_are_refused(rows, starts, ends):
    pixels = np.array([sum(ends) - sum(starts)])
    broken = Instances(
        run_row=np.array(rows, np.int32),
        run_start=np.array(starts, np.int32),
        run_end=np.array(ends, np.int32),
        run_offsets=np.array([0, 2]),
        num_pixels=pixels,
        probability_sum=pixels * 200,
        rim_sum=pixels,
        rim_count=pixels,
        image_offsets=np.array([0, 1]),
        image_index=np.zeros(1, np.int32),
        image_pixels=pixels,
    )
    both = concat_instances([find(np.ones((1, 1), bool), -9), broken])
    with pytest.raises(GeometryError, match=r"instance 1 with first pixel \(row 0, col 0\)"):
        trace_outlines(both)
