"""Scores of a bundle's footprints, place by place.

Places are scored one by one and never pooled: a category's or a bundle's score is the mean over its
places, so that a town of ten thousand buildings does not outvote a village of fifty. What is scored
are finished footprints as the main job writes them (see `pipeline.place_footprints`), against
polygons that people drew.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from geo.boundary_error import boundary_errors_m
from geo.matching import Float64Array, PolygonObjects
from geo.metrics import (
    Matching,
    OperatingPoint,
    PrecisionRecallCurve,
    Scores,
    evaluate_polygons,
    match_polygons,
)

RECALL_POINTS: Float64Array = np.linspace(0.0, 1.0, 101)
"""The recalls at which COCO averages precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceScores:
    """Scores of one place at one pixel size.

    Attributes:
        name: of the place.
        category: free word such as "urban", by which means are taken; may be empty.
        gsd_m: pixel size that the network saw, in metres.
        scores: average precision, operating points, curve and scores by size.
        matching: which footprint found which reference at IoU 0.5.
        pixel_iou: see `area_iou`, of all footprints at or above the asked confidence.
        boundary_m: symmetric mean distance of outlines, mean over the matches of those; NaN without
            any.
    """

    name: str
    category: str
    gsd_m: float
    scores: Scores
    matching: Matching
    pixel_iou: float
    boundary_m: float

    @property
    def split_rate(self) -> float:
        """Share of the counted references that several footprints cover; NaN without any."""
        return _ratio(self.scores.at_threshold.num_splits, self.scores.num_references)

    @property
    def merge_rate(self) -> float:
        """Share of the counted footprints that cover several references; NaN without any."""
        point = self.scores.at_threshold
        return _ratio(point.num_merges, num_counted(point))

    def numbers(self) -> dict[str, float]:
        """The scores that are compared, by name; NaN where one is not defined."""
        scores, point, best = self.scores, self.scores.at_threshold, self.scores.at_best_f1
        return {
            "ap50": scores.ap50,
            "ap50_95": scores.ap50_95,
            "precision": point.precision,
            "recall": point.recall,
            "f1": point.f1,
            "best_f1": best.f1,
            "best_f1_confidence": best.min_confidence,
            "pixel_iou": self.pixel_iou,
            "split_rate": self.split_rate,
            "merge_rate": self.merge_rate,
            "boundary_m": self.boundary_m,
            "num_references": float(scores.num_references),
            "num_footprints": float(num_counted(point)),
        }


def score_place(
    name: str,
    predictions: PolygonObjects,
    confidence: npt.ArrayLike,
    references: PolygonObjects,
    *,
    gsd_m: float,
    aoi: shapely.Geometry | None,
    category: str = "",
    min_confidence: float = 0.0,
) -> PlaceScores:
    """Score the footprints of one place.

    Args:
        name: of the place.
        predictions: valid shapely polygons in a metric CRS, shape (num_predictions,).
        confidence: of each of them.
        references: valid shapely polygons in the same CRS.
        gsd_m: pixel size that the network saw.
        aoi: labelled area in the same CRS; None counts everything (see `geo.metrics`).
        category: of the place.
        min_confidence: footprints below are left out of everything but average precision, best F1,
            curve and scores by size.

    Raises:
        ValueError: if the confidences are not one finite number per prediction.
    """
    scores = evaluate_polygons(
        predictions, confidence, references, aoi=aoi, min_confidence=min_confidence
    )
    matching = match_polygons(predictions, confidence, references, aoi=aoi)
    is_chosen = np.asarray(confidence, np.float64) >= min_confidence
    found = is_chosen & matching.is_true
    errors_m = boundary_errors_m(predictions[found], references[matching.reference[found]])
    return PlaceScores(
        name=name,
        category=category,
        gsd_m=gsd_m,
        scores=scores,
        matching=matching,
        pixel_iou=area_iou(predictions[is_chosen], references, aoi),
        boundary_m=float(errors_m.mean()) if len(errors_m) else math.nan,
    )


def area_iou(
    predictions: PolygonObjects, references: PolygonObjects, aoi: shapely.Geometry | None
) -> float:
    """IoU of all built ground: the limit of the pixel IoU for small pixels.

    Computed on exact areas, so that scores at different pixel sizes compare. All footprints and
    all references take part with what lies inside the labelled area, those that its edge cuts too.

    Args:
        predictions: valid polygons in a metric CRS.
        references: the same.
        aoi: labelled area; None is everywhere.

    Returns:
        Shared area over united area; NaN where there is neither.
    """
    found, truth = shapely.union_all(predictions), shapely.union_all(references)
    if aoi is not None:
        found, truth = shapely.intersection(found, aoi), shapely.intersection(truth, aoi)
    shared = float(shapely.area(shapely.intersection(found, truth)))
    united = float(shapely.area(found) + shapely.area(truth)) - shared
    return shared / united if united > 0 else math.nan


def num_counted(point: OperatingPoint) -> int:
    """Footprints of an operating point that are right or wrong."""
    return point.num_true_positives + point.num_false_positives


def mean_numbers(places: Iterable[PlaceScores]) -> dict[str, float]:
    """Mean over places of every number of `PlaceScores.numbers`.

    Counts are summed instead. A number that is not defined at a place (precision where nothing
    was found) is left out of its mean; where it is defined nowhere the mean is NaN.
    """
    rows = [place.numbers() for place in places]
    means: dict[str, float] = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows if not math.isnan(row[name])]
        total = math.fsum(values)
        means[name] = total if name.startswith("num_") else _ratio(total, len(values))
    return means


def by_category(places: Iterable[PlaceScores]) -> dict[str, list[PlaceScores]]:
    """Places by their category, in the order of first appearance."""
    groups: dict[str, list[PlaceScores]] = {}
    for place in places:
        groups.setdefault(place.category, []).append(place)
    return groups


def interpolated_precision(curve: PrecisionRecallCurve) -> Float64Array:
    """Precision at `RECALL_POINTS`: the best at that recall or above it, 0 where none reaches it.

    Its mean is the average precision, as long as no two confidences are equal.
    """
    if len(curve.recall) == 0 or np.isnan(curve.recall).any():
        return np.zeros(len(RECALL_POINTS))
    precision = np.nan_to_num(curve.precision)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(curve.recall, RECALL_POINTS, side="left")
    return np.asarray(np.append(envelope, 0.0)[first], np.float64)


def mean_curve(places: Sequence[PlaceScores]) -> Float64Array:
    """Mean over places of `interpolated_precision`, shape (101,).

    Raises:
        ValueError: if there is no place.
    """
    if not places:
        raise ValueError("no places to take the mean curve of")
    curves = [interpolated_precision(place.scores.curve) for place in places]
    return np.asarray(np.mean(curves, axis=0), np.float64)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
