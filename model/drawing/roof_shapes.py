"""Shapes of roofs: height, light and texture coordinates at every pixel of a building."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.drawing.canvas import Canvas, Sun
from model.drawing.fill_polygon import FilledPolygon
from model.drawing.scene_plan import Building, Wing

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
_OUTSIDE = np.float32(-1e3)


@dataclass(slots=True)
class RoofSurface:
    """A roof at the pixels of a window; arrays are float32 of one shape.

    Attributes:
        rise: height above the eaves, metres.
        light: light relative to level ground.
        along: coordinate along the eaves, metres.
        down: coordinate down the slope, metres.
        inset: distance to the nearest edge of the building's wings, metres.
        ridge: distance to the ridge, metres.
    """

    rise: Float32Array
    light: Float32Array
    along: Float32Array
    down: Float32Array
    inset: Float32Array
    ridge: Float32Array


@dataclass(slots=True)
class _WingFrame:
    """Coordinates of a window in the frame of a wing."""

    u: Float32Array
    v: Float32Array
    inset_u: Float32Array
    inset_v: Float32Array


def roof_surface(canvas: Canvas, building: Building, filled: FilledPolygon) -> RoofSurface:
    """The roof of a building at the pixels of a window of the canvas."""
    half = np.float32(0.5)
    x = (np.arange(filled.cols.start, filled.cols.stop, dtype=np.float32) + half)[None, :]
    y = (np.arange(filled.rows.start, filled.rows.stop, dtype=np.float32) + half)[:, None]
    x, y = x * np.float32(canvas.work_m), y * np.float32(canvas.work_m)
    if building.roof == "cone":
        return _cone(canvas.sun, building, x, y)
    surface: RoofSurface | None = None
    for wing in building.wings:
        frame = _frame(wing, x, y)
        part = _FORMS[building.roof](canvas.sun, building, wing, frame)
        if len(building.wings) == 1:
            return part
        outside = np.minimum(frame.inset_u, frame.inset_v) < -canvas.work_m
        part.rise[outside] = _OUTSIDE
        part.inset[outside] = _OUTSIDE
        surface = part if surface is None else _higher(surface, part)
    assert surface is not None
    return surface


def _frame(wing: Wing, x: Float32Array, y: Float32Array) -> _WingFrame:
    c, s = np.float32(np.cos(wing.angle)), np.float32(np.sin(wing.angle))
    dx, dy = x - np.float32(wing.x), y - np.float32(wing.y)
    u, v = c * dx + s * dy, -s * dx + c * dy
    inset_u = np.float32(wing.half_length) - np.abs(u)
    inset_v = np.float32(wing.half_breadth) - np.abs(v)
    return _WingFrame(u, v, inset_u, inset_v)


def _higher(first: RoofSurface, second: RoofSurface) -> RoofSurface:
    """Of two wings the one that is higher, pixel by pixel; the joint makes the valley."""
    over = second.rise > first.rise
    level = (second.rise == first.rise) & (second.inset > first.inset)
    take = over | level
    return RoofSurface(
        rise=np.where(take, second.rise, first.rise),
        light=np.where(take, second.light, first.light),
        along=np.where(take, second.along, first.along),
        down=np.where(take, second.down, first.down),
        inset=np.maximum(first.inset, second.inset),
        ridge=np.where(take, second.ridge, first.ridge),
    )


def _lights(sun: Sun, wing: Wing, slope: float) -> Float32Array:
    """Light on the faces towards +v, -v, +u, -u."""
    c, s = np.cos(wing.angle), np.sin(wing.angle)
    down_x = np.array([-s, s, c, -c]) * -slope
    down_y = np.array([c, -c, s, -s]) * -slope
    return sun.shade(down_x, down_y)


def _gable(sun: Sun, building: Building, wing: Wing, frame: _WingFrame) -> RoofSurface:
    light = _lights(sun, wing, building.slope)
    return RoofSurface(
        rise=np.float32(building.slope) * np.maximum(frame.inset_v, 0),
        light=np.where(frame.v > 0, light[0], light[1]),
        along=frame.u,
        down=np.abs(frame.v),
        inset=np.minimum(frame.inset_u, frame.inset_v),
        ridge=np.abs(frame.v),
    )


def _hip(sun: Sun, building: Building, wing: Wing, frame: _WingFrame) -> RoofSurface:
    light = _lights(sun, wing, building.slope)
    at_end = frame.inset_u < frame.inset_v
    sides = np.where(frame.v > 0, light[0], light[1])
    ends = np.where(frame.u > 0, light[2], light[3])
    inset = np.minimum(frame.inset_u, frame.inset_v)
    return RoofSurface(
        rise=np.float32(building.slope) * np.maximum(inset, 0),
        light=np.where(at_end, ends, sides),
        along=np.where(at_end, frame.v, frame.u),
        down=np.where(at_end, -frame.inset_u, -frame.inset_v),
        inset=inset,
        ridge=np.minimum(np.abs(frame.inset_u - frame.inset_v), np.abs(frame.v)),
    )


def _shed(sun: Sun, building: Building, wing: Wing, frame: _WingFrame) -> RoofSurface:
    light = _lights(sun, wing, building.slope)
    return RoofSurface(
        rise=np.float32(building.slope) * np.maximum(np.float32(wing.half_breadth) - frame.v, 0),
        light=np.full_like(frame.u, light[0]),
        along=frame.u,
        down=frame.v,
        inset=np.minimum(frame.inset_u, frame.inset_v),
        ridge=np.float32(wing.half_breadth) + frame.v,
    )


def _flat(sun: Sun, building: Building, wing: Wing, frame: _WingFrame) -> RoofSurface:
    return RoofSurface(
        rise=np.zeros_like(frame.u),
        light=np.ones_like(frame.u),
        along=frame.u,
        down=frame.v,
        inset=np.minimum(frame.inset_u, frame.inset_v),
        ridge=np.full_like(frame.u, 1e3),
    )


def _vault(sun: Sun, building: Building, wing: Wing, frame: _WingFrame) -> RoofSurface:
    share = np.clip(frame.v / np.float32(wing.half_breadth), -1, 1)
    top = np.float32(building.slope * wing.half_breadth * 0.6)
    slope = -2 * top * share / np.float32(wing.half_breadth)
    c, s = np.float32(np.cos(wing.angle)), np.float32(np.sin(wing.angle))
    return RoofSurface(
        rise=top * (1 - share * share),
        light=sun.shade(-s * slope, c * slope),
        along=frame.u,
        down=frame.v,
        inset=np.minimum(frame.inset_u, frame.inset_v),
        ridge=np.full_like(frame.u, 1e3),
    )


def _sawtooth(sun: Sun, building: Building, wing: Wing, frame: _WingFrame) -> RoofSurface:
    """Teeth of 6 m: a long slope, and glass on the short one."""
    light = _lights(sun, wing, building.slope)
    tooth = np.mod(frame.u, np.float32(6.0))
    return RoofSurface(
        rise=np.float32(building.slope) * tooth * np.float32(0.6),
        light=np.where(tooth < 5.2, light[3], np.float32(0.55)),
        along=frame.v,
        down=tooth,
        inset=np.minimum(frame.inset_u, frame.inset_v),
        ridge=np.float32(6.0) - tooth,
    )


def _cone(sun: Sun, building: Building, x: Float32Array, y: Float32Array) -> RoofSurface:
    wing = building.wings[0]
    dx, dy = x - np.float32(wing.x), y - np.float32(wing.y)
    reach = np.hypot(dx, dy) + np.float32(1e-3)
    slope = np.float32(-building.slope)
    inset = np.float32(wing.half_length) - reach
    return RoofSurface(
        rise=np.float32(building.slope) * np.maximum(inset, 0),
        light=sun.shade(slope * dx / reach, slope * dy / reach),
        along=np.arctan2(dy, dx) * np.float32(wing.half_length),
        down=reach,
        inset=inset,
        ridge=reach,
    )


_FORMS = {
    "gable": _gable,
    "hip": _hip,
    "shed": _shed,
    "flat": _flat,
    "vault": _vault,
    "sawtooth": _sawtooth,
}
