import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.footprints import calibrate
from model.bundle import BundleMeta
from model.calibration import (
    MIN_SAMPLES,
    calibrate_held_out,
    calibration_error,
    fit_calibration,
    reliability,
)
from model.errors import CalibrationError
from model.intervals import bootstrap_interval, wilson_interval
from model.unet import NetworkConfig


def drawn(num, seed=0, share=lambda raw: raw**4):
    """Footprints whose raw confidence is far too high: right with probability raw^4."""
    rng = np.random.default_rng(seed)
    raw = rng.uniform(0.5, 1.0, num)
    return raw, rng.random(num) < share(raw)


def test_finds_the_curve_that_was_drawn():
    raw, truth = drawn(20_000)
    knots = fit_calibration(raw, truth)
    grid = np.linspace(0.55, 0.97, 30)
    np.testing.assert_allclose(calibrate(grid, knots), grid**4, atol=0.04)
    fresh, fresh_truth = drawn(5000, seed=1)
    before = calibration_error(fresh, fresh_truth)
    after = calibration_error(calibrate(fresh, knots), fresh_truth)
    assert before > 0.25
    assert after < 0.03


def test_a_calibrated_confidence_stays():
    raw, truth = drawn(20_000, share=lambda raw: raw)
    assert np.abs(calibrate(raw, fit_calibration(raw, truth)) - raw).max() < 0.05


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.booleans()), min_size=MIN_SAMPLES, max_size=4 * MIN_SAMPLES
    )
)
@settings(max_examples=60)
def test_any_samples_give_knots_that_a_bundle_takes_and_that_keep_the_order(samples):
    raw = np.array([level / 20 for level, _ in samples])
    truth = np.array([is_true for _, is_true in samples])
    knots = fit_calibration(raw, truth)
    meta = BundleMeta(
        name="any",
        network=NetworkConfig(encoder="resnet18"),
        bands=("red", "green", "blue"),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        gsd_m=0.3,
        calibration=knots,
    )
    grid = np.linspace(0, 1, 41)
    calibrated = meta.calibrate(grid)
    assert (np.diff(calibrated) > 0).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    np.testing.assert_array_equal(calibrated, calibrate(grid, knots))


def slow_isotonic(shares, weights):
    """The min-max formula: the largest over starts of the smallest over ends of block means."""
    n = len(shares)

    def mean(i, j):
        return float(np.average(shares[i : j + 1], weights=weights[i : j + 1]))

    return [max(min(mean(i, j) for j in range(k, n)) for i in range(k + 1)) for k in range(n)]


def test_the_knots_are_those_of_isotonic_regression():
    raw, truth = drawn(500, seed=2)
    knots = np.array(fit_calibration(raw, truth))[1:-1]
    order = np.argsort(raw)
    bins = np.array_split(order, 20)  # 500 samples: 20 bins of 25
    means = np.array([raw[one].mean() for one in bins])
    shares = np.array([(truth[one].sum() + 0.5) / 26 for one in bins])
    fitted = np.array(slow_isotonic(shares, np.full(20, 25)))
    for level in np.unique(fitted.round(9)):
        here = np.isclose(fitted, level)
        nearest = np.argmin(np.abs(knots[:, 0] - means[here].mean()))
        np.testing.assert_allclose(knots[nearest], [means[here].mean(), level], atol=1e-6)


@pytest.mark.parametrize(
    ("raw", "truth", "message"),
    [
        (np.full(MIN_SAMPLES - 1, 0.5), np.ones(MIN_SAMPLES - 1), "too few to calibrate"),
        (np.full(80, 1.5), np.ones(80), "not a number from 0 to 1"),
        (np.full(80, np.nan), np.ones(80), "not a number from 0 to 1"),
        (np.full(80, 0.5), np.ones(70), "expected one of each"),
    ],
)
def test_bad_samples_are_refused(raw, truth, message):
    with pytest.raises(CalibrationError, match=message):
        fit_calibration(raw, truth)


def test_held_out_places_do_not_see_themselves():
    usual = [drawn(300, seed=seed) for seed in range(3)]
    odd = (np.linspace(0.5, 1, 300), np.zeros(300, bool))  # never right, whatever the confidence
    calibrated = calibrate_held_out([*usual, odd])
    assert [len(values) for values in calibrated] == [300] * 4
    # The odd place is judged by the others, which know nothing of its kind.
    np.testing.assert_allclose(calibrated[3], odd[0] ** 4, atol=0.12)
    joined = [np.concatenate(parts) for parts in zip(*usual, strict=True)]
    np.testing.assert_array_equal(calibrated[3], calibrate(odd[0], fit_calibration(*joined)))
    with pytest.raises(CalibrationError, match="cannot be held out"):
        calibrate_held_out(usual[:1])


def test_reliability_by_hand():
    confidence = np.array([0.2, 0.4, 0.6, 0.8])
    found = reliability(confidence, [False, True, True, True], num_bins=2)
    np.testing.assert_allclose(found.confidence, [0.3, 0.7])
    np.testing.assert_allclose(found.share_true, [0.5, 1.0])
    assert found.num_samples.tolist() == [2, 2]
    assert found.error == pytest.approx((0.2 + 0.3) / 2)
    assert found.error_low <= found.error <= found.error_high
    assert (found.low <= found.share_true).all()
    assert (found.high >= found.share_true).all()


def test_equal_confidences_share_a_bin():
    found = reliability(np.array([0.5] * 9 + [0.9]), [True] * 10, num_bins=5)
    assert found.num_samples.tolist() == [9, 1]


def test_reliability_of_nothing():
    found = reliability(np.zeros(0), np.zeros(0, bool))
    assert len(found.confidence) == 0
    assert np.isnan(found.error)


def test_the_interval_holds_the_error_of_many():
    raw, truth = drawn(400)
    many = calibration_error(*drawn(100_000, seed=9))
    found = reliability(raw, truth)
    assert found.error_low < many < found.error_high
    assert reliability(raw, truth).error_low == found.error_low  # seeded


def test_wilson_by_hand():
    # Wilson's own form for 8 of 10, worked out by hand.
    z = 1.959963984540054
    p, n = 0.8, 10
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = wilson_interval(8, 10)
    assert (low, high) == (pytest.approx(centre - half), pytest.approx(centre + half))
    assert [float(v) for v in wilson_interval(0, 0)] == [0, 1]
    low, high = wilson_interval([0, 5], [5, 5])
    assert low[0] == 0
    assert high[1] == 1
    assert high[0] == pytest.approx(0.4345, abs=1e-4)


def test_bootstrap_of_a_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 1.0, 400)
    low, high = bootstrap_interval(lambda chosen: float(values[chosen].mean()), 400)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert np.isnan(bootstrap_interval(lambda chosen: 0.0, 0)).all()
    assert np.isnan(bootstrap_interval(lambda chosen: float("nan"), 3)).all()
