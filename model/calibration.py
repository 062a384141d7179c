"""Calibrated confidence: a footprint of confidence 0.8 is right eight times out of ten.

"Right" means that it matches a reference at IoU 0.5. The raw confidence, made of probabilities of
pixels, says little about that: it knows little of neighbours merged and outlines cut short. A
monotone curve from raw to calibrated mends the scale and leaves the order, and so average
precision, as it is.

The curve: samples in bins of equal number, the share of right ones in each bin (with half a right
and half a wrong one added, so that a bin is never quite sure), isotonic regression over the bins
(Zadrozny and Elkan 2002), a knot in the middle of each level stretch and straight lines between.
Isotonic regression on the samples themselves learns the noise of a few hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geo.footprints import calibrate
from model.errors import CalibrationError
from model.intervals import bootstrap_interval, wilson_interval

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Knots = tuple[tuple[float, float], ...]

MIN_SAMPLES = 50
"""Fewer footprints than this fit no curve."""
_SAMPLES_PER_BIN = 25
_MAX_BINS = 20
_NUM_DECIMALS = 6
# How far the curve rises from the outermost knots to 0 and to 1, as a share of the way. Just enough
# to keep the order there; the samples do not tell more.
_END_RISE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How confidence compares with the share of right footprints, in bins of equal number.

    Attributes:
        confidence: mean confidence of each bin, rising, float64, shape (num_bins,).
        share_true: share of right footprints in each bin.
        low: lower end of its 95 % interval (Wilson).
        high: upper end.
        num_samples: footprints in each bin, int64.
        error: expected calibration error: mean over footprints of the distance between their bin's
            confidence and share; NaN without footprints.
        error_low: lower end of its 95 % interval (bootstrap over footprints).
        error_high: upper end. The error of few samples is too large rather than too small: a
            perfectly calibrated bin of n samples shows 0.4 / sqrt(n) at a share of one half.
    """

    confidence: Float64Array
    share_true: Float64Array
    low: Float64Array
    high: Float64Array
    num_samples: npt.NDArray[np.int64]
    error: float
    error_low: float
    error_high: float


def fit_calibration(raw: npt.ArrayLike, is_true: npt.ArrayLike) -> Knots:
    """Fit the knots of a bundle's `calibration`.

    Args:
        raw: raw confidence of each footprint, 0 to 1, shape (n,).
        is_true: whether it matches a reference; leave out those that are neither right nor wrong.

    Returns:
        Knots (raw, calibrated) from raw 0 to raw 1, both rising strictly, so that the order of
        footprints stays.

    Raises:
        CalibrationError: for fewer than `MIN_SAMPLES` footprints, or confidences out of range.
    """
    confidence, truth = _checked(raw, is_true)
    if len(confidence) < MIN_SAMPLES:
        raise CalibrationError(
            f"{len(confidence)} scored footprints are too few to calibrate; expected at least "
            f"{MIN_SAMPLES}. Add validation places"
        )
    num_bins = int(np.clip(len(confidence) // _SAMPLES_PER_BIN, 1, _MAX_BINS))
    means, num_true, num = _bin_up(confidence, truth, num_bins)
    return _with_ends(*_isotonic(means, (num_true + 0.5) / (num + 1.0), num))


def calibrate_held_out(groups: Sequence[tuple[Float64Array, BoolArray]]) -> list[Float64Array]:
    """Calibrate every place with a curve that has not seen it: the honest "after".

    Args:
        groups: raw confidence and truth of each place.

    Returns:
        Calibrated confidences of each place, each by the curve of all the others.

    Raises:
        CalibrationError: if there is only one place, or the others of a place are too few.
    """
    if len(groups) < 2:
        raise CalibrationError("one place alone cannot be held out; expected two or more")
    results = []
    for index, (raw, _) in enumerate(groups):
        others = [group for other, group in enumerate(groups) if other != index]
        knots = fit_calibration(*(np.concatenate(parts) for parts in zip(*others, strict=True)))
        results.append(calibrate(raw, knots))
    return results


def reliability(
    confidence: npt.ArrayLike, is_true: npt.ArrayLike, *, num_bins: int = 10, seed: int = 0
) -> Reliability:
    """Reliability diagram and expected calibration error.

    Args:
        confidence: of each footprint, 0 to 1, shape (n,).
        is_true: whether it matches a reference.
        num_bins: bins of equal number; fewer where equal confidences do not allow it.
        seed: of the bootstrap.

    Raises:
        CalibrationError: for confidences out of range.
    """
    values, truth = _checked(confidence, is_true)
    means, num_true, num = _bin_up(values, truth, num_bins)
    low, high = wilson_interval(num_true, num)
    error_low, error_high = bootstrap_interval(
        lambda chosen: calibration_error(values[chosen], truth[chosen], num_bins=num_bins),
        len(values),
        seed=seed,
    )
    return Reliability(
        confidence=means,
        share_true=num_true / np.maximum(num, 1),
        low=low,
        high=high,
        num_samples=num,
        error=calibration_error(values, truth, num_bins=num_bins),
        error_low=error_low,
        error_high=error_high,
    )


def calibration_error(confidence: Float64Array, is_true: BoolArray, *, num_bins: int = 10) -> float:
    """Expected calibration error over bins of equal number; NaN without footprints."""
    means, num_true, num = _bin_up(confidence, is_true, num_bins)
    if num.sum() == 0:
        return float("nan")
    return float(np.abs(means * num - num_true).sum() / num.sum())


def _checked(confidence: npt.ArrayLike, is_true: npt.ArrayLike) -> tuple[Float64Array, BoolArray]:
    values, truth = np.asarray(confidence, np.float64), np.asarray(is_true, np.bool_)
    if values.ndim != 1 or values.shape != truth.shape:
        raise CalibrationError(
            f"confidences of shape {values.shape} and truths of shape {truth.shape}; expected one "
            "of each per footprint"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise CalibrationError("a confidence is not a number from 0 to 1")
    return values, truth


def _bin_up(
    confidence: Float64Array, is_true: BoolArray, num_bins: int
) -> tuple[Float64Array, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Mean confidence, right ones and number of bins of about equal number, by confidence.

    Equal confidences stay together: the bins, like any threshold, cannot tell them apart.
    """
    n = len(confidence)
    if n == 0:
        none = np.zeros(0, np.int64)
        return np.zeros(0), none, none
    order = np.argsort(confidence, kind="stable")
    values, truth = confidence[order], is_true[order]
    wanted = np.arange(num_bins) * n // num_bins
    before = np.searchsorted(values, values[wanted], side="left")
    after = np.searchsorted(values, values[wanted], side="right")
    starts = np.unique(np.where(wanted - before <= after - wanted, before, after))
    starts = starts[starts < n].astype(np.int64)
    num = np.diff(np.append(starts, n))
    num_true = np.add.reduceat(truth.astype(np.int64), starts)
    return np.add.reduceat(values, starts) / num, num_true, num


def _isotonic(
    means: Float64Array, shares: Float64Array, num: npt.NDArray[np.int64]
) -> tuple[Float64Array, Float64Array]:
    """Level stretches of the isotonic regression: where their middles lie, and their values."""
    # Here, since the import takes a while and only fitting needs it.
    from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]

    fitted = isotonic_regression(shares, weights=num.astype(np.float64))
    starts = np.asarray(fitted.blocks[:-1], np.int64)
    weight = np.add.reduceat(num, starts)
    return np.add.reduceat(means * num, starts) / weight, np.asarray(fitted.x)[starts]


def _with_ends(raw: Float64Array, calibrated: Float64Array) -> Knots:
    """Knots with ends at raw 0 and 1, rounded; those that rounding makes equal are left out."""
    first, last = float(calibrated[0]), float(calibrated[-1])
    knots = [(0.0, first * (1 - _END_RISE))]
    knots += zip(raw.tolist(), calibrated.tolist(), strict=True)
    knots.append((1.0, last + (1 - last) * _END_RISE))
    rising: list[tuple[float, float]] = []
    for x, y in ((round(x, _NUM_DECIMALS), round(y, _NUM_DECIMALS)) for x, y in knots):
        if not rising or (x > rising[-1][0] and y > rising[-1][1]):
            rising.append((x, y))
    return tuple(rising)
