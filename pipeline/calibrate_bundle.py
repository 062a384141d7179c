"""A bundle's confidence, calibrated on validation places."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geo.footprints import calibrate
from model.bundle import Bundle, save_bundle
from model.calibration import (
    Knots,
    Reliability,
    calibrate_held_out,
    calibration_error,
    fit_calibration,
    reliability,
)
from model.errors import CalibrationError
from pipeline.evaluate_places import PlaceEvaluation
from pipeline.evaluation_pictures import ReliabilityPanel

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationResult:
    """A fitted calibration and how good it is.

    Attributes:
        knots: for `BundleMeta.calibration`.
        before: reliability of the raw confidence.
        after: reliability of the calibrated one; each place by a curve that has not seen it, where
            `is_held_out`.
        is_held_out: there are enough places for that; else `after` flatters.
        place_errors: expected calibration error of each place by itself, before and after; places
            of few footprints show more than there is (see `Reliability`).
        gsds_m: at which pixel sizes.
    """

    knots: Knots
    before: Reliability
    after: Reliability
    is_held_out: bool
    place_errors: dict[str, tuple[float, float]]
    gsds_m: tuple[float, ...]

    @property
    def panels(self) -> list[ReliabilityPanel]:
        """Reliability diagram before and after."""
        name = "calibrated, held out" if self.is_held_out else "calibrated"
        series = (("raw", self.before), (name, self.after))
        return [ReliabilityPanel(title="All places", series=series)]

    @property
    def note(self) -> str:
        """How "after" was measured, in a sentence."""
        if self.is_held_out:
            return "Each place is calibrated by a curve fitted to the other places."
        return "Too few places to hold one out: the calibrated error is flattered."


def fit_to_places(evaluations: Sequence[PlaceEvaluation]) -> CalibrationResult:
    """Fit a calibration to the scored footprints of places, all pixel sizes together.

    Raises:
        CalibrationError: if there are too few footprints.
    """
    groups = _groups(evaluations)
    raw, truth = (np.concatenate(parts) for parts in zip(*groups.values(), strict=True))
    knots = fit_calibration(raw, truth)
    try:
        calibrated, is_held_out = calibrate_held_out(list(groups.values())), True
    except CalibrationError:
        calibrated, is_held_out = [calibrate(one, knots) for one, _ in groups.values()], False
    return CalibrationResult(
        knots=knots,
        before=reliability(raw, truth),
        after=reliability(np.concatenate(calibrated), truth),
        is_held_out=is_held_out,
        place_errors={
            name: (calibration_error(one, true), calibration_error(after, true))
            for (name, (one, true)), after in zip(groups.items(), calibrated, strict=True)
        },
        gsds_m=tuple(sorted({evaluation.scores.gsd_m for evaluation in evaluations})),
    )


def _groups(
    evaluations: Sequence[PlaceEvaluation],
) -> dict[str, tuple[Float64Array, BoolArray]]:
    """Raw confidence and truth by place: one ground, however often it was looked at."""
    parts: dict[str, list[tuple[Float64Array, BoolArray]]] = {}
    for evaluation in evaluations:
        parts.setdefault(evaluation.scores.name, []).append(evaluation.samples())
    return {
        name: (np.concatenate([raw for raw, _ in one]), np.concatenate([true for _, true in one]))
        for name, one in parts.items()
    }


def save_calibrated(path: Path, bundle: Bundle, result: CalibrationResult) -> str:
    """Write a bundle with its calibration; weights and everything else stay as they are.

    Returns:
        The new file's sha256.

    Raises:
        BundleError: if the file cannot be written.
    """
    facts = {
        "places": list(result.place_errors),
        "gsd_m": list(result.gsds_m),
        "num_footprints": int(result.before.num_samples.sum()),
        "expected_error_before": round(result.before.error, 4),
        "expected_error_after": round(result.after.error, 4),
        "held_out": result.is_held_out,
        "bundle_sha256": bundle.sha256,
    }
    provenance = {**bundle.meta.provenance, "calibration": facts}
    meta = dataclasses.replace(bundle.meta, calibration=result.knots, provenance=provenance)
    return save_bundle(path, meta, bundle.state_dict)
