import csv
import io

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.s2cells import cell_from_token, cell_level
from model.intervals import wilson_interval
from model.thresholds import find_threshold, region_thresholds, thresholds_csv

# By confidence: right four times, then wrong, right, wrong, wrong.
CONFIDENCE = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6])
IS_TRUE = np.array([1, 1, 1, 1, 0, 1, 0, 0], bool)


def test_the_lowest_threshold_that_reaches_the_precision():
    found = find_threshold(CONFIDENCE, IS_TRUE, 0.8, min_samples=1)
    # 4 of 5 at 0.75, 5 of 6 at 0.7: both reach 80 %, the lower one keeps more.
    assert found is not None
    assert (found.min_confidence, found.num_samples) == (0.7, 6)
    assert found.precision == pytest.approx(5 / 6)
    low, high = wilson_interval(5, 6)
    assert (found.low, found.high) == (pytest.approx(float(low)), pytest.approx(float(high)))
    strict = find_threshold(CONFIDENCE, IS_TRUE, 0.9, min_samples=1)
    assert strict is not None
    assert strict.min_confidence == 0.8


def test_what_cannot_be_reached():
    assert find_threshold(CONFIDENCE, IS_TRUE, 0.9, min_samples=5) is None
    assert find_threshold(CONFIDENCE, np.zeros(8), 0.1, min_samples=1) is None
    assert find_threshold([], [], 0.8, min_samples=1) is None


def test_equal_confidences_stand_or_fall_together():
    # As published, to four decimals, the second and the third cannot be told apart.
    confidence = [0.9, 0.70003, 0.70001]
    assert find_threshold(confidence, [True, True, False], 1.0, min_samples=2) is None
    found = find_threshold(confidence, [True, True, False], 0.6, min_samples=2)
    assert found is not None
    assert found.min_confidence == 0.7


@given(
    st.lists(st.tuples(st.integers(5000, 10_000), st.booleans()), max_size=40),
    st.sampled_from([0.5, 0.8, 0.9, 1.0]),
    st.integers(1, 5),
)
@settings(max_examples=60)
def test_equals_trying_every_threshold(samples, precision, min_samples):
    confidence = np.array([step / 10_000 for step, _ in samples])
    is_true = np.array([one for _, one in samples], bool)
    reached = []
    for step in range(5000, 10_001):
        chosen = confidence >= step / 10_000 - 1e-9
        if chosen.sum() >= min_samples and is_true[chosen].mean() >= precision:
            reached.append((step, int(chosen.sum())))
    found = find_threshold(confidence, is_true, precision, min_samples=min_samples)
    if not reached:
        assert found is None
        return
    assert found is not None
    # A lower threshold that lets nothing more in would be the same one.
    most = max(num for _, num in reached)
    assert found.num_samples == most
    assert found.min_confidence == max(step for step, num in reached if num == most) / 10_000


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def regions(num=200, seed=0):
    """Footprints in Kampala, where confidence is good, and in Nacala, where none is right."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, num)
    is_kampala = np.arange(num) < num // 2
    lat = np.where(is_kampala, 0.31, -14.55) + rng.uniform(0, 0.001, num)
    lon = np.where(is_kampala, 32.6, 40.68) + rng.uniform(0, 0.001, num)
    is_true = is_kampala & (confidence > 0.7)
    is_false = ~is_true & (np.arange(num) % 10 > 0)  # a tenth of the others is not counted
    return region_thresholds(lat, lon, confidence, is_true, is_false), confidence, is_true, is_false


def test_the_table_has_the_columns_of_open_buildings():
    found, *_ = regions()
    rows = rows_of(thresholds_csv(found))
    assert list(rows[0])[:10] == [
        "s2_token",
        "geometry",
        "confidence_threshold_80%_precision",
        "confidence_threshold_85%_precision",
        "confidence_threshold_90%_precision",
        "building_count_80%_precision",
        "building_count_85%_precision",
        "building_count_90%_precision",
        "building_count",
        "num_samples",
    ]
    assert len(rows) == 2
    for row in rows:
        assert cell_level(cell_from_token(row["s2_token"])) == 4
        assert shapely.from_wkt(row["geometry"]).is_valid
    assert shapely.from_wkt(rows[0]["geometry"]).covers(shapely.Point(32.6, 0.31))


def test_the_table_holds_what_its_footprints_say():
    found, confidence, is_true, is_false = regions()
    kampala, nacala = rows_of(thresholds_csv(found))
    assert kampala["building_count"] == "100"
    here = np.arange(200) < 100
    assert int(kampala["num_samples"]) == int((is_true | is_false)[here].sum())
    threshold = float(kampala["confidence_threshold_90%_precision"])
    chosen = here & (confidence >= threshold)
    assert int(kampala["building_count_90%_precision"]) == int(chosen.sum())
    samples = chosen & (is_true | is_false)
    assert float(kampala["precision_90%"]) == pytest.approx(is_true[samples].mean(), abs=1e-4)
    assert int(kampala["num_samples_90%"]) == int(samples.sum())
    low, high = float(kampala["precision_low_90%"]), float(kampala["precision_high_90%"])
    assert 0 < low < 0.9 < high <= 1
    # Where nothing reaches a precision the cells are empty.
    for percent in (80, 85, 90):
        assert nacala[f"confidence_threshold_{percent}%_precision"] == ""
        assert nacala[f"building_count_{percent}%_precision"] == ""
        assert nacala[f"precision_low_{percent}%"] == ""
    assert nacala["building_count"] == "100"
