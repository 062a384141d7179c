"""Instance AP50 from rasters of ids: what training is steered by, without any geometry.

The same rules as `geo.metrics` (COCO's matching and average precision at IoU 0.5), on pixels. Final
scores come from polygons; this one needs numpy and OpenCV, and numba where neighbours are cut
apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from geo.rim import Confidence, contrast, find_rim

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_MIN_IOU = 0.5
_IGNORED_SHARE = 0.5
_PART_SHARE = 0.5
_WHOLE_SHARE = 0.05
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class _Detections:
    """Per component: confidence, its best reference, their IoU, whether it may be ignored."""

    confidence: Float64Array
    best_id: Int32Array
    iou: Float64Array
    is_ignored: BoolArray
    num_splits: int
    num_merges: int


@dataclass(frozen=True, slots=True)
class MaskMatches:
    """The components of one raster that count, and what they hit.

    Attributes:
        confidence: float64, shape (n,).
        is_hit: matches a reference at IoU 0.5, bool, shape (n,).
        num_references: references that count.
        num_splits: those covered by several components, as `geo.metrics` defines it.
        num_merges: components that cover several references.
    """

    confidence: Float64Array
    is_hit: BoolArray
    num_references: int
    num_splits: int
    num_merges: int


def pooled_ap50(matches: Sequence[MaskMatches]) -> float:
    """Average precision at IoU 0.5 over several rasters, ranked together.

    Returns:
        0 to 1; NaN where no reference is counted.
    """
    num_references = sum(part.num_references for part in matches)
    if num_references == 0:
        return float("nan")
    confidence = np.concatenate([part.confidence for part in matches])
    is_hit = np.concatenate([part.is_hit for part in matches])
    return _average_precision(is_hit[np.argsort(-confidence, kind="stable")], num_references)


def match_masks(
    probability: Float32Array,
    ids: Int32Array,
    known: BoolArray,
    *,
    grow_px: int,
    threshold: float,
    valley_depth: float = 0.0,
    confidence: Confidence = "mean",
) -> MaskMatches:
    """The components of a probability against reference instances.

    Args:
        probability: of the core of a building, shape (H, W).
        ids: reference instances, 0 ground, shape (H, W).
        known: labelled ground, shape (H, W). References that reach beyond it are not counted, nor
            are detections that mostly lie there, or on such references.
        grow_px: by how much each component is grown, by a square, alone.
        threshold: probability from which a pixel is building.
        valley_depth: fall of the probability between neighbours that are cut apart; 0: none are.
        confidence: what components are ranked by, see `model.bundle`.
    """
    counted = _counted_ids(ids, known)
    is_counted_id = np.zeros(int(ids.max()) + 1, np.bool_)
    is_counted_id[counted] = True
    components = _label(probability, threshold, valley_depth)
    confidences = _confidences(components, probability, confidence)
    found = _detect(components, confidences, ids, known, is_counted_id, grow_px)
    order = np.argsort(-found.confidence, kind="stable")
    is_hit = np.zeros(len(order), np.bool_)
    taken: set[int] = set()
    for place, index in enumerate(order):
        reference = int(found.best_id[index])
        if found.iou[index] >= _MIN_IOU and reference not in taken:
            taken.add(reference)
            is_hit[place] = True
    is_counted = is_hit | ~found.is_ignored[order]
    return MaskMatches(
        confidence=found.confidence[order][is_counted],
        is_hit=is_hit[is_counted],
        num_references=len(counted),
        num_splits=found.num_splits,
        num_merges=found.num_merges,
    )


def _counted_ids(ids: Int32Array, known: BoolArray) -> npt.NDArray[np.int64]:
    """References with all of their pixels on known ground, none at the raster's edge."""
    total = np.bincount(ids.ravel())
    inside = known.copy()
    inside[[0, -1]] = False
    inside[:, [0, -1]] = False
    seen = np.bincount(ids[inside], minlength=len(total))
    counted = np.flatnonzero((total > 0) & (seen == total))
    return counted[counted > 0]


def _label(
    probability: Float32Array, threshold: float, valley_depth: float
) -> tuple[Int32Array, Int32Array]:
    """Components, 4-connected: labels from 1, and OpenCV's statistics."""
    if valley_depth > 0.0:
        # Here: a machine that only trains may lack numba (see `model.training.train`).
        from geo.watershed import cut_valleys

        levels = _levels(probability)
        floor, depth = max(round(255 * threshold), 1), max(round(255 * valley_depth), 1)
        mask = (cut_valleys(levels, floor=floor, depth=depth) >= floor).astype(np.uint8)
    else:
        mask = (probability >= threshold).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    return np.asarray(labels, np.int32), np.asarray(stats, np.int32)


def _confidences(
    components: tuple[Int32Array, Int32Array],
    probability: Float32Array,
    kind: Confidence,
) -> Float64Array:
    """Of each component, as `pipeline.finish` has it before calibration."""
    labels, stats = components
    num = len(stats)
    inside = np.bincount(labels.ravel(), probability.ravel(), num)[1:] / stats[1:, 4]
    if kind == "mean":
        return np.asarray(inside)
    rim = find_rim(_levels(probability), labels > 0)
    sums = [np.bincount(labels.ravel(), part.ravel(), num)[1:] for part in (rim.total, rim.count)]
    return contrast(inside, sums[0].astype(np.int64), sums[1].astype(np.int64))


def _levels(probability: Float32Array) -> UInt8Array:
    return np.asarray(np.round(255.0 * np.nan_to_num(probability)), np.uint8)


def _detect(
    components: tuple[Int32Array, Int32Array],
    confidence: Float64Array,
    ids: Int32Array,
    known: BoolArray,
    is_counted_id: BoolArray,
    grow_px: int,
) -> _Detections:
    labels, stats = components
    num = len(stats) - 1
    total = np.bincount(ids.ravel())
    # Ground and references that are not counted neither help nor harm.
    is_scored = is_counted_id.copy()
    is_scored[0] = True
    best_id, iou = np.zeros(num, np.int32), np.zeros(num)
    is_ignored = np.zeros(num, np.bool_)
    num_pieces = np.zeros(len(is_counted_id), np.int32)
    num_merges = 0
    kernel = np.ones((2 * grow_px + 1, 2 * grow_px + 1), np.uint8)
    for k in range(num):
        part = _grown_box(stats[k + 1], grow_px)
        grown = cv2.dilate((labels[part] == k + 1).astype(np.uint8), kernel).astype(np.bool_)
        below = ids[part][grown]
        seen = known[part][grown] & is_scored[below]
        is_ignored[k] = seen.mean() <= 1.0 - _IGNORED_SHARE
        overlap = np.bincount(below)
        ratio = overlap / (len(below) + total[: len(overlap)] - overlap)
        ratio[~is_counted_id[: len(overlap)]] = 0.0
        best_id[k], iou[k] = int(ratio.argmax()), ratio.max()
        shared = np.flatnonzero(is_counted_id[: len(overlap)] & (overlap > 0))
        of_component, of_reference = overlap[shared] / len(below), overlap[shared] / total[shared]
        num_pieces[shared] += (of_component >= _PART_SHARE) & (of_reference >= _WHOLE_SHARE)
        covered = (of_reference >= _PART_SHARE) & (of_component >= _WHOLE_SHARE)
        num_merges += int(covered.sum() >= 2)
    num_splits = int((num_pieces >= 2).sum())
    return _Detections(confidence, best_id, iou, is_ignored, num_splits, num_merges)


def _grown_box(stats: Int32Array, grow_px: int) -> tuple[slice, slice]:
    """A component's box, grown."""
    col, row, width, height = (int(value) for value in stats[:4])
    return (
        slice(max(row - grow_px, 0), row + height + grow_px),
        slice(max(col - grow_px, 0), col + width + grow_px),
    )


def _average_precision(is_hit: BoolArray, num_references: int) -> float:
    """COCO's: the highest precision at or beyond each of 101 recalls, on average."""
    hits = np.cumsum(is_hit)
    precision = hits / np.arange(1, len(hits) + 1)
    recall = hits / num_references
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, _RECALL_POINTS, side="left")
    return float(np.where(place < len(hits), np.append(envelope, 0.0)[place], 0.0).mean())
