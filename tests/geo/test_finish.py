"""Finishing of outlines: right angles, guards, validity, independence of place and company."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import rasterio.features
import shapely
import shapely.affinity
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.components import find_instances
from geo.finish import FORM_NAMES, FinishConfig, finish_outlines, finish_with_forms
from geo.instances import Instances
from geo.pixel_window import PixelWindow
from geo.polygons import PolygonArray
from geo.run_overlap import iou_with_runs
from geo.trace import trace_outlines

GSD_M = 0.3
CELL_PX = 110


def trace_mask(mask: npt.NDArray[np.bool_]) -> tuple[PolygonArray, Instances]:
    height, width = mask.shape
    probability = mask.astype(np.uint8) * 200
    window = PixelWindow(0, 0, width, height)
    instances = find_instances(probability, threshold=128, window=window)
    return trace_outlines(instances), instances


def draw(polygons: list[shapely.Polygon], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Mask of polygons given in pixel units with y up; a pixel counts if its centre is inside."""
    upside = Affine(1, 0, 0, 0, -1, 0)
    image = rasterio.features.rasterize(polygons, (height, width), transform=upside)
    return image.astype(bool)


def place(shape: shapely.Polygon, angle_deg: float, cell: int, rng: np.random.Generator):
    """The shape turned and put into its cell of a row of cells, off the grid by a fraction."""
    turned = shapely.affinity.rotate(shapely.simplify(shape, 0), angle_deg, origin="centroid")
    at = (np.array([cell + 0.5, -0.5]) * CELL_PX) + rng.uniform(-2, 2, 2)
    centre = turned.centroid
    return shapely.affinity.translate(turned, at[0] - centre.x, at[1] - centre.y)


def finish_drawn(
    shapes: list[shapely.Polygon], angles_deg: npt.NDArray[np.float64], config: FinishConfig
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """Truth, traced and finished polygons of shapes drawn one beside the other."""
    rng = np.random.default_rng(5)
    truth = [place(s, a, k, rng) for k, (s, a) in enumerate(zip(shapes, angles_deg, strict=True))]
    outlines, instances = trace_mask(draw(truth, CELL_PX, CELL_PX * len(truth)))
    assert len(instances) == len(truth)
    order = np.argsort(instances.first_pixels()[:, 1])
    finished = finish_outlines(outlines, instances, gsd_m=GSD_M, config=config).to_shapely()
    return np.array(truth), outlines.to_shapely()[order], finished[order]


def iou(a: npt.NDArray[np.object_], b: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    return shapely.area(shapely.intersection(a, b)) / shapely.area(shapely.union(a, b))


def rectangles(num: int) -> tuple[list[shapely.Polygon], npt.NDArray[np.float64]]:
    rng = np.random.default_rng(11)
    sides = rng.uniform(8, 60, (num, 2))
    return [shapely.box(0, 0, w, h) for w, h in sides], rng.uniform(0, 180, num)


def test_rotated_rectangles_get_four_corners_nearer_to_the_truth() -> None:
    shapes, angles = rectangles(300)
    truth, traced, squared = finish_drawn(shapes, angles, FinishConfig())
    _, _, simplified = finish_drawn(shapes, angles, FinishConfig(square=False))
    assert shapely.is_valid(squared).all()
    assert (shapely.get_num_coordinates(squared) == 5).mean() > 0.99
    assert iou(squared, truth).mean() > iou(traced, truth).mean() + 0.02
    assert iou(squared, truth).mean() > iou(simplified, truth).mean() + 0.01
    assert iou(squared, truth).mean() > 0.985
    assert iou(squared, traced).mean() > 0.95


BOX = shapely.box
WINGS = {
    "L": (BOX(0, 0, 46, 17) | BOX(0, 0, 18, 40), 7),
    "T": (BOX(0, 0, 48, 18) | BOX(16, 0, 33, 44), 9),
    "U": (BOX(0, 0, 50, 17) | BOX(0, 0, 15, 46) | BOX(34, 0, 50, 46), 9),
    "courtyard": (BOX(0, 0, 50, 44) - BOX(15, 13, 34, 31), 10),
}


@pytest.mark.parametrize("kind", WINGS)
def test_wings_keep_their_right_angles_and_corners(kind: str) -> None:
    shape, num_coordinates = WINGS[kind]
    angles = np.arange(24) * 15.0 + 1.3
    truth, traced, finished = finish_drawn([shape] * 24, angles, FinishConfig())
    assert shapely.is_valid(finished).all()
    assert (shapely.get_num_coordinates(finished) == num_coordinates).all()
    for true, polygon in zip(truth, finished, strict=True):
        corners = shapely.get_coordinates(polygon)
        distance = np.linalg.norm(shapely.get_coordinates(true)[:, None] - corners, axis=2)
        assert distance.min(axis=1).max() < 1.0
        shell = np.diff(np.asarray(polygon.exterior.coords), axis=0)
        turn = np.sum(shell * np.roll(shell, 1, axis=0), axis=1)
        assert (
            np.abs(turn / np.prod(np.linalg.norm([shell, np.roll(shell, 1, 0)], axis=2), 0)).max()
            < 0.01
        )
    assert iou(finished, truth).mean() > iou(traced, truth).mean() + 0.01


@pytest.mark.parametrize("radius_px", [8.0, 12.0, 20.0])
def test_round_huts_do_not_become_squares(radius_px: float) -> None:
    huts = [shapely.Point(0, 0).buffer(radius_px)] * 10
    truth, _, finished = finish_drawn(huts, np.zeros(10), FinishConfig())
    assert (shapely.get_num_coordinates(finished) >= 7).all()
    assert iou(finished, truth).min() > 0.88


def test_slanted_walls_stay_slanted() -> None:
    trapezoid = shapely.Polygon([(0, 0), (50, 0), (32, 40), (0, 40)])
    truth, _, finished = finish_drawn([trapezoid] * 12, np.arange(12) * 30.0 + 4, FinishConfig())
    assert iou(finished, truth).min() > 0.94


def test_small_holes_are_filled_and_courtyards_kept() -> None:
    mask = np.zeros((60, 60), bool)
    mask[5:55, 5:55] = True
    mask[10:12, 10:12] = False  # 0.36 m2
    mask[25:40, 25:40] = False  # 20 m2
    finished = finish_outlines(*trace_mask(mask), gsd_m=GSD_M, config=FinishConfig())
    assert finished.to_shapely()[0].equals(BOX(5, -55, 55, -5) - BOX(25, -40, 40, -25))


def test_axis_aligned_block_keeps_its_exact_area() -> None:
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:25] = True
    finished = finish_outlines(*trace_mask(mask), gsd_m=GSD_M, config=FinishConfig())
    assert finished.to_shapely()[0].equals(BOX(5, -25, 25, -5))


def test_zero_tolerance_returns_the_traced_outlines() -> None:
    outlines, instances = trace_mask(draw([shapely.Point(20, -20).buffer(12)], 40, 40))
    config = FinishConfig(simplify_tolerance_m=0, min_hole_area_m2=0)
    finished, forms = finish_with_forms(outlines, instances, gsd_m=GSD_M, config=config)
    np.testing.assert_array_equal(finished.coords, outlines.coords)
    assert FORM_NAMES[forms[0]] == "raw"


def test_nothing_in_nothing_out() -> None:
    config = FinishConfig()
    assert (
        len(finish_outlines(PolygonArray.empty(), Instances.empty(), gsd_m=1, config=config)) == 0
    )


def ragged_mask(seed: int, size: int = 96) -> npt.NDArray[np.bool_]:
    """Blobs with holes, thin necks and diagonal touches."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(size, size))
    for axis in (0, 1):
        for _ in range(int(rng.integers(0, 4))):
            noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise > np.quantile(noise, rng.uniform(0.3, 0.7))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), tolerance_m=st.sampled_from([0.3, 0.6, 2.0]))
def test_anything_comes_out_valid_and_within_the_guard(seed: int, tolerance_m: float) -> None:
    outlines, instances = trace_mask(ragged_mask(seed))
    config = FinishConfig(simplify_tolerance_m=tolerance_m, min_iou=0.9, min_hole_area_m2=0.3)
    finished, forms = finish_with_forms(outlines, instances, gsd_m=GSD_M, config=config)
    polygons = finished.to_shapely()
    assert len(polygons) == len(instances)
    assert shapely.is_valid(polygons).all()
    overlap = iou_with_runs(finished, instances)
    assert overlap[forms != FORM_NAMES.index("raw")].min(initial=1.0) >= 0.9
    shells = PolygonArray.from_shapely(shapely.orient_polygons(polygons))
    np.testing.assert_array_equal(shells.coords, finished.coords)  # oriented already


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), rows=st.integers(-(10**8), 10**8), cols=st.integers(0, 10**7))
def test_shape_depends_on_neither_place_nor_company(seed: int, rows: int, cols: int) -> None:
    outlines, instances = trace_mask(ragged_mask(seed, 64))
    config = FinishConfig()
    finished = finish_outlines(outlines, instances, gsd_m=GSD_M, config=config)
    moved = dataclasses.replace(
        instances,
        run_row=instances.run_row + np.int32(rows),
        run_start=instances.run_start + np.int32(cols),
        run_end=instances.run_end + np.int32(cols),
    )
    shift = np.array([cols, -rows], np.float64)
    there = finish_outlines(
        dataclasses.replace(outlines, coords=outlines.coords + shift),
        moved,
        gsd_m=GSD_M,
        config=config,
    )
    np.testing.assert_array_equal(there.coords - shift, finished.coords)
    np.testing.assert_array_equal(there.ring_offsets, finished.ring_offsets)
    some = np.arange(0, len(instances), 3)
    apart = finish_outlines(outlines.take(some), instances.take(some), gsd_m=GSD_M, config=config)
    np.testing.assert_array_equal(apart.coords, finished.take(some).coords)


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"min_iou = 1\.5"):
        FinishConfig(min_iou=1.5)
    with pytest.raises(ValueError, match="snap_angle_deg = 60"):
        FinishConfig(snap_angle_deg=60)
    outlines, instances = trace_mask(np.ones((4, 4), bool))
    with pytest.raises(ValueError, match="gsd_m = 0"):
        finish_outlines(outlines, instances, gsd_m=0, config=FinishConfig())
    with pytest.raises(ValueError, match="1 outlines for 0 instances"):
        finish_outlines(outlines, Instances.empty(), gsd_m=1, config=FinishConfig())
