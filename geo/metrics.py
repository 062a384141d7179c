"""Scores of predicted polygons against reference polygons.

Matching and average precision are COCO's (one category, no limit of detections), on exact polygon
areas instead of masks. All polygons are valid and in one metric CRS.

The evaluation region. Labels end where somebody stopped labelling; beyond it a prediction is
neither right nor wrong. With a labelled area (AOI) given:

- A reference that is not fully inside the AOI (to 1 cm) is not counted. It becomes an ignore
  region: an unmatched prediction of which at least half lies in ignore regions is neither a true
  nor a false positive, at any IoU threshold.
- A prediction that is not fully inside the AOI is not counted either, unless it matches a counted
  reference: then it is a true positive, and that reference found. This is how COCO treats
  detections outside an area range; a reference one centimetre inside the edge is thereby not
  lost to a prediction one centimetre beyond it.

Splits and merges. A part belongs to a whole when at least half of the part lies in the whole and
what lies there makes up at least 5 % of the whole (so that a speck beside a good outline, or a shed
under the roof of its house, is neither). A reference is *split* when at least two predictions are
its parts; a prediction is a *merge* when at least two counted references are its parts.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from geo.matching import (
    UNMATCHED,
    Float64Array,
    Int64Array,
    Overlaps,
    PolygonObjects,
    find_overlaps,
    match_greedily,
)

BoolArray = npt.NDArray[np.bool_]

IOU_THRESHOLDS: tuple[float, ...] = tuple(percent / 100 for percent in range(50, 100, 5))
"""The ten thresholds of AP50:95."""

AREA_EDGES_M2: tuple[float, ...] = (0.0, 25.0, 50.0, 100.0, 200.0, 500.0, math.inf)
"""Edges of the size bins, lower edge included."""

IGNORED_SHARE = 0.5
PART_SHARE = 0.5
WHOLE_SHARE = 0.05
INSIDE_TOLERANCE_M = 0.01
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRecallCurve:
    """Precision and recall over the confidence threshold; one point per distinct confidence.

    Attributes:
        confidence: the thresholds, descending, float64, shape (num_points,).
        precision: precision with predictions at or above the threshold; NaN where only ignored
            predictions are.
        recall: recall of the same.
        f1: harmonic mean of both, 0 where both are 0 or precision is undefined.
    """

    confidence: Float64Array
    precision: Float64Array
    recall: Float64Array
    f1: Float64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """Scores at IoU 0.5 of the predictions at or above one confidence.

    Attributes:
        min_confidence: the confidence threshold.
        num_true_positives: predictions that match a reference.
        num_false_positives: counted predictions that match none.
        num_false_negatives: references without a match.
        num_ignored: predictions that are neither (see the module).
        precision: true positives / counted predictions; NaN without any.
        recall: true positives / references.
        f1: harmonic mean of both.
        mean_iou: mean IoU of the matches; NaN without any.
        num_splits: references covered by several predictions (see the module).
        num_merges: predictions that cover several references (see the module).
        mean_vertices: mean number of corners (closing points not counted) of the counted
            predictions, holes included; NaN without any.
    """

    min_confidence: float
    num_true_positives: int
    num_false_positives: int
    num_false_negatives: int
    num_ignored: int
    precision: float
    recall: float
    f1: float
    mean_iou: float
    num_splits: int
    num_merges: int
    mean_vertices: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeBin:
    """Scores at IoU 0.5 of one range of areas, over all predictions.

    Attributes:
        min_area_m2: lower edge, included.
        max_area_m2: upper edge, excluded.
        num_references: counted references of that area.
        num_predictions: counted predictions of that area.
        recall: share of those references that are matched; NaN without any.
        precision: share of those predictions that match; NaN without any.
    """

    min_area_m2: float
    max_area_m2: float
    num_references: int
    num_predictions: int
    recall: float
    precision: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All scores of one set of predictions against one set of references.

    Attributes:
        num_predictions: predictions given.
        num_references: counted references.
        num_ignored_references: references not fully inside the AOI.
        average_precision: AP at each of `IOU_THRESHOLDS`, float64, shape (10,).
        at_threshold: the operating point at the confidence asked for.
        at_best_f1: the operating point of highest F1 (the highest confidence of several such).
        curve: precision and recall at IoU 0.5.
        size_bins: scores by area, for `AREA_EDGES_M2`.
        mean_reference_vertices: mean number of corners of the counted references.
    """

    num_predictions: int
    num_references: int
    num_ignored_references: int
    average_precision: Float64Array
    at_threshold: OperatingPoint
    at_best_f1: OperatingPoint
    curve: PrecisionRecallCurve
    size_bins: tuple[SizeBin, ...]
    mean_reference_vertices: float

    @property
    def ap50(self) -> float:
        """Average precision at IoU 0.5."""
        return float(self.average_precision[0])

    @property
    def ap50_95(self) -> float:
        """Mean of the average precisions at IoU 0.50, 0.55, ..., 0.95."""
        return float(self.average_precision.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Which prediction found which reference.

    Attributes:
        reference: for each prediction the index of its reference in the list given, or
            `UNMATCHED`; int64, shape (num_predictions,).
        iou: IoU of each prediction with its reference, NaN without one; float64.
        is_ignored: which predictions are neither right nor wrong (see the module).
        is_counted: which references are counted, shape (num_references,).
    """

    reference: Int64Array
    iou: Float64Array
    is_ignored: BoolArray
    is_counted: BoolArray

    @property
    def is_true(self) -> BoolArray:
        """Which predictions match a reference."""
        return self.reference != UNMATCHED

    @property
    def is_false(self) -> BoolArray:
        """Which predictions match none and are counted."""
        return ~self.is_true & ~self.is_ignored

    @property
    def is_missed(self) -> BoolArray:
        """Which counted references no prediction matches."""
        missed = self.is_counted.copy()
        missed[self.reference[self.is_true]] = False
        return missed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """What all scores are made from; references are the counted ones only."""

    predictions: PolygonObjects
    confidence: Float64Array
    references: PolygonObjects
    overlaps: Overlaps
    ranking: Int64Array
    is_ignorable: BoolArray


def evaluate_polygons(
    predictions: PolygonObjects,
    confidence: npt.ArrayLike,
    references: PolygonObjects,
    *,
    aoi: shapely.Geometry | None = None,
    min_confidence: float = 0.0,
) -> Scores:
    """Score predictions against references.

    Args:
        predictions: valid shapely polygons in a metric CRS, shape (num_predictions,).
        confidence: of each prediction, higher is better, shape (num_predictions,).
        references: valid shapely polygons in the same CRS, shape (num_references,).
        aoi: the labelled area in the same CRS; None counts everything.
        min_confidence: confidence threshold of `Scores.at_threshold`.

    Returns:
        The scores. Average precision and recall are NaN where no reference is counted.

    Raises:
        ValueError: if the confidences are not one finite number per prediction.
    """
    confidence = _checked_confidence(confidence, len(predictions))
    counted = inside_area(references, aoi)
    compared = _compare(predictions, confidence, references, counted, aoi)
    matches = _match(compared, IOU_THRESHOLDS[0])
    curve = _curve(compared, matches)
    return Scores(
        num_predictions=len(predictions),
        num_references=int(counted.sum()),
        num_ignored_references=int((~counted).sum()),
        average_precision=np.array(
            [_average_precision(compared, _match(compared, iou)) for iou in IOU_THRESHOLDS]
        ),
        at_threshold=_operating_point(compared, matches, min_confidence),
        at_best_f1=_operating_point(compared, matches, best_f1_confidence(curve)),
        curve=curve,
        size_bins=_size_bins(compared, matches),
        mean_reference_vertices=_mean(num_vertices(compared.references)),
    )


def match_polygons(
    predictions: PolygonObjects,
    confidence: npt.ArrayLike,
    references: PolygonObjects,
    *,
    aoi: shapely.Geometry | None = None,
    iou_threshold: float = IOU_THRESHOLDS[0],
) -> Matching:
    """The matching that the scores of `evaluate_polygons` rest on, prediction by prediction.

    Args:
        predictions: as for `evaluate_polygons`, like the arguments after it.
        confidence: of each prediction.
        references: the reference polygons.
        aoi: the labelled area; None counts everything.
        iou_threshold: smallest IoU of a match.

    Raises:
        ValueError: if the confidences are not one finite number per prediction.
    """
    confidence = _checked_confidence(confidence, len(predictions))
    counted = inside_area(references, aoi)
    compared = _compare(predictions, confidence, references, counted, aoi)
    matches = _match(compared, iou_threshold)
    is_true = matches != UNMATCHED
    overlaps = compared.overlaps
    is_match = is_true[overlaps.prediction] & (matches[overlaps.prediction] == overlaps.reference)
    iou = np.full(len(predictions), np.nan)
    iou[overlaps.prediction[is_match]] = overlaps.iou[is_match]
    return Matching(
        # -1, for predictions without a match, takes the element that stands last.
        reference=np.append(np.flatnonzero(counted), UNMATCHED)[matches].astype(np.int64),
        iou=iou,
        is_ignored=~is_true & compared.is_ignorable,
        is_counted=counted,
    )


def _checked_confidence(confidence: npt.ArrayLike, num_predictions: int) -> Float64Array:
    values = np.asarray(confidence, np.float64)
    if values.shape != (num_predictions,) or not np.isfinite(values).all():
        raise ValueError(
            f"confidence of shape {values.shape} for {num_predictions} predictions; expected "
            "one finite number per prediction"
        )
    return values


def inside_area(polygons: PolygonObjects, area: shapely.Geometry | None) -> BoolArray:
    """Which polygons lie fully inside an area, to 1 cm; all of them where it is None.

    The tolerance keeps polygons that were cut along the area's edge, whichever way reprojection
    rounded their corners.
    """
    if area is None:
        return np.ones(len(polygons), bool)
    widened = shapely.buffer(area, INSIDE_TOLERANCE_M, join_style="mitre")
    shapely.prepare(widened)
    return np.asarray(shapely.covers(widened, polygons), bool)


def num_vertices(polygons: PolygonObjects) -> Int64Array:
    """Corners of each polygon: points of all rings, the closing ones not counted; int64."""
    num_rings = 1 + shapely.get_num_interior_rings(polygons)
    return (shapely.get_num_coordinates(polygons) - num_rings).astype(np.int64)


def best_f1_confidence(curve: PrecisionRecallCurve) -> float:
    """Confidence threshold of highest F1; the highest such threshold, 0 for an empty curve."""
    return float(curve.confidence[np.argmax(curve.f1)]) if len(curve.f1) else 0.0


def _compare(
    predictions: PolygonObjects,
    confidence: Float64Array,
    references: PolygonObjects,
    counted: BoolArray,
    aoi: shapely.Geometry | None,
) -> _Comparison:
    overlaps = find_overlaps(predictions, references)
    is_counted = counted[overlaps.reference]
    ignored = overlaps.take(~is_counted)
    ignored_m2 = np.bincount(ignored.prediction, ignored.area_m2, minlength=len(predictions))
    in_ignored = ignored_m2 >= IGNORED_SHARE * shapely.area(predictions)
    kept = overlaps.take(is_counted)
    renumbered = np.cumsum(counted) - 1
    return _Comparison(
        predictions=predictions,
        confidence=confidence,
        references=references[counted],
        overlaps=Overlaps(
            prediction=kept.prediction,
            reference=renumbered[kept.reference].astype(np.int64),
            area_m2=kept.area_m2,
            iou=kept.iou,
        ),
        ranking=np.argsort(-confidence, kind="stable").astype(np.int64),
        is_ignorable=in_ignored | ~inside_area(predictions, aoi),
    )


def _match(compared: _Comparison, iou_threshold: float) -> Int64Array:
    num_references = len(compared.references)
    return match_greedily(compared.overlaps, compared.ranking, num_references, iou_threshold)


def _ranked_counts(compared: _Comparison, matches: Int64Array) -> tuple[Int64Array, Int64Array]:
    """True and false positives among the first 1, 2, ... predictions of the ranking."""
    is_true = matches != UNMATCHED
    is_false = ~is_true & ~compared.is_ignorable
    ranking = compared.ranking
    return np.cumsum(is_true[ranking]), np.cumsum(is_false[ranking])


def _average_precision(compared: _Comparison, matches: Int64Array) -> float:
    """Mean of the interpolated precision at the recalls 0, 0.01, ..., 1, as COCO computes it."""
    num_references = len(compared.references)
    if num_references == 0:
        return math.nan
    num_true, num_false = _ranked_counts(compared, matches)
    precision = num_true / np.maximum(num_true + num_false, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(num_true / num_references, _RECALL_POINTS, side="left")
    return float(np.append(envelope, 0.0)[first].mean())


def _curve(compared: _Comparison, matches: Int64Array) -> PrecisionRecallCurve:
    num_true, num_false = _ranked_counts(compared, matches)
    confidence = compared.confidence[compared.ranking]
    # Predictions of equal confidence cannot be told apart by a threshold: keep the last of each.
    is_last = np.ones(len(confidence), bool)
    is_last[:-1] = confidence[1:] != confidence[:-1]
    last = np.flatnonzero(is_last)
    num_true, num_false = num_true[last], num_false[last]
    num_references = len(compared.references)
    return PrecisionRecallCurve(
        confidence=confidence[last],
        precision=_share(num_true, num_true + num_false),
        recall=_share(num_true, np.full(len(last), num_references)),
        f1=np.nan_to_num(_share(2 * num_true, num_true + num_false + num_references)),
    )


def _operating_point(
    compared: _Comparison, matches: Int64Array, min_confidence: float
) -> OperatingPoint:
    chosen = compared.confidence >= min_confidence
    is_true = chosen & (matches != UNMATCHED)
    is_false = chosen & ~is_true & ~compared.is_ignorable
    num_true, num_false = int(is_true.sum()), int(is_false.sum())
    num_references = len(compared.references)
    overlaps = compared.overlaps
    is_match = is_true[overlaps.prediction] & (matches[overlaps.prediction] == overlaps.reference)
    num_splits, num_merges = count_splits_and_merges(
        overlaps.take(chosen[overlaps.prediction]),
        shapely.area(compared.predictions),
        shapely.area(compared.references),
    )
    return OperatingPoint(
        min_confidence=min_confidence,
        num_true_positives=num_true,
        num_false_positives=num_false,
        num_false_negatives=num_references - num_true,
        num_ignored=int(chosen.sum()) - num_true - num_false,
        precision=_ratio(num_true, num_true + num_false),
        recall=_ratio(num_true, num_references),
        f1=_ratio(2 * num_true, num_true + num_false + num_references),
        mean_iou=_mean(overlaps.iou[is_match]),
        num_splits=num_splits,
        num_merges=num_merges,
        mean_vertices=_mean(num_vertices(compared.predictions[is_true | is_false])),
    )


def count_splits_and_merges(
    overlaps: Overlaps, prediction_area_m2: Float64Array, reference_area_m2: Float64Array
) -> tuple[int, int]:
    """References covered by several predictions, and predictions that cover several references.

    Args:
        overlaps: the pairs to look at.
        prediction_area_m2: area of every prediction.
        reference_area_m2: area of every reference.

    Returns:
        Number of splits, number of merges, as the module defines them.
    """
    of_prediction = overlaps.area_m2 / prediction_area_m2[overlaps.prediction]
    of_reference = overlaps.area_m2 / reference_area_m2[overlaps.reference]
    is_piece = (of_prediction >= PART_SHARE) & (of_reference >= WHOLE_SHARE)
    is_merged = (of_reference >= PART_SHARE) & (of_prediction >= WHOLE_SHARE)
    num_pieces = np.bincount(overlaps.reference[is_piece])
    num_merged = np.bincount(overlaps.prediction[is_merged])
    return int((num_pieces >= 2).sum()), int((num_merged >= 2).sum())


def _size_bins(compared: _Comparison, matches: Int64Array) -> tuple[SizeBin, ...]:
    is_true = matches != UNMATCHED
    is_found = np.zeros(len(compared.references), bool)
    is_found[matches[is_true]] = True
    counted = is_true | ~compared.is_ignorable
    edges = np.array(AREA_EDGES_M2)
    prediction_bin = np.searchsorted(edges, shapely.area(compared.predictions), side="right") - 1
    reference_bin = np.searchsorted(edges, shapely.area(compared.references), side="right") - 1
    bins = []
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        predictions, references = counted & (prediction_bin == index), reference_bin == index
        bins.append(
            SizeBin(
                min_area_m2=float(low),
                max_area_m2=float(high),
                num_references=int(references.sum()),
                num_predictions=int(predictions.sum()),
                recall=_mean(is_found[references]),
                precision=_mean(is_true[predictions]),
            )
        )
    return tuple(bins)


def _share(part: Int64Array, whole: Int64Array) -> Float64Array:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: npt.NDArray[np.generic]) -> float:
    return float(np.mean(values)) if len(values) else math.nan  # type: ignore[arg-type]
