"""Which predicted polygon matches which reference polygon.

Pairs come from an R-tree, so that the cost follows the number of polygons that touch and not its
square.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
PolygonObjects = npt.NDArray[np.object_]

UNMATCHED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaps:
    """Every pair of a prediction and a reference that share area; struct of arrays.

    Sorted by prediction, then reference.

    Attributes:
        prediction: index of the prediction, int64, shape (num_pairs,).
        reference: index of the reference, int64.
        area_m2: shared area, always above 0, float64.
        iou: intersection over union in (0, 1], float64.
    """

    prediction: Int64Array
    reference: Int64Array
    area_m2: Float64Array
    iou: Float64Array

    def __len__(self) -> int:
        return len(self.iou)

    def take(self, index: npt.NDArray[np.bool_] | Int64Array) -> "Overlaps":
        """The chosen pairs, in the order given."""
        return Overlaps(
            prediction=self.prediction[index],
            reference=self.reference[index],
            area_m2=self.area_m2[index],
            iou=self.iou[index],
        )


def find_overlaps(predictions: PolygonObjects, references: PolygonObjects) -> Overlaps:
    """All pairs that share area, with their IoU.

    Args:
        predictions: valid shapely polygons in one metric CRS, shape (num_predictions,).
        references: valid shapely polygons in the same CRS, shape (num_references,).
    """
    if len(predictions) == 0 or len(references) == 0:
        none, nothing = np.zeros(0, np.int64), np.zeros(0, np.float64)
        return Overlaps(prediction=none, reference=none, area_m2=nothing, iou=nothing)
    # The tree's polygons are the ones prepared least often, hence the references in it.
    tree = shapely.STRtree(references)
    prediction, reference = tree.query(predictions, predicate="intersects")
    order = np.lexsort((reference, prediction))
    prediction, reference = prediction[order].astype(np.int64), reference[order].astype(np.int64)
    shared_m2 = shapely.area(shapely.intersection(predictions[prediction], references[reference]))
    union_m2 = (
        shapely.area(predictions)[prediction] + shapely.area(references)[reference] - shared_m2
    )
    overlaps = Overlaps(
        prediction=prediction, reference=reference, area_m2=shared_m2, iou=shared_m2 / union_m2
    )
    return overlaps.take(shared_m2 > 0)


def match_greedily(
    overlaps: Overlaps, ranking: Int64Array, num_references: int, iou_threshold: float
) -> Int64Array:
    """One-to-one matching as COCO does it.

    The predictions choose in the order of `ranking`; each takes the free reference of highest IoU
    at or above the threshold. At equal IoU the later reference wins, as in pycocotools. The choice
    of a prediction depends on better ranked ones only, so that the matching of the first k
    predictions is the matching with the rest left out: one pass serves every confidence threshold.

    Args:
        overlaps: pairs; whatever must not match is left out by the caller.
        ranking: indices of all predictions, best first, shape (num_predictions,).
        num_references: number of references.
        iou_threshold: smallest IoU of a match, in (0, 1].

    Returns:
        For each prediction the index of its reference, or `UNMATCHED`; int64.
    """
    matches = np.full(len(ranking), UNMATCHED, np.int64)
    place = np.empty(len(ranking), np.int64)
    place[ranking] = np.arange(len(ranking))
    pairs = overlaps.take(overlaps.iou >= iou_threshold)
    order = np.lexsort((-pairs.reference, -pairs.iou, place[pairs.prediction]))
    free = np.ones(num_references, bool)
    for prediction, reference in zip(
        pairs.prediction[order].tolist(), pairs.reference[order].tolist(), strict=True
    ):
        if matches[prediction] == UNMATCHED and free[reference]:
            matches[prediction] = reference
            free[reference] = False
    return matches
