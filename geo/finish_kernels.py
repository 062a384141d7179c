"""The kernels that finish one outline after the other: candidates, guard, verdict.

Every candidate outline is put on the "lattice": integer coordinates relative to the building's
first pixel. There it is tested for validity, exactly, and measured against the pixels. There is
room for one simplified and one squared candidate, and the outcome is what was left in either.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from geo.kernels import borrowing_njit, inlined_njit
from geo.polygons import Float64Array
from geo.regularize import (
    SIDE_COLUMNS,
    dominant_direction,
    fit_rectangle,
    is_near_rectangle,
    refit_ring,
    square_ring,
    sum_along,
)
from geo.ring_validity import (
    MAX_COORDINATE,
    ValidityRoom,
    is_strictly_valid,
    make_validity_room,
)
from geo.run_overlap import (
    LocalRuns,
    load_runs,
    make_local_runs,
    ring_area,
    ring_length,
    ring_overlap,
)
from geo.simplify import refine_indices, simplify_indices

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]

LATTICE_STEP_PX = 2.0**-12
"""Finished coordinates are whole multiples of this: validity is decided on integers."""

_LATTICE = 4096.0
# Beyond this extent in pixels the integers of the validity test could overflow; GEOS takes over.
_MAX_EXTENT_PX = float(MAX_COORDINATE) / _LATTICE / 2.0
# Mean distance between a straight line and the pixel edges that stand for it, with some slack.
_STAIRCASE_PX = 0.3
# Where the guard refuses, the tolerance shrinks by a factor between these, and so often at most.
_MIN_FACTOR, _MAX_FACTOR = 0.5, 0.8
_NUM_ATTEMPTS = 4

RAW, RECTANGLE, SQUARED, SIMPLIFIED, GEOS = 0, 1, 2, 3, 4
"""Forms: what became of an outline."""


class Limits(NamedTuple):
    """The config in pixels, as the kernels take it."""

    tolerance: float
    square: bool
    min_iou: float
    min_hole_area: float
    square_min_iou: float
    rectangle_tolerance: float
    squaring_shift: float
    snap_tan: float
    min_side: float


class _Ragged(NamedTuple):
    """Polygons, as in `PolygonArray`."""

    coords: Float64Array
    ring_offsets: Int64Array
    polygon_offsets: Int64Array


class _Runs(NamedTuple):
    """The pixels of all instances, as in `Instances`."""

    rows: Int32Array
    starts: Int32Array
    ends: Int32Array
    offsets: Int64Array


class _Pixels(NamedTuple):
    """The pixels of one instance."""

    runs: LocalRuns
    num_runs: int
    num_rows: int
    num_pixels: float


class _Candidate(NamedTuple):
    """An outline in steps of the lattice, and the position after each of its rings."""

    points: Int64Array
    ends: Int64Array


class _Verdict(NamedTuple):
    """IoU of a candidate with the pixels, area of their difference, length of its outline."""

    iou: float
    difference: float
    length: float


class _Scratch(NamedTuple):
    """Work space for the largest outline, reused for all.

    raw: rings relative to the first pixel, raw_ends: position after each ring; sums: of
    `sum_along`, ring by ring; kept: positions of the simplified vertices within their ring,
    kept_ends likewise; coarse: those of the attempt before; simplified and squared: candidates;
    points: a candidate in pixels; validity: for that test; runs: those of the instance.
    """

    raw: Float64Array
    raw_ends: Int64Array
    sums: Float64Array
    coarse: Int64Array
    kept: Int64Array
    kept_ends: Int64Array
    stack: Int64Array
    sides: Float64Array
    corners: Float64Array
    simplified: _Candidate
    squared: _Candidate
    points: Float64Array
    validity: ValidityRoom
    runs: LocalRuns


@numba.njit(cache=True, nogil=True, error_model="numpy")
def finish_all(
    coords: Float64Array,
    ring_offsets: Int64Array,
    polygon_offsets: Int64Array,
    run_row: Int32Array,
    run_start: Int32Array,
    run_end: Int32Array,
    run_offsets: Int64Array,
    limits: Limits,
) -> tuple[Float64Array, Int64Array, Int64Array, UInt8Array]:
    """Finish every outline in turn; no outcome is larger than the outline it came from."""
    num = len(polygon_offsets) - 1
    out = np.empty((len(coords) + 5, 2))
    out_ring_offsets = np.zeros(len(ring_offsets), np.int64)
    out_polygon_offsets = np.zeros(num + 1, np.int64)
    forms = np.zeros(num, np.uint8)
    scratch = _make_scratch(ring_offsets, polygon_offsets, run_row, run_offsets)
    outlines = _Ragged(coords, ring_offsets, polygon_offsets)
    finished = _Ragged(out, out_ring_offsets, out_polygon_offsets)
    runs = _Runs(run_row, run_start, run_end, run_offsets)
    _finish_each(outlines, runs, limits, scratch, finished, forms)
    num_rings = out_polygon_offsets[num]
    num_points = out_ring_offsets[num_rings]
    # Copies, so that the roomy buffers are let go.
    coords_left, offsets_left = out[:num_points].copy(), out_ring_offsets[: num_rings + 1].copy()
    return coords_left, offsets_left, out_polygon_offsets, forms


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _make_scratch(
    ring_offsets: Int64Array,
    polygon_offsets: Int64Array,
    run_row: Int32Array,
    run_offsets: Int64Array,
) -> _Scratch:
    """Work space for the largest outline and the largest instance."""
    points, rings, runs, height = np.int64(8), np.int64(1), np.int64(1), np.int64(1)
    for i in range(len(polygon_offsets) - 1):
        first, last = polygon_offsets[i], polygon_offsets[i + 1]
        rows = np.int64(run_row[run_offsets[i + 1] - 1]) - np.int64(run_row[run_offsets[i]]) + 1
        points = np.maximum(points, ring_offsets[last] - ring_offsets[first])
        rings, height = np.maximum(rings, last - first), np.maximum(height, rows)
        runs = np.maximum(runs, run_offsets[i + 1] - run_offsets[i])
    room = 3 * points + 8
    return _Scratch(
        np.empty((points, 2)),
        np.empty(rings, np.int64),
        np.empty((points, 2)),
        np.empty(points, np.int64),
        np.empty(points, np.int64),
        np.empty(rings, np.int64),
        np.empty((points + 2, 2), np.int64),
        np.empty((room, SIDE_COLUMNS)),
        np.empty((room, 2)),
        _Candidate(np.empty((points, 2), np.int64), np.empty(rings, np.int64)),
        _Candidate(np.empty((points, 2), np.int64), np.empty(rings, np.int64)),
        np.empty((points, 2)),
        make_validity_room(points),
        make_local_runs(runs, height),
    )


@borrowing_njit()
def _finish_each(
    outlines: _Ragged,
    runs: _Runs,
    limits: Limits,
    scratch: _Scratch,
    finished: _Ragged,
    forms: UInt8Array,
) -> None:
    """Fill the finished outlines and what became of each."""
    num_points, num_rings = 0, 0
    for i in range(len(forms)):
        first, last = runs.offsets[i], runs.offsets[i + 1]
        rows, starts, ends = runs.rows[first:last], runs.starts[first:last], runs.ends[first:last]
        num_rows, num_pixels = load_runs(rows, starts, ends, scratch.runs)
        pixels = _Pixels(scratch.runs, last - first, num_rows, num_pixels)
        x, y = np.float64(starts[0]), -np.float64(rows[0])
        raw_rings = _load(outlines, i, x, y, limits.min_hole_area, scratch)
        forms[i], rings = _finish_one(raw_rings, pixels, limits, scratch)
        is_squared = forms[i] == RECTANGLE or forms[i] == SQUARED
        outcome = scratch.squared if is_squared else scratch.simplified
        begin = 0
        for ring in range(rings):
            for k in range(begin, outcome.ends[ring]):
                finished.coords[num_points, 0] = outcome.points[k, 0] / _LATTICE + x
                finished.coords[num_points, 1] = outcome.points[k, 1] / _LATTICE + y
                num_points += 1
            begin = outcome.ends[ring]
            num_rings += 1
            finished.ring_offsets[num_rings] = num_points
        finished.polygon_offsets[i + 1] = num_rings


@inlined_njit()
def _load(
    outlines: _Ragged, i: int, x: float, y: float, min_hole_area: float, scratch: _Scratch
) -> int:
    """Copy an outline relative to (x, y), without the small holes; its number of rings."""
    count, rings = 0, 0
    first_ring = outlines.polygon_offsets[i]
    for ring in range(first_ring, outlines.polygon_offsets[i + 1]):
        begin = count
        for k in range(outlines.ring_offsets[ring], outlines.ring_offsets[ring + 1]):
            scratch.raw[count, 0] = outlines.coords[k, 0] - x
            scratch.raw[count, 1] = outlines.coords[k, 1] - y
            count += 1
        is_hole = ring > first_ring
        if is_hole and abs(ring_area(scratch.raw[begin:count])) < min_hole_area:
            count = begin
            continue
        sum_along(scratch.raw[begin:count], scratch.sums[begin:count])
        scratch.raw_ends[rings] = count
        rings += 1
    return rings


@inlined_njit()
def _finish_one(
    raw_rings: int, pixels: _Pixels, limits: Limits, scratch: _Scratch
) -> tuple[int, int]:
    """Form and number of rings of the outcome: the squared or the simplified candidate."""
    if limits.tolerance <= 0.0 or not _is_small(raw_rings, scratch):
        return RAW, _put_raw(raw_rings, scratch)
    tolerance, loose_tolerance = limits.tolerance, 0.0
    for attempt in range(_NUM_ATTEMPTS):
        simplified = _simplify_and_measure(raw_rings, tolerance, attempt > 0, pixels, scratch)
        if attempt == 0 and limits.square:
            form, rings = _square(raw_rings, simplified, pixels, limits, scratch)
            if rings > 0:
                return form, rings
        if simplified.iou >= limits.min_iou:
            rings = _accept_simplified(raw_rings, limits.min_iou, pixels, scratch)
            if rings > 0:
                return SIMPLIFIED, rings
        elif loose_tolerance == 0.0 and _is_staircase(simplified, limits):
            loose_tolerance = tolerance
        tolerance *= _next_factor(simplified.iou, limits.min_iou)
    if loose_tolerance > 0.0:
        _simplify_and_measure(raw_rings, loose_tolerance, False, pixels, scratch)
        rings = _accept_simplified(raw_rings, limits.square_min_iou, pixels, scratch)
        if rings > 0:
            return SIMPLIFIED, rings
    return RAW, _put_raw(raw_rings, scratch)


@inlined_njit()
def _simplify_and_measure(
    raw_rings: int, tolerance: float, is_finer: bool, pixels: _Pixels, scratch: _Scratch
) -> _Verdict:
    """Simplify within a tolerance, and measure the refitted outline, valid or not.

    is_finer: the tolerance is smaller than the one before, for the same building.
    """
    if is_finer:
        _refine(raw_rings, tolerance, scratch)
    else:
        _simplify(raw_rings, tolerance, scratch)
    rings = _put_simplified(raw_rings, True, scratch)
    return _measure(scratch.simplified, rings, pixels, scratch.points)


@borrowing_njit()
def _next_factor(iou: float, min_iou: float) -> float:
    """By how much to shrink the tolerance: as much as the difference has to, within bounds."""
    wanted = (1.0 - min_iou) / max(1.0 - iou, 1e-6)
    return min(max(wanted, _MIN_FACTOR), _MAX_FACTOR)


@borrowing_njit()
def _num_rings(raw_rings: int, scratch: _Scratch) -> int:
    """The number of rings that simplifying has left."""
    rings, begin = 0, 0
    for ring in range(raw_rings):
        rings += scratch.kept_ends[ring] > begin
        begin = scratch.kept_ends[ring]
    return rings


@inlined_njit()
def _accept_simplified(raw_rings: int, least_iou: float, pixels: _Pixels, scratch: _Scratch) -> int:
    """The number of rings of a valid simplified candidate; 0 if there is none.

    The refitted one, which is there already, if it is valid; else the one with its vertices on the
    staircase, if that is close enough.
    """
    rings = _num_rings(raw_rings, scratch)
    if _is_valid(scratch.simplified, rings, scratch.validity):
        return rings
    rings = _put_simplified(raw_rings, False, scratch)
    is_close = _measure(scratch.simplified, rings, pixels, scratch.points).iou >= least_iou
    return rings if is_close and _is_valid(scratch.simplified, rings, scratch.validity) else 0


@borrowing_njit()
def _is_staircase(simplified: _Verdict, limits: Limits) -> bool:
    """Whether an outline is as close to the pixels as straight lines get.

    The staircase of a line lies a quarter of a pixel from it, which in a small building is more
    than `min_iou` allows; without this, straight walls would come out as staircases there.
    """
    is_near = simplified.difference <= _STAIRCASE_PX * simplified.length
    return is_near and simplified.iou >= limits.square_min_iou


@borrowing_njit()
def _put_raw(raw_rings: int, scratch: _Scratch) -> int:
    """Make the traced outline the simplified candidate; its number of rings."""
    candidate = scratch.simplified
    for k in range(scratch.raw_ends[raw_rings - 1]):
        candidate.points[k, 0] = np.int64(scratch.raw[k, 0] * _LATTICE)
        candidate.points[k, 1] = np.int64(scratch.raw[k, 1] * _LATTICE)
    for ring in range(raw_rings):
        candidate.ends[ring] = scratch.raw_ends[ring]
    return raw_rings


@inlined_njit()
def _square(
    raw_rings: int, simplified: _Verdict, pixels: _Pixels, limits: Limits, scratch: _Scratch
) -> tuple[int, int]:
    """Form and number of rings of the outline with right angles; 0 rings if none will do."""
    most = simplified.difference + limits.squaring_shift * simplified.length
    shell, kept = scratch.raw[: scratch.raw_ends[0]], scratch.kept[: scratch.kept_ends[0]]
    sums = scratch.sums[: scratch.raw_ends[0]]
    angle = dominant_direction(shell, sums, kept, len(kept), limits.snap_tan)
    has_holes = scratch.kept_ends[raw_rings - 1] > len(kept)
    if not has_holes and _try_rectangle(shell, kept, angle, pixels, most, limits, scratch):
        return RECTANGLE, 1
    if len(kept) < 4:
        return SQUARED, 0
    return SQUARED, _try_squared(raw_rings, angle, pixels, most, limits, scratch)


@borrowing_njit()
def _is_small(raw_rings: int, scratch: _Scratch) -> bool:
    """Whether the outline's lattice coordinates leave room for the validity test."""
    for k in range(scratch.raw_ends[0]):
        if max(abs(scratch.raw[k, 0]), abs(scratch.raw[k, 1])) > _MAX_EXTENT_PX:
            return False
    return raw_rings > 0


@inlined_njit()
def _simplify(raw_rings: int, tolerance: float, scratch: _Scratch) -> None:
    """Simplify all rings; a hole that collapses keeps no vertex at all.

    The shell stays even if it collapses to a line: a rectangle may still explain it.
    """
    begin, count = 0, 0
    for ring in range(raw_rings):
        end = scratch.raw_ends[ring]
        points = scratch.raw[begin:end]
        num = simplify_indices(points, tolerance, scratch.kept[count:], scratch.stack)
        if ring == 0 or num >= 3:
            count += num
        scratch.kept_ends[ring] = count
        begin = end


@borrowing_njit()
def _refine(raw_rings: int, tolerance: float, scratch: _Scratch) -> None:
    """As `_simplify`, from the vertices kept at a larger tolerance."""
    before = scratch.kept_ends[raw_rings - 1]
    for k in range(before):
        scratch.coarse[k] = scratch.kept[k]
    begin, count, coarse_begin = 0, 0, 0
    for ring in range(raw_rings):
        end, coarse_end = scratch.raw_ends[ring], scratch.kept_ends[ring]
        points, coarse = scratch.raw[begin:end], scratch.coarse[coarse_begin:coarse_end]
        kept = scratch.kept[count:]
        if len(coarse) == 0:
            num = simplify_indices(points, tolerance, kept, scratch.stack)
        else:
            num = refine_indices(points, coarse, tolerance, kept, scratch.stack)
        if ring == 0 or num >= 3:
            count += num
        scratch.kept_ends[ring] = count
        begin, coarse_begin = end, coarse_end


@inlined_njit()
def _try_rectangle(
    shell: Float64Array,
    kept: Int64Array,
    angle: float,
    pixels: _Pixels,
    most: float,
    limits: Limits,
    scratch: _Scratch,
) -> bool:
    """Make the rectangle of the pixels the squared candidate; whether it explains them."""
    corners = scratch.corners[:5]
    num, runs = pixels.num_runs, pixels.runs
    fit_rectangle(runs.tops[:num], runs.lefts[:num], runs.rights[:num], angle, corners)
    if not is_near_rectangle(shell, kept, len(kept), corners, limits.rectangle_tolerance):
        return False
    scratch.squared.ends[0] = _put_ring(corners, 4, 0, scratch.squared.points)
    verdict = _measure(scratch.squared, 1, pixels, scratch.points)
    is_close = verdict.iou >= limits.square_min_iou and verdict.difference <= most
    return is_close and _is_valid(scratch.squared, 1, scratch.validity)


@inlined_njit()
def _try_squared(
    raw_rings: int, angle: float, pixels: _Pixels, most: float, limits: Limits, scratch: _Scratch
) -> int:
    """Make the rectilinear outline the squared candidate; its number of rings, 0 if none fits."""
    begin, kept_begin, count, rings = 0, 0, 0, 0
    for ring in range(raw_rings):
        end, kept_end = scratch.raw_ends[ring], scratch.kept_ends[ring]
        num = 0
        if kept_end > kept_begin:
            num = square_ring(
                scratch.raw[begin:end],
                scratch.sums[begin:end],
                scratch.kept[kept_begin:kept_end],
                kept_end - kept_begin,
                angle,
                limits.snap_tan,
                limits.min_side,
                scratch.sides,
                scratch.corners,
            )
        if (num == 0 and ring == 0) or count + num + 1 > len(scratch.squared.points):
            return 0
        if num > 0:
            count = _put_ring(scratch.corners, num, count, scratch.squared.points)
            scratch.squared.ends[rings] = count
            rings += 1
        begin, kept_begin = end, kept_end
    verdict = _measure(scratch.squared, rings, pixels, scratch.points)
    is_close = verdict.iou >= limits.square_min_iou and verdict.difference <= most
    return rings if is_close and _is_valid(scratch.squared, rings, scratch.validity) else 0


@inlined_njit()
def _put_simplified(raw_rings: int, is_refitted: bool, scratch: _Scratch) -> int:
    """Fill the simplified candidate; its number of rings.

    Its vertices lie on the corners of the staircase; refitted, its sides cut as much as they add.
    """
    begin, kept_begin, count, rings = 0, 0, 0, 0
    for ring in range(raw_rings):
        end, kept_end = scratch.raw_ends[ring], scratch.kept_ends[ring]
        points, kept = scratch.raw[begin:end], scratch.kept[kept_begin:kept_end]
        num = len(kept)
        if num > 0:
            corners = scratch.corners[:num]
            if is_refitted:
                refit_ring(points, scratch.sums[begin:end], kept, num, scratch.sides, corners)
            else:
                for k in range(num):
                    corners[k, 0], corners[k, 1] = points[kept[k], 0], points[kept[k], 1]
            count = _put_ring(corners, num, count, scratch.simplified.points)
            scratch.simplified.ends[rings] = count
            rings += 1
        begin, kept_begin = end, kept_end
    return rings


@borrowing_njit()
def _put_ring(corners: Float64Array, num: int, count: int, points: Int64Array) -> int:
    """Append an open ring, rounded to the lattice and closed; the new number of points."""
    first = count
    for k in range(num):
        points[count, 0] = np.int64(np.round(corners[k, 0] * _LATTICE))
        points[count, 1] = np.int64(np.round(corners[k, 1] * _LATTICE))
        count += 1
    points[count, 0], points[count, 1] = points[first, 0], points[first, 1]
    return count + 1


@borrowing_njit()
def _is_valid(candidate: _Candidate, rings: int, room: ValidityRoom) -> bool:
    """Whether a candidate is strictly valid."""
    for k in range(candidate.ends[rings - 1]):
        for axis in range(2):
            value = candidate.points[k, axis]
            if value > MAX_COORDINATE or value < -MAX_COORDINATE:
                return False
    return is_strictly_valid(candidate.points, candidate.ends, rings, room)


@inlined_njit()
def _measure(candidate: _Candidate, rings: int, pixels: _Pixels, room: Float64Array) -> _Verdict:
    """How well a candidate explains the pixels; exact if it is valid."""
    area, overlap, length, begin = 0.0, 0.0, 0.0, 0
    for ring in range(rings):
        end = candidate.ends[ring]
        points = room[: end - begin]
        for k in range(end - begin):
            points[k, 0] = candidate.points[begin + k, 0] / _LATTICE
            points[k, 1] = candidate.points[begin + k, 1] / _LATTICE
        area += ring_area(points)
        length += ring_length(points)
        overlap += ring_overlap(points, pixels.runs, pixels.num_rows)
        begin = end
    union = area + pixels.num_pixels - overlap
    iou = overlap / union if union > 0.0 else 0.0
    return _Verdict(iou, abs(union - overlap), length)
