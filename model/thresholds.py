"""Confidence thresholds that reach a precision, per region, in the form that Open Buildings uses.

One row per S2 cell of level 4 (about 500 km wide), as in Open Buildings' table of score thresholds:
users filter a cell's footprints by them. How sure a threshold is follows from how many labelled
footprints it rests on, hence the interval beside it.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from geo.s2cells import cell_parent, cell_polygon, cell_token, s2_leaf_cells
from model.intervals import wilson_interval

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

PRECISIONS_PERCENT = (80, 85, 90)
"""The precisions asked for."""
REGION_LEVEL = 4
"""Level of the S2 cells that are regions."""
MIN_SAMPLES = 20
"""Labelled footprints that a threshold must leave; fewer prove nothing about a precision."""
# Thresholds have the decimals of published confidences and are rounded down, so that whoever
# compares with the rounded number gets the footprints that were counted here.
_STEPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A confidence threshold and the precision that it reached.

    Attributes:
        min_confidence: the threshold, a multiple of 0.0001.
        precision: share of right footprints at or above it; expected, where there are no samples.
        low: lower end of the precision's 95 % interval (Wilson); None without samples.
        high: upper end.
        num_samples: right and wrong footprints at or above it.
    """

    min_confidence: float
    precision: float
    low: float | None
    high: float | None
    num_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionThresholds:
    """Thresholds of one region.

    Attributes:
        cell: S2 cell id.
        thresholds: by precision in percent; None where it is not reached.
        num_buildings: footprints in the region.
        num_buildings_above: of these, at or above each threshold; 0 where there is none.
        num_samples: labelled footprints that the thresholds rest on.
    """

    cell: int
    thresholds: dict[int, Threshold | None]
    num_buildings: int
    num_buildings_above: dict[int, int] = field(default_factory=dict)
    num_samples: int

    @property
    def token(self) -> str:
        """Name of the cell."""
        return cell_token(self.cell)


def find_threshold(
    confidence: npt.ArrayLike,
    is_true: npt.ArrayLike,
    precision: float,
    *,
    min_samples: int = MIN_SAMPLES,
) -> Threshold | None:
    """The lowest threshold at which a precision is reached, so the one that keeps most footprints.

    Args:
        confidence: of each right or wrong footprint, shape (n,).
        is_true: whether it is right.
        precision: share of right ones to reach, 0 to 1.
        min_samples: footprints that must remain at or above the threshold.

    Returns:
        The threshold, or None where none reaches the precision.
    """
    steps = _to_steps(confidence)
    order = np.argsort(-steps, kind="stable")
    num_true = np.cumsum(np.asarray(is_true, np.bool_)[order])
    num = np.arange(1, len(order) + 1)
    # Only the last of equal confidences is a threshold.
    is_last = np.append(np.diff(steps[order]) != 0, True)[: len(order)]
    is_reached = is_last & (num >= min_samples) & (num_true >= precision * num - 1e-9)
    if not is_reached.any():
        return None
    place = int(np.flatnonzero(is_reached)[-1])
    low, high = wilson_interval(num_true[place], num[place])
    return Threshold(
        min_confidence=float(steps[order][place] / _STEPS),
        precision=float(num_true[place] / num[place]),
        low=float(low),
        high=float(high),
        num_samples=int(num[place]),
    )


def region_thresholds(
    latitude: npt.ArrayLike,
    longitude: npt.ArrayLike,
    confidence: npt.ArrayLike,
    is_true: npt.ArrayLike,
    is_false: npt.ArrayLike,
    *,
    min_samples: int = MIN_SAMPLES,
) -> list[RegionThresholds]:
    """Thresholds for every region that holds a footprint, by cell id.

    Args:
        latitude: of each footprint's centroid, degrees, shape (n,).
        longitude: the same.
        confidence: of each footprint, as published.
        is_true: which are right.
        is_false: which are wrong; those that are neither count as buildings only.
        min_samples: see `find_threshold`.
    """
    cells = cell_parent(s2_leaf_cells(latitude, longitude), REGION_LEVEL)
    values, truth = np.asarray(confidence, np.float64), np.asarray(is_true, np.bool_)
    is_sample = truth | np.asarray(is_false, np.bool_)
    return [
        _of_region(int(cell), values[here], truth[here], is_sample[here], min_samples)
        for cell in np.unique(cells)
        for here in (cells == cell,)
    ]


def _of_region(
    cell: int, confidence: Float64Array, is_true: BoolArray, is_sample: BoolArray, min_samples: int
) -> RegionThresholds:
    samples, truth = confidence[is_sample], is_true[is_sample]
    thresholds = {
        percent: find_threshold(samples, truth, percent / 100, min_samples=min_samples)
        for percent in PRECISIONS_PERCENT
    }
    return RegionThresholds(
        cell=cell,
        thresholds=thresholds,
        num_buildings=len(confidence),
        num_buildings_above={
            percent: int((confidence >= found.min_confidence).sum()) if found else 0
            for percent, found in thresholds.items()
        },
        num_samples=len(samples),
    )


class ConfidenceCounts:
    """Footprints by region and confidence, added up table by table; 80 kB a region."""

    def __init__(self) -> None:
        self.by_region: dict[int, npt.NDArray[np.int64]] = {}

    def add(
        self, latitude: Float64Array, longitude: Float64Array, confidence: Float64Array
    ) -> None:
        """Add footprints.

        Args:
            latitude: of each centroid, degrees, shape (n,).
            longitude: the same.
            confidence: as published.
        """
        cells = cell_parent(s2_leaf_cells(latitude, longitude), REGION_LEVEL)
        steps = _to_steps(confidence)
        for cell in np.unique(cells).tolist():
            counts = np.bincount(steps[cells == cell], minlength=_STEPS + 1)
            self.by_region[cell] = self.by_region.get(cell, 0) + counts


def expected_thresholds(counts: ConfidenceCounts) -> list[RegionThresholds]:
    """Thresholds that follow from calibrated confidences alone, by cell id.

    A calibrated confidence is the share of such footprints that are right, so the expected
    precision of a region's footprints from a confidence on is the mean of their confidences. It
    holds as far as the calibration does: ground unlike that which the model was calibrated on may
    differ, which only labels of that ground tell.

    Args:
        counts: all footprints of a dataset.
    """
    return [_expected_of_region(cell, counts.by_region[cell]) for cell in sorted(counts.by_region)]


def _expected_of_region(cell: int, counts: npt.NDArray[np.int64]) -> RegionThresholds:
    above = np.cumsum(counts[::-1])[::-1]
    sums = np.cumsum((counts * np.arange(_STEPS + 1))[::-1])[::-1]
    expected = sums / np.maximum(above, 1) / _STEPS
    found: dict[int, Threshold | None] = {}
    for percent in PRECISIONS_PERCENT:
        steps = np.flatnonzero((counts > 0) & (expected >= percent / 100 - 1e-12))
        found[percent] = None
        if len(steps):
            value = float(expected[steps[0]])
            found[percent] = Threshold(
                min_confidence=float(steps[0] / _STEPS),
                precision=value,
                low=None,
                high=None,
                num_samples=0,
            )
    return RegionThresholds(
        cell=cell,
        thresholds=found,
        num_buildings=int(counts.sum()),
        num_buildings_above={
            percent: int(above[round(one.min_confidence * _STEPS)]) if one else 0
            for percent, one in found.items()
        },
        num_samples=0,
    )


def _to_steps(confidence: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Confidences in ten thousandths, rounded down."""
    return np.floor(np.asarray(confidence, np.float64) * _STEPS + 1e-6).astype(np.int64)


def thresholds_csv(regions: Sequence[RegionThresholds]) -> str:
    """The regions as CSV: Open Buildings' columns, then what each threshold rests on.

    Added columns, per precision: the precision reached (`precision_P%`), its 95 % interval
    (`precision_low_P%`, `precision_high_P%`) and the footprints at or above the threshold
    (`num_samples_P%`). Cells of a precision that is not reached are empty. Where `num_samples` is
    0, nothing was labelled: precisions are those expected from calibrated confidences.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns())
    for region in regions:
        writer.writerow(_row(region))
    return text.getvalue()


_EXTRA_COLUMNS = ("precision", "precision_low", "precision_high", "num_samples")


def _columns() -> list[str]:
    return [
        *("s2_token", "geometry"),
        *(f"confidence_threshold_{percent}%_precision" for percent in PRECISIONS_PERCENT),
        *(f"building_count_{percent}%_precision" for percent in PRECISIONS_PERCENT),
        *("building_count", "num_samples"),
        *(f"{name}_{percent}%" for percent in PRECISIONS_PERCENT for name in _EXTRA_COLUMNS),
    ]


def _row(region: RegionThresholds) -> list[str]:
    found = [region.thresholds[percent] for percent in PRECISIONS_PERCENT]
    counts = [region.num_buildings_above[percent] for percent in PRECISIONS_PERCENT]
    row = [region.token, _outline(region.cell)]
    row += [f"{one.min_confidence:.4f}" if one else "" for one in found]
    row += [str(count) if one else "" for one, count in zip(found, counts, strict=True)]
    row += [str(region.num_buildings), str(region.num_samples)]
    for one in found:
        if one is None:
            row += [""] * len(_EXTRA_COLUMNS)
        else:
            shares = (one.precision, one.low, one.high)
            row += ["" if share is None else f"{share:.4f}" for share in shares]
            row.append(str(one.num_samples))
    return row


def _outline(cell: int) -> str:
    """Outline of a cell as WKT with the corners of its edges only, as Open Buildings gives it."""
    points = cell_polygon(cell, num_steps=1).exterior.coords
    text = ", ".join(f"{x:.8g} {y:.8g}" for x, y in points)
    assert all(math.isfinite(value) for point in points for value in point)
    return f"POLYGON (({text}))"
