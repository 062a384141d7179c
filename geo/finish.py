"""Finishing: traced outlines to the few, straight, right-angled sides of a building.

Each outline is tried as a rectangle, then as a rectilinear outline, then as a simplified one; the
first that is valid and explains the traced pixels well enough is taken. What comes out depends on
the building alone: all arithmetic is relative to its first pixel, and coordinates are multiples of
`LATTICE_STEP_PX`, so that the same pixels give the same shape, to the bit, wherever they lie and
whatever is finished beside them.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import shapely

from geo.finish_kernels import GEOS, LATTICE_STEP_PX, RAW, Limits, finish_all
from geo.instances import Instances
from geo.polygons import PolygonArray
from geo.run_overlap import iou_with_runs

Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]

__all__ = ["FORM_NAMES", "LATTICE_STEP_PX", "FinishConfig", "finish_outlines", "finish_with_forms"]

FORM_NAMES = ("raw", "rectangle", "squared", "simplified", "geos")
"""Names of the forms that `finish_with_forms` reports."""


@dataclass(frozen=True, kw_only=True)
class FinishConfig:
    """How outlines are finished."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    simplify_tolerance_m: float = 0.4
    """Largest distance, in metres, between a dropped vertex and the outline. 0 keeps the outlines
    as traced: nothing is squared either."""

    square: bool = True
    """Turn sides to right angles and fit rectangles."""

    min_iou: float = 0.95
    """A simplified outline is kept if its IoU with the traced one reaches this; else the tolerance
    shrinks. Only where no tolerance will do (small buildings, where the staircase alone costs more)
    is one taken that is as close as straight lines get, down to `square_min_iou`. 0.95 keeps the
    mean over the seed network's noisy masks near 0.95; 0.9 halves their vertices."""

    min_hole_area_m2: float = 4.0
    """Smaller holes are filled."""

    square_min_iou: float = 0.9
    """An outline with right angles is kept only if its IoU with the traced one reaches this. Below
    `min_iou`, since the staircase alone costs a true rectangle of 8 px a tenth."""

    rectangle_tolerance_m: float = 0.9
    """A rectangle is taken only if no vertex of the simplified outline lies farther from it."""

    max_squaring_shift_m: float = 0.05
    """How much farther from the traced outline, on average along it, an outline with right angles
    may lie than the simplified one. At 0.3 m true rectangles stay below this, while trapezoids and
    round huts lie above."""

    snap_angle_deg: float = 27.0
    """Sides within this angle of the dominant direction or its perpendicular are turned onto it."""

    min_side_m: float = 1.0
    """Shorter sides, and smaller steps between sides, are removed when squaring."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_range("simplify_tolerance_m", self.simplify_tolerance_m, 0.0, 1000.0)
        _check_range("min_hole_area_m2", self.min_hole_area_m2, 0.0, 1e9)
        _check_range("rectangle_tolerance_m", self.rectangle_tolerance_m, 0.0, 1000.0)
        _check_range("max_squaring_shift_m", self.max_squaring_shift_m, 0.0, 1000.0)
        _check_range("min_side_m", self.min_side_m, 0.0, 1000.0)
        _check_range("min_iou", self.min_iou, 0.0, 1.0)
        _check_range("square_min_iou", self.square_min_iou, 0.0, 1.0)
        _check_range("snap_angle_deg", self.snap_angle_deg, 0.0, 44.0)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} = {value!r}; expected a number from {low:g} to {high:g}")


def finish_outlines(
    outlines: PolygonArray, instances: Instances, *, gsd_m: float, config: FinishConfig
) -> PolygonArray:
    """Simplify and square traced outlines, each only as far as its own pixels allow.

    Args:
        outlines: exact traced outlines in pixel units, y up (x = col, y = -row).
        instances: the same buildings as pixel runs, in the same order.
        gsd_m: pixel size in metres.
        config: limits.

    Returns:
        As many valid polygons, in the same order and units. An outline that no step can improve
        within the limits comes back as traced, but for holes that were too small.

    Raises:
        ValueError: if the numbers of outlines and instances differ, or gsd_m is not positive.
    """
    return finish_with_forms(outlines, instances, gsd_m=gsd_m, config=config)[0]


def finish_with_forms(
    outlines: PolygonArray, instances: Instances, *, gsd_m: float, config: FinishConfig
) -> tuple[PolygonArray, UInt8Array]:
    """As `finish_outlines`, and what became of each outline: an index into `FORM_NAMES`."""
    if len(outlines) != len(instances):
        raise ValueError(f"{len(outlines)} outlines for {len(instances)} instances; need one each")
    if not gsd_m > 0:
        raise ValueError(f"gsd_m = {gsd_m!r}; expected a positive number of metres")
    coords, ring_offsets, polygon_offsets, forms = finish_all(
        outlines.coords,
        outlines.ring_offsets,
        outlines.polygon_offsets,
        instances.run_row,
        instances.run_start,
        instances.run_end,
        instances.run_offsets,
        _limits(config, gsd_m),
    )
    finished = PolygonArray(
        coords=coords, ring_offsets=ring_offsets, polygon_offsets=polygon_offsets
    )
    if config.simplify_tolerance_m == 0 or not (forms == RAW).any():
        return finished, forms
    return _simplify_by_geos(finished, instances, forms, gsd_m=gsd_m, config=config)


def _limits(config: FinishConfig, gsd_m: float) -> Limits:
    return Limits(
        tolerance=config.simplify_tolerance_m / gsd_m,
        square=config.square,
        min_iou=config.min_iou,
        min_hole_area=config.min_hole_area_m2 / gsd_m**2,
        square_min_iou=config.square_min_iou,
        rectangle_tolerance=config.rectangle_tolerance_m / gsd_m,
        squaring_shift=config.max_squaring_shift_m / gsd_m,
        snap_tan=float(np.tan(np.radians(config.snap_angle_deg))),
        min_side=config.min_side_m / gsd_m,
    )


def _simplify_by_geos(
    finished: PolygonArray,
    instances: Instances,
    forms: UInt8Array,
    *,
    gsd_m: float,
    config: FinishConfig,
) -> tuple[PolygonArray, UInt8Array]:
    """Topology-preserving simplification of the outlines that the kernels left as traced."""
    left = np.flatnonzero(forms == RAW)
    # Relative to the first pixel, like all arithmetic here.
    origin = instances.first_pixels()[left][:, ::-1] * (1, -1)
    local = _translate(finished.take(left), -origin)
    simplified = shapely.simplify(local.to_shapely(), config.simplify_tolerance_m / gsd_m)
    is_usable = shapely.is_valid(simplified) & ~shapely.is_empty(simplified)
    left, origin = left[is_usable], origin[is_usable]
    polygons = shapely.orient_polygons(simplified[is_usable])
    replaced = _translate(PolygonArray.from_shapely(polygons), origin)
    good = np.flatnonzero(iou_with_runs(replaced, instances.take(left)) >= config.min_iou)
    order, forms = np.arange(len(finished)), forms.copy()
    order[left[good]] = len(finished) + good
    forms[left[good]] = GEOS
    return finished.followed_by(replaced).take(order), forms


def _translate(polygons: PolygonArray, shift: Int64Array) -> PolygonArray:
    """Polygons moved by (x, y), one row each."""
    num_points = np.diff(polygons.ring_offsets[polygons.polygon_offsets])
    return PolygonArray(
        coords=polygons.coords + np.repeat(shift, num_points, axis=0),
        ring_offsets=polygons.ring_offsets,
        polygon_offsets=polygons.polygon_offsets,
    )
