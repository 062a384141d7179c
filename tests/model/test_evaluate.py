import math

import numpy as np
import pytest
import shapely
from coco_scores import coco_result

from model.evaluate import (
    area_iou,
    by_category,
    interpolated_precision,
    mean_curve,
    mean_numbers,
    num_counted,
    score_place,
)


def boxes(*bounds):
    made = np.empty(len(bounds), object)
    made[:] = [shapely.box(*bound) for bound in bounds]
    return made


REFERENCES = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10))
FOUND = boxes(
    (0, 0, 10, 10),  # reference 0
    (20, 0, 28, 10),  # reference 1, 2 m short on one side
    (40, 0, 44, 10),  # two parts of reference 2
    (44.5, 0, 50, 10),
    (100, 0, 110, 10),  # nothing
)
CONFIDENCE = [0.9, 0.8, 0.7, 0.65, 0.6]


def place(name="town", predictions=FOUND, confidence=CONFIDENCE, **options):
    options = {"gsd_m": 0.3, "aoi": None, **options}
    return score_place(name, predictions, confidence, REFERENCES, **options)


def test_numbers_of_a_place():
    numbers = place().numbers()
    # The larger part of reference 2 matches it at IoU 0.55.
    assert numbers["precision"] == pytest.approx(3 / 5)
    assert numbers["recall"] == pytest.approx(3 / 4)
    assert numbers["f1"] == pytest.approx(2 * 3 / 9)
    assert numbers["split_rate"] == pytest.approx(1 / 4)
    assert numbers["merge_rate"] == 0
    assert numbers["num_references"] == 4
    assert numbers["num_footprints"] == 5
    # 10 x 10, 8 x 10, 4 x 10, 5.5 x 10 found of 400 m2, 100 m2 beside.
    assert numbers["pixel_iou"] == pytest.approx(275 / 500)
    assert numbers["best_f1_confidence"] == 0.65


def test_the_boundary_error_is_that_of_the_matches():
    exact = place(predictions=FOUND[:1], confidence=[0.9])
    assert exact.boundary_m == pytest.approx(0, abs=1e-9)
    short = place(predictions=FOUND[1:2], confidence=[0.9]).boundary_m
    # From the short one: one side is 2 m off, nearer to the others' ends; the rest lies on the
    # reference. From the reference: that side, and the ends of the two beside it.
    there = (6 * 2 + 2 * 2 * 1) / 36
    back = (10 * 2 + 2 * 2 * 1) / 40
    assert short == pytest.approx((there + back) / 2, rel=0.02)
    both = place(predictions=FOUND[:2], confidence=[0.9, 0.8]).boundary_m
    assert both == pytest.approx(short / 2)
    assert math.isnan(place(predictions=FOUND[4:], confidence=[0.9]).boundary_m)


def test_the_threshold_leaves_average_precision_alone():
    all_of_them, sure = place(), place(min_confidence=0.75)
    assert sure.scores.ap50 == all_of_them.scores.ap50
    assert sure.numbers()["precision"] == 1
    assert sure.pixel_iou == pytest.approx(180 / 400)
    assert num_counted(sure.scores.at_threshold) == 2


def test_area_iou_inside_the_labelled_area():
    aoi = shapely.box(5, 0, 105, 10)
    # Half of reference 0 is inside and found; half of the false one is inside.
    inside = 50 + 80 + 40 + 55
    assert area_iou(FOUND, REFERENCES, aoi) == pytest.approx(inside / (350 + 50))
    assert area_iou(boxes(), REFERENCES, None) == 0
    assert math.isnan(area_iou(boxes(), boxes(), None))
    # Ground that two footprints share counts once.
    assert area_iou(boxes((0, 0, 10, 10), (0, 0, 10, 10)), REFERENCES[:1], None) == 1


def test_nothing_found():
    numbers = place(predictions=boxes(), confidence=[]).numbers()
    assert numbers["ap50"] == numbers["recall"] == numbers["pixel_iou"] == 0
    for name in ("precision", "merge_rate", "boundary_m"):
        assert math.isnan(numbers[name])


def test_means_are_over_places():
    good = place("good", FOUND[:1], [0.9])
    none = place("none", boxes(), [])
    full = place("full", REFERENCES, [0.5] * 4)
    means = mean_numbers([good, none, full])
    assert means["ap50"] == pytest.approx((26 / 101 + 0 + 1) / 3)
    # Undefined where nothing was found: the mean is over the other two.
    assert means["precision"] == 1
    assert means["num_references"] == 12
    assert mean_numbers([]) == {}
    assert math.isnan(mean_numbers([none])["precision"])


def test_the_mean_curve_has_the_mean_average_precision():
    places = [place("a"), place("b", FOUND[:2], [0.9, 0.8]), place("c", boxes(), [])]
    curve = mean_curve(places)
    assert curve.shape == (101,)
    assert curve.mean() == pytest.approx(np.mean([one.scores.ap50 for one in places]))
    with pytest.raises(ValueError, match="no places"):
        mean_curve([])


def test_by_category_keeps_the_order():
    places = [place("a", category="b"), place("b", category="a"), place("c", category="b")]
    groups = by_category(places)
    assert {name: [one.name for one in group] for name, group in groups.items()} == {
        "b": ["a", "c"],
        "a": ["b"],
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_curve_agrees_with_faster_coco_eval(seed):
    rng = np.random.default_rng(seed)
    corner, size = rng.integers(0, 48, (30, 2)), rng.integers(3, 15, (30, 2))
    references = boxes(*np.hstack([corner, corner + size]).tolist())
    low = np.clip(corner + rng.integers(-2, 3, (30, 2)), 0, 60)
    high = np.maximum(np.clip(corner + size + rng.integers(-2, 3, (30, 2)), 0, 64), low + 1)
    predictions = boxes(*np.hstack([low, high])[rng.permutation(30)].tolist())
    confidence = rng.permutation(30) / 30
    _, ap50, precision = coco_result(predictions, confidence, references)
    found = score_place("drawn", predictions, confidence, references, gsd_m=1, aoi=None)
    np.testing.assert_allclose(interpolated_precision(found.scores.curve), precision, atol=1e-9)
    assert found.scores.ap50 == pytest.approx(ap50, abs=1e-9)
