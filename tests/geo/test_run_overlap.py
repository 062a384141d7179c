"""Overlap with runs against GEOS on the pixels as boxes."""

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.components import find_instances
from geo.instances import Instances
from geo.pixel_window import PixelWindow
from geo.polygons import PolygonArray
from geo.run_overlap import iou_with_runs


def instances_of(mask: npt.NDArray[np.bool_], row_off: int = 0, col_off: int = 0) -> Instances:
    window = PixelWindow(col_off, row_off, mask.shape[1], mask.shape[0])
    return find_instances(mask.astype(np.uint8) * 255, threshold=1, window=window)


def pixels_of(instances: Instances, i: int) -> shapely.Geometry:
    runs = slice(instances.run_offsets[i], instances.run_offsets[i + 1])
    row, start, end = instances.run_row[runs], instances.run_start[runs], instances.run_end[runs]
    return shapely.union_all(shapely.box(start, -(row + 1), end, -row))


def blob(rng: np.random.Generator) -> shapely.Polygon:
    """A polygon with a hole, its vertices anywhere, some beyond the mask."""
    # A vertex in every ninth of the circle: with a wider gap the ring might miss its own centre.
    angle = 2 * np.pi * (np.arange(9) + rng.random(9)) / 9
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centre = rng.uniform(5, 15, 2) * (1, -1)
    shell = centre + circle * rng.uniform(7, 14, (9, 1))
    hole = centre + circle * rng.uniform(0.5, 2, (9, 1))
    return shapely.orient_polygons(shapely.Polygon(shell) - shapely.Polygon(hole))


@settings(deadline=None)
@given(seed=st.integers(0, 100_000), row=st.integers(-50_000, 50_000), col=st.integers(0, 90_000))
def test_equals_geos(seed: int, row: int, col: int) -> None:
    rng = np.random.default_rng(seed)
    polygon = blob(rng)
    assert polygon.is_valid
    assert len(polygon.interiors) == 1
    mask = rng.random((20, 20)) < 0.8
    instances = instances_of(mask, row, col)
    here = shapely.transform(polygon, lambda xy: xy + (col, -row))
    polygons = PolygonArray.from_shapely(np.array([here] * len(instances)))
    expected = []
    for i in range(len(instances)):
        pixels = shapely.transform(pixels_of(instances, i), lambda xy: xy - (col, -row))
        overlap, union = shapely.intersection(polygon, pixels), shapely.union(polygon, pixels)
        expected.append(overlap.area / union.area)
    np.testing.assert_allclose(iou_with_runs(polygons, instances), expected, rtol=0, atol=1e-7)


@settings(deadline=None)
@given(
    seed=st.integers(0, 100_000),
    lean=st.sampled_from([0.0, 1e-9, 1e-4, 0.1, 0.156, 0.157, 2.0]),
    size=st.sampled_from([3, 20, 300]),
)
def test_walls_near_the_vertical(seed: int, lean: float, size: int) -> None:
    """Leaning by less and by more than 1 column in 128 rows (0.156 in 20), edges among the runs."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size + 10), bool)
    for row in range(size):
        mask[row, rng.integers(0, 6) : size + rng.integers(4, 10)] = True
    mask[:, 5 : size + 4] = True
    instances = instances_of(mask)
    left, right = rng.uniform(1, 5), size + rng.uniform(5, 8)
    corners = [(left, -size), (right, -size), (right + lean, 0), (left + lean, 0)]
    polygon = shapely.orient_polygons(shapely.Polygon(corners))
    pixels = pixels_of(instances, 0)
    expected = shapely.intersection(polygon, pixels).area / shapely.union(polygon, pixels).area
    found = iou_with_runs(PolygonArray.from_shapely(np.array([polygon])), instances)[0]
    assert found == pytest.approx(expected, rel=0, abs=1e-9)


def test_a_shifted_square_has_a_known_overlap() -> None:
    instances = instances_of(np.ones((10, 10), bool))
    moved = PolygonArray.from_shapely(
        np.array([shapely.orient_polygons(shapely.box(5, -10, 15, 0))])
    )
    assert iou_with_runs(moved, instances)[0] == 50 / 150


def test_numbers_must_agree() -> None:
    with pytest.raises(ValueError, match="0 polygons for 1 instances"):
        iou_with_runs(PolygonArray.empty(), instances_of(np.ones((2, 2), bool)))
