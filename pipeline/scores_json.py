"""Scores as plain JSON values."""

import dataclasses
import math
from typing import Any

from geo.metrics import IOU_THRESHOLDS, Scores


def scores_as_dict(scores: Scores) -> dict[str, Any]:
    """Scores as plain JSON values; what is not defined (NaN, no upper edge) is None."""
    plain = dataclasses.asdict(scores)
    by_threshold = scores.average_precision.tolist()
    plain["average_precision"] = {
        f"{iou:.2f}": value for iou, value in zip(IOU_THRESHOLDS, by_threshold, strict=True)
    }
    plain["curve"] = {name: values.tolist() for name, values in plain["curve"].items()}
    result: dict[str, Any] = without_nan({"ap50": scores.ap50, "ap50_95": scores.ap50_95, **plain})
    return result


def without_nan(value: Any) -> Any:
    """Plain values with None where a number is not finite."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
