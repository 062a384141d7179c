"""How sure a share or a score is, given how few samples it comes from."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

CONFIDENCE_LEVEL = 0.95
"""Share of intervals that hold the truth."""
NUM_RESAMPLES = 1000
_Z = 1.959963984540054  # the normal quantile of 0.975


def wilson_interval(
    num_true: npt.ArrayLike, num_samples: npt.ArrayLike
) -> tuple[Float64Array, Float64Array]:
    """95 % interval of a share by Wilson's score method (1927), which holds for few samples too.

    Args:
        num_true: samples that are true, any shape.
        num_samples: samples in all, same shape; none gives the interval from 0 to 1.

    Returns:
        Lower and upper ends, float64, in [0, 1].
    """
    n = np.asarray(num_samples, np.float64)
    share = np.asarray(num_true, np.float64) / np.maximum(n, 1.0)
    scale = np.maximum(n, 1.0)
    middle = (share + _Z**2 / (2 * scale)) / (1 + _Z**2 / scale)
    reach = _Z / (1 + _Z**2 / scale) * np.sqrt(share * (1 - share) / scale + (_Z / scale) ** 2 / 4)
    low = np.where(n > 0, np.clip(middle - reach, 0.0, share), 0.0)
    high = np.where(n > 0, np.clip(middle + reach, share, 1.0), 1.0)
    return low, high


def bootstrap_interval(
    statistic: Callable[[npt.NDArray[np.int64]], float],
    num_samples: int,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic over resampled data.

    Args:
        statistic: of the samples at the given positions, which may repeat.
        num_samples: samples to draw from, and per draw.
        num_resamples: how often to draw.
        seed: of the draws; equal seeds give equal intervals.

    Returns:
        Lower and upper end; both NaN without samples. Draws whose statistic is NaN are left out.
    """
    if num_samples == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    values = np.array(
        [statistic(rng.integers(0, num_samples, num_samples)) for _ in range(num_resamples)]
    )
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    tail = 100 * (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
