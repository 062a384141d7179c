"""Values of any type to 8 bit: one range per band for the whole image, never per tile."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Uint8Array = npt.NDArray[np.uint8]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Samples = Iterable[tuple[npt.NDArray[Any], Uint8Array | None]]

_NUM_BINS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ValueScaling:
    """A linear stretch per band.

    Attributes:
        low: value that becomes 0, float64, shape (bands,).
        high: value that becomes 255, float64, shape (bands,).
    """

    low: Float64Array
    high: Float64Array

    def apply(self, values: npt.NDArray[Any]) -> Uint8Array:
        """Stretched values, rounded half up and clipped; NaN becomes 0.

        Args:
            values: any number type, shape (height, width, bands).

        Returns:
            uint8, the same shape.
        """
        return np.asarray(_stretch(values, self.low, self.high))


def percentile_scaling(
    samples: Callable[[], Samples], num_bands: int, percentiles: tuple[float, float]
) -> ValueScaling:
    """The stretch between two percentiles of all valid values, exact, in bounded memory.

    A radix selection in two passes: values as float32 keep their order as 32 bit keys; the first
    pass counts the upper halves of the keys, the second the lower halves within the upper half
    that holds the percentile (nearest rank).

    Args:
        samples: called twice; gives (values of shape (height, width, bands), validity or None).
        num_bands: bands.
        percentiles: low and high, 0 to 100.
    """
    upper = np.zeros((num_bands, _NUM_BINS), np.int64)
    for values, valid in samples():
        _count_upper(values, _flags(values, valid), upper)
    counts = upper.sum(axis=1)
    if not counts.all():
        return ValueScaling(low=np.zeros(num_bands), high=np.ones(num_bands))
    ranks = np.stack(
        [np.clip(np.ceil(counts * p / 100.0) - 1, 0, counts - 1) for p in percentiles], axis=1
    ).astype(np.int64)
    cumulative = np.cumsum(upper, axis=1)
    prefix = np.stack(
        [np.searchsorted(c, r, "right") for c, r in zip(cumulative, ranks, strict=True)]
    )
    below = np.take_along_axis(cumulative - upper, prefix, axis=1)
    lower = np.zeros((num_bands, 2, _NUM_BINS), np.int64)
    for values, valid in samples():
        _count_lower(values, _flags(values, valid), prefix, lower)
    inside = np.cumsum(lower, axis=2) <= (ranks - below)[:, :, None]
    keys = (prefix * _NUM_BINS + inside.sum(axis=2)).astype(np.uint32)
    limits = _values_of_keys(keys).astype(np.float64)
    low, high = limits[:, 0], limits[:, 1]
    # An image of one value has no range; any that is wider than nothing will do.
    wider = low + np.maximum(1.0, np.abs(low) * 1e-6)
    return ValueScaling(low=low, high=np.where(high > low, high, wider))


def _flags(values: npt.NDArray[Any], valid: Uint8Array | None) -> Uint8Array:
    return np.ones(values.shape[:2], np.uint8) if valid is None else valid


def _values_of_keys(keys: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    is_positive = keys >= np.uint32(0x80000000)
    bits = np.where(is_positive, keys ^ np.uint32(0x80000000), ~keys)
    return bits.astype(np.uint32).view(np.float32)


def _keys(values: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Keys in the order of the values: the sign bit flipped, negative values turned over."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    is_negative = bits >= np.uint32(0x80000000)
    return np.where(is_negative, ~bits, bits | np.uint32(0x80000000))


def _count_upper(values: npt.NDArray[Any], valid: Uint8Array, counts: Int64Array) -> None:
    keep = valid.astype(bool)
    for band in range(len(counts)):
        upper = _keys(values[:, :, band][keep]) >> np.uint32(16)
        counts[band] += np.bincount(upper, minlength=_NUM_BINS)


def _count_lower(
    values: npt.NDArray[Any], valid: Uint8Array, prefix: Int64Array, counts: Int64Array
) -> None:
    keep = valid.astype(bool)
    for band in range(len(counts)):
        keys = _keys(values[:, :, band][keep])
        for index, wanted in enumerate(prefix[band]):
            lower = keys[keys >> np.uint32(16) == wanted] & np.uint32(0xFFFF)
            counts[band, index] += np.bincount(lower, minlength=_NUM_BINS)


@numba.njit(cache=True, nogil=True)
def _stretch(values: npt.NDArray[Any], low: Float64Array, high: Float64Array) -> Uint8Array:
    height, width, bands = values.shape
    stretched = np.empty((height, width, bands), np.uint8)
    for row in range(height):
        for col in range(width):
            for band in range(bands):
                share = (np.float64(values[row, col, band]) - low[band]) / (high[band] - low[band])
                level = np.floor(share * 255.0 + 0.5)
                # Written so that NaN falls into the first case.
                if not level > 0.0:
                    stretched[row, col, band] = 0
                elif level >= 255.0:
                    stretched[row, col, band] = 255
                else:
                    stretched[row, col, band] = np.uint8(level)
    return stretched
