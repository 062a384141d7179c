import math

import numpy as np
import pytest
import shapely
from coco_scores import coco_result
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.matching import UNMATCHED, find_overlaps, match_greedily
from geo.metrics import (
    IOU_THRESHOLDS,
    count_splits_and_merges,
    evaluate_polygons,
    inside_area,
    match_polygons,
    num_vertices,
)


def boxes(*bounds):
    """Array of boxes from (x_min, y_min, x_max, y_max)."""
    made = np.empty(len(bounds), object)
    made[:] = [shapely.box(*bound) for bound in bounds]
    return made


REFERENCES = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10))


# ---------------------------------------------------------------------------------- known answers


def test_hand_computed_scores():
    predictions = boxes(
        (0, 0, 10, 10),  # IoU 1 with reference 0
        (20, 0, 28, 10),  # IoU 0.8 with reference 1
        (100, 0, 110, 10),  # matches nothing
        (40, 0, 50, 5),  # IoU 0.5 with reference 2: counts, the threshold is included
    )
    scores = evaluate_polygons(predictions, [0.9, 0.8, 0.7, 0.6], REFERENCES)

    # At IoU 0.5: recall .25, .5, .5, .75 with precision 1, 1, 2/3, 3/4; the envelope is 1 up to
    # recall 0.5 (51 points) and 3/4 up to 0.75 (25 points).
    assert scores.ap50 == pytest.approx((51 * 1.0 + 25 * 0.75) / 101)
    # From 0.55 to 0.80 two match: 51 points of 1; above, the first alone: 26 points.
    expected = [(51 + 18.75) / 101] + [51 / 101] * 6 + [26 / 101] * 3
    np.testing.assert_allclose(scores.average_precision, expected)
    assert scores.ap50_95 == pytest.approx(np.mean(expected))

    point = scores.at_threshold
    assert (point.num_true_positives, point.num_false_positives) == (3, 1)
    assert (point.num_false_negatives, point.num_ignored) == (1, 0)
    assert point.precision == point.recall == point.f1 == 0.75
    assert point.mean_iou == pytest.approx((1 + 0.8 + 0.5) / 3)
    assert point.mean_vertices == 4
    np.testing.assert_allclose(scores.curve.confidence, [0.9, 0.8, 0.7, 0.6])
    np.testing.assert_allclose(scores.curve.precision, [1, 1, 2 / 3, 3 / 4])
    np.testing.assert_allclose(scores.curve.recall, [0.25, 0.5, 0.5, 0.75])
    np.testing.assert_allclose(scores.curve.f1, [0.4, 2 / 3, 4 / 7, 0.75])


def test_threshold_and_best_f1_differ():
    predictions = boxes((0, 0, 10, 10), (20, 0, 30, 10), (200, 0, 201, 1), (300, 0, 301, 1))
    confidence = [0.9, 0.8, 0.7, 0.6]
    scores = evaluate_polygons(predictions, confidence, REFERENCES, min_confidence=0.85)
    assert scores.at_threshold.min_confidence == 0.85
    assert scores.at_threshold.num_true_positives == 1
    assert scores.at_threshold.f1 == pytest.approx(0.4)
    assert scores.at_best_f1.min_confidence == 0.8
    assert scores.at_best_f1.f1 == pytest.approx(2 / 3)


def test_equal_confidences_are_one_point_of_the_curve():
    predictions = boxes((0, 0, 10, 10), (200, 0, 201, 1), (20, 0, 30, 10))
    curve = evaluate_polygons(predictions, [0.5, 0.5, 0.5], REFERENCES).curve
    assert curve.confidence.tolist() == [0.5]
    assert curve.precision.tolist() == [pytest.approx(2 / 3)]


def test_a_reference_is_matched_once_by_the_more_confident():
    predictions = boxes((0, 0, 10, 8), (0, 0, 10, 10))
    overlaps = find_overlaps(predictions, REFERENCES)
    matches = match_greedily(overlaps, np.array([0, 1]), len(REFERENCES), 0.5)
    assert matches.tolist() == [0, UNMATCHED]
    matches = match_greedily(overlaps, np.array([1, 0]), len(REFERENCES), 0.5)
    assert matches.tolist() == [UNMATCHED, 0]


def test_a_prediction_takes_the_second_best_reference_when_the_best_is_taken():
    references = boxes((0, 0, 10, 10), (0, 0, 10, 8))
    predictions = boxes((0, 0, 10, 10), (0, 0, 10, 10))
    overlaps = find_overlaps(predictions, references)
    assert match_greedily(overlaps, np.array([1, 0]), 2, 0.5).tolist() == [1, 0]
    assert match_greedily(overlaps, np.array([1, 0]), 2, 0.9).tolist() == [UNMATCHED, 0]


def test_touching_polygons_are_no_overlap():
    assert len(find_overlaps(boxes((10, 0, 20, 10)), REFERENCES)) == 0


def test_splits_and_merges():
    references = boxes((0, 0, 10, 10), (20, 0, 30, 10), (32, 0, 42, 10))
    predictions = boxes(
        (0, 0, 4, 10),  # two pieces of reference 0
        (5, 0, 10, 10),
        (20, 0, 42, 10),  # covers references 1 and 2
        (9, 9, 11, 11),  # a quarter of it in reference 0: no piece
        (1, 1, 2, 2),  # inside reference 0, but 1 % of it: a speck
    )
    overlaps = find_overlaps(predictions, references)
    areas = shapely.area(predictions), shapely.area(references)
    assert count_splits_and_merges(overlaps, *areas) == (1, 1)
    speck_alone = overlaps.take(overlaps.prediction != 1)
    assert count_splits_and_merges(speck_alone, *areas) == (0, 1)
    point = evaluate_polygons(predictions, np.ones(5), references).at_threshold
    assert (point.num_splits, point.num_merges) == (1, 1)


def test_splits_follow_the_threshold():
    predictions = boxes((0, 0, 4, 10), (5, 0, 10, 10))
    scores = evaluate_polygons(predictions, [0.9, 0.5], REFERENCES, min_confidence=0.8)
    assert scores.at_threshold.num_splits == 0
    scores = evaluate_polygons(predictions, [0.9, 0.5], REFERENCES, min_confidence=0.5)
    assert scores.at_threshold.num_splits == 1


def test_size_bins():
    references = boxes((0, 0, 4, 5), (10, 0, 15, 5), (20, 0, 30, 15), (40, 0, 70, 30))
    predictions = boxes((0, 0, 4, 5), (20, 0, 30, 15), (90, 0, 100, 15))
    bins = evaluate_polygons(predictions, np.ones(3), references).size_bins
    assert [b.num_references for b in bins] == [1, 1, 0, 1, 0, 1]  # 20, 25, -, 150, -, 900 m2
    assert [b.num_predictions for b in bins] == [1, 0, 0, 2, 0, 0]
    assert [b.recall for b in bins if b.num_references] == [1, 0, 1, 0]
    assert [b.precision for b in bins if b.num_predictions] == [1, 0.5]
    assert math.isnan(bins[2].recall)
    assert math.isnan(bins[1].precision)


def test_vertices_leave_out_closing_points():
    ring = shapely.Polygon(shapely.box(0, 0, 9, 9).exterior, [shapely.box(2, 2, 4, 4).exterior])
    assert num_vertices(np.array([shapely.box(0, 0, 1, 1), ring])).tolist() == [4, 8]


# -------------------------------------------------------------------------------- the labelled area


AOI = shapely.box(-5, -5, 65, 20)  # the last reference, x from 60 to 70, straddles its edge


def test_a_reference_across_the_edge_is_not_counted_and_hides_predictions():
    predictions = boxes(
        (0, 0, 10, 10),
        (60, 0, 64.9, 10),  # inside the AOI, wholly within the ignored reference
        (56, 0, 64, 10),  # half of it in the ignored reference: still ignored
        (51, 0, 64, 10),  # less than half: false
    )
    scores = evaluate_polygons(predictions, [0.4, 0.9, 0.8, 0.7], REFERENCES, aoi=AOI)
    assert (scores.num_references, scores.num_ignored_references) == (3, 1)
    point = scores.at_threshold
    assert (point.num_true_positives, point.num_false_positives, point.num_ignored) == (1, 1, 2)
    assert point.num_false_negatives == 2
    # One false positive ranks above the true one: precision 1/2 up to recall 1/3.
    assert scores.ap50 == pytest.approx(34 * 0.5 / 101)
    assert math.isnan(scores.curve.precision[0])


def test_predictions_beyond_the_area_are_ignored_unless_they_match():
    references = boxes((55, 0, 65, 10))  # touches the edge from within
    outside = boxes((100, 0, 110, 10), (55, 0, 66, 10))
    scores = evaluate_polygons(outside, [0.9, 0.8], references, aoi=AOI)
    point = scores.at_threshold
    assert (point.num_true_positives, point.num_false_positives, point.num_ignored) == (1, 0, 1)
    assert scores.ap50 == 1.0


def test_matching_names_who_found_whom():
    predictions = boxes(
        (60, 0, 64.9, 10),  # within the reference that is not counted
        (20, 0, 28, 10),  # IoU 0.8 with reference 1
        (0, 0, 2, 10),  # a fifth of reference 0
        (20, 0, 30, 10),  # reference 1 again: the more confident one has it
    )
    found = match_polygons(predictions, [0.9, 0.8, 0.7, 0.6], REFERENCES, aoi=AOI)
    assert found.reference.tolist() == [UNMATCHED, 1, UNMATCHED, UNMATCHED]
    assert found.is_ignored.tolist() == [True, False, False, False]
    assert found.is_false.tolist() == [False, False, True, True]
    assert found.is_counted.tolist() == [True, True, True, False]
    assert found.is_missed.tolist() == [True, False, True, False]
    np.testing.assert_allclose(found.iou, [np.nan, 0.8, np.nan, np.nan])
    point = evaluate_polygons(predictions, [0.9, 0.8, 0.7, 0.6], REFERENCES, aoi=AOI).at_threshold
    assert (point.num_true_positives, point.num_false_positives) == (1, 2)
    # With an uncounted reference first, positions are still those of the list given.
    turned = match_polygons(predictions, [0.9, 0.8, 0.7, 0.6], REFERENCES[::-1], aoi=AOI)
    assert turned.reference.tolist() == [UNMATCHED, 2, UNMATCHED, UNMATCHED]


def test_matching_of_nothing():
    nothing = match_polygons(boxes(), [], REFERENCES)
    assert nothing.is_missed.all()
    found = match_polygons(REFERENCES, [0.5] * 4, boxes())
    assert found.is_false.all()


def test_inside_tolerates_rounding():
    made = boxes((60, 0, 65.005, 10), (60, 0, 65.02, 10))
    assert inside_area(made, AOI).tolist() == [True, False]
    assert inside_area(made, None).tolist() == [True, True]


# -------------------------------------------------------------------------------------- degenerate


def test_nothing_predicted():
    scores = evaluate_polygons(boxes(), [], REFERENCES)
    assert scores.ap50 == scores.ap50_95 == 0.0
    assert scores.at_threshold.recall == 0.0
    assert scores.at_threshold.num_false_negatives == 4
    assert math.isnan(scores.at_threshold.precision)
    assert math.isnan(scores.at_threshold.mean_iou)
    assert len(scores.curve.f1) == 0


def test_no_reference():
    scores = evaluate_polygons(boxes((0, 0, 1, 1)), [0.5], boxes())
    assert math.isnan(scores.ap50)
    assert math.isnan(scores.at_threshold.recall)
    assert scores.at_threshold.precision == 0.0


@pytest.mark.parametrize("confidence", [[0.5], [0.5, math.nan], [[0.5, 0.5]]])
def test_confidences_are_checked(confidence):
    with pytest.raises(ValueError, match="one finite number per prediction"):
        evaluate_polygons(boxes((0, 0, 1, 1), (2, 0, 3, 1)), confidence, REFERENCES)


# ------------------------------------------------------------------------------------------ oracles


def oracle_average_precision(predictions, confidence, references, counted, ignorable, threshold):
    """COCO's procedure, written out pair by pair."""
    free = set(np.flatnonzero(counted).tolist())
    flags = []
    for prediction in sorted(range(len(predictions)), key=lambda i: -confidence[i]):
        best, best_iou = None, threshold
        for reference in sorted(free):
            a, b = predictions[prediction], references[reference]
            shared = a.intersection(b).area
            iou = shared / (a.area + b.area - shared) if shared else 0.0
            if iou >= best_iou:
                best, best_iou = reference, iou
        if best is not None:
            free.remove(best)
            flags.append(True)
        elif not ignorable[prediction]:
            flags.append(False)
    if not counted.any():
        return math.nan
    total = 0.0
    hits = np.cumsum(flags) if flags else np.zeros(0)
    for point in range(101):
        reached = [
            hits[j] / (j + 1)
            for j in range(len(flags))
            if hits[j] / counted.sum() >= np.linspace(0, 1, 101)[point]
        ]
        total += max(reached, default=0.0)
    return total / 101


def oracle_ignorable(predictions, references, counted, aoi):
    flags = []
    for prediction in predictions:
        hidden = sum(prediction.intersection(reference).area for reference in references[~counted])
        flags.append(hidden >= 0.5 * prediction.area or not aoi.buffer(0.01).covers(prediction))
    return flags


box_bounds = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    *(st.integers(0, 24) for _ in range(2)),
    *(st.integers(1, 8) for _ in range(2)),
)


@given(
    st.lists(st.tuples(box_bounds, st.integers(0, 5)), max_size=12),
    st.lists(box_bounds, max_size=12),
)
@settings(deadline=None, max_examples=150)
def test_average_precision_equals_the_quadratic_oracle(made, reference_bounds):
    predictions = boxes(*(bound for bound, _ in made))
    confidence = np.array([level / 5 for _, level in made])
    references = boxes(*reference_bounds)
    aoi = shapely.box(0, 0, 20, 20)
    scores = evaluate_polygons(predictions, confidence, references, aoi=aoi)
    counted = np.array([aoi.covers(reference) for reference in references], bool)
    ignorable = oracle_ignorable(predictions, references, counted, aoi)
    expected = [
        oracle_average_precision(predictions, confidence, references, counted, ignorable, t)
        for t in IOU_THRESHOLDS
    ]
    np.testing.assert_allclose(scores.average_precision, expected, rtol=0, atol=1e-12)


@given(st.lists(box_bounds, max_size=15), st.lists(box_bounds, max_size=15))
@settings(deadline=None, max_examples=100)
def test_overlaps_equal_all_pairs_and_are_symmetric(first, second):
    a, b = boxes(*first), boxes(*second)
    found = find_overlaps(a, b)
    expected = {
        (i, j): p.intersection(q).area / p.union(q).area
        for i, p in enumerate(a)
        for j, q in enumerate(b)
        if p.intersection(q).area > 0
    }
    pairs = list(zip(found.prediction.tolist(), found.reference.tolist(), strict=True))
    assert pairs == sorted(expected)
    np.testing.assert_allclose(found.iou, [expected[pair] for pair in pairs])
    turned = find_overlaps(b, a)
    assert sorted(turned.iou.tolist()) == pytest.approx(sorted(found.iou.tolist()))


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_faster_coco_eval(seed):
    rng = np.random.default_rng(seed)
    corner, size = rng.integers(0, 48, (40, 2)), rng.integers(3, 15, (40, 2))
    references = boxes(*np.hstack([corner, corner + size]).tolist())
    # Near copies, so that every threshold has matches; and strangers.
    low = np.clip(corner + rng.integers(-1, 2, (40, 2)), 0, 60)
    high = np.maximum(np.clip(corner + size + rng.integers(-1, 2, (40, 2)), 0, 64), low + 1)
    strangers = [[60, y, 64, y + 2] for y in range(0, 30, 3)]
    bounds = np.vstack([np.hstack([low, high]), strangers])[rng.permutation(50)]
    predictions = boxes(*bounds.tolist())
    confidence = rng.permutation(50) / 50  # all distinct: COCO leaves the order of ties open
    scores = evaluate_polygons(predictions, confidence, references)
    ap, ap50, _ = coco_result(predictions, confidence, references)
    assert 0.1 < ap50 < 1
    assert scores.ap50 == pytest.approx(ap50, abs=1e-9)
    assert scores.ap50_95 == pytest.approx(ap, abs=1e-9)
