"""AP50 of rasters on cases whose answer is known."""

import math

import numpy as np
import pytest

from geo.components import find_instances
from geo.pixel_window import PixelWindow
from geo.rim import contrast, find_rim
from model.mask_scores import MaskMatches, match_masks, pooled_ap50


def town() -> tuple[np.ndarray, np.ndarray]:
    ids = np.zeros((60, 80), np.int32)
    for k in range(4):
        ids[10:20, 5 + 18 * k : 15 + 18 * k] = k + 1
        ids[35:45, 5 + 18 * k : 15 + 18 * k] = k + 5
    return ids, np.ones(ids.shape, bool)


def score(probability: np.ndarray, ids: np.ndarray, known: np.ndarray, grow_px: int = 0) -> float:
    return pooled_ap50([matches(probability, ids, known, grow_px)])


def matches(
    probability: np.ndarray, ids: np.ndarray, known: np.ndarray, grow_px: int = 0
) -> MaskMatches:
    return match_masks(probability.astype(np.float32), ids, known, grow_px=grow_px, threshold=0.5)


def test_all_found() -> None:
    ids, known = town()
    assert score(0.9 * (ids > 0), ids, known) == pytest.approx(1.0)


def test_eroded_cores_are_grown_back() -> None:
    ids, known = town()
    core = np.zeros(ids.shape)
    for k in range(1, 9):
        rows, cols = np.nonzero(ids == k)
        core[rows.min() + 2 : rows.max() - 1, cols.min() + 2 : cols.max() - 1] = 0.9
    assert score(core, ids, known) == 0.0  # 36 of 100 pixels
    assert score(core, ids, known, grow_px=2) == pytest.approx(1.0)


def test_half_found_and_a_false_one_ranked_first() -> None:
    ids, known = town()
    probability = np.where((ids > 0) & (ids <= 4), 0.8, 0.0)
    assert score(probability, ids, known) == pytest.approx(51 / 101)  # recalls 0 to 0.50
    probability[50:55, 5:10] = 0.95  # precision of the four becomes 1/2, 2/3, 3/4, 4/5
    assert score(probability, ids, known) == pytest.approx(51 / 101 * 0.8)


def test_unknown_ground_is_not_counted() -> None:
    ids, known = town()
    known[30:] = False
    probability = np.where((ids > 0) & (ids <= 4), 0.8, 0.0)
    probability[50:55, 5:10] = 0.95
    assert score(probability, ids, known) == pytest.approx(1.0)


def test_nothing_to_find_is_no_score() -> None:
    ids = np.zeros((20, 20), np.int32)
    assert math.isnan(score(np.zeros(ids.shape), ids, np.ones(ids.shape, bool)))
    ids[:5] = 1  # cut by the raster's edge
    assert math.isnan(score(np.zeros(ids.shape), ids, np.ones(ids.shape, bool)))


def test_nothing_found() -> None:
    ids, known = town()
    assert score(np.zeros(ids.shape), ids, known) == 0.0


def test_pooled_places_are_ranked_together() -> None:
    ids, known = town()
    good = matches(np.where((ids > 0) & (ids <= 4), 0.8, 0.0), ids, known)
    false = np.zeros(ids.shape)
    false[50:55, 5:10] = 0.95
    nothing = matches(false, np.zeros_like(ids), known)
    assert (nothing.num_references, nothing.is_hit.tolist()) == (0, [False])
    assert pooled_ap50([good, nothing]) == pytest.approx(51 / 101 * 0.8)
    assert math.isnan(pooled_ap50([nothing]))
    assert math.isnan(pooled_ap50([]))


def test_neighbours_are_cut_apart() -> None:
    """A low threshold joins the first two, whose gap is a valley; only with cuts both count."""
    ids, known = town()
    probability = np.where(ids > 0, 0.9, 0.0)
    probability[10:20, 15:23] = 0.3
    probability[10:20, 18] = 0.25
    options = {"grow_px": 0, "threshold": 0.2}
    joined = match_masks(probability.astype(np.float32), ids, known, **options)
    cut = match_masks(probability.astype(np.float32), ids, known, valley_depth=0.35, **options)
    shallow = match_masks(probability.astype(np.float32), ids, known, valley_depth=0.7, **options)
    assert (joined.is_hit.sum(), joined.num_merges) == (6, 1)
    assert (cut.is_hit.sum(), cut.num_merges) == (8, 0)
    assert (shallow.is_hit.sum(), shallow.num_merges) == (6, 1)


def test_splits_and_merges_are_counted() -> None:
    ids, known = town()
    probability = 0.9 * (ids > 0)
    probability[10:20, 10] = 0.0  # the first in two
    probability[12:18, 33:41] = 0.9  # second and third as one
    found = matches(probability, ids, known)
    assert (found.num_splits, found.num_merges) == (1, 1)
    assert found.num_references == 8
    whole = matches(0.9 * (ids > 0), ids, known)
    assert (whole.num_splits, whole.num_merges) == (0, 0)


def test_contrast_is_that_of_the_main_job() -> None:
    ids, known = town()
    rng = np.random.default_rng(3)
    levels = np.where(ids > 0, rng.integers(128, 256, ids.shape), rng.integers(0, 128, ids.shape))
    levels = levels.astype(np.uint8)
    found = match_masks(
        (levels / 255.0).astype(np.float32),
        ids,
        known,
        grow_px=0,
        threshold=128 / 255,
        confidence="contrast",
    )
    window = PixelWindow(0, 0, ids.shape[1], ids.shape[0])
    rim = find_rim(levels, levels >= 128)
    wanted = find_instances(levels, threshold=128, window=window, rim=rim)
    inside = wanted.probability_sum / (255.0 * wanted.num_pixels)
    certain = contrast(inside, wanted.rim_sum, wanted.rim_count)
    np.testing.assert_allclose(found.confidence, np.sort(certain)[::-1], rtol=1e-6)
    assert found.confidence.max() < inside.min() < 0.8
