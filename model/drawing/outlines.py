"""Outlines of buildings from rectangular wings: rectangles, L, T, U, steps, courtyards, huts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.drawing.scene_plan import Wing

Float64Array = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """An outline around the origin: rings of corners, and the boxes it is made of.

    Attributes:
        rings: float64 arrays of shape (num_corners, 2), not closed; the first is the outer one.
        boxes: (x0, y0, x1, y1) whose union it is.
    """

    rings: tuple[Float64Array, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Pose:
    """A place and a direction (radians, clockwise as y points down)."""

    x: float
    y: float
    angle: float

    def apply(self, points: npt.ArrayLike) -> Float64Array:
        """Points of the local frame (..., 2) in the plane."""
        local = np.asarray(points, np.float64)
        c, s = math.cos(self.angle), math.sin(self.angle)
        x, y = local[..., 0], local[..., 1]
        return np.stack([self.x + c * x - s * y, self.y + s * x + c * y], axis=-1)

    def moved(self, right: float, down: float, turn: float = 0.0) -> "Pose":
        """The pose at a point of this frame, turned against it."""
        x, y = self.apply((right, down))
        return Pose(float(x), float(y), self.angle + turn)


def corners_of(box: Box) -> Float64Array:
    """The four corners of a box, float64 (4, 2)."""
    x0, y0, x1, y1 = box
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)


def rectangle(length: float, breadth: float) -> Outline:
    """A rectangle."""
    box = (-length / 2, -breadth / 2, length / 2, breadth / 2)
    return Outline(rings=(corners_of(box),), boxes=(box,))


def l_shape(length: float, breadth: float, wing: float, depth: float) -> Outline:
    """A rectangle with a wing of breadth `wing` that stands out by `depth` at one end."""
    x0, y0, x1, y1 = -length / 2, -breadth / 2, length / 2, breadth / 2
    ring = [
        (x0, y0),
        (x1, y0),
        (x1, y1),
        (x0 + wing, y1),
        (x0 + wing, y1 + depth),
        (x0, y1 + depth),
    ]
    return Outline(
        rings=(np.array(ring, np.float64),),
        boxes=((x0, y0, x1, y1), (x0, y0, x0 + wing, y1 + depth)),
    )


def t_shape(length: float, breadth: float, wing: float, depth: float, at: float) -> Outline:
    """A rectangle with a wing that stands out at a share `at` of its length."""
    x0, y0, x1, y1 = -length / 2, -breadth / 2, length / 2, breadth / 2
    left = x0 + at * (length - wing)
    right = left + wing
    ring = [(x0, y0), (x1, y0), (x1, y1), (right, y1), (right, y1 + depth), (left, y1 + depth),
            (left, y1), (x0, y1)]  # fmt: skip
    return Outline(
        rings=(np.array(ring, np.float64),),
        boxes=((x0, y0, x1, y1), (left, y0, right, y1 + depth)),
    )


def u_shape(length: float, breadth: float, wing: float, depth: float) -> Outline:
    """A rectangle with two wings at its ends."""
    x0, y0, x1, y1 = -length / 2, -breadth / 2, length / 2, breadth / 2
    y2, left, right = y1 + depth, x0 + wing, x1 - wing
    ring = [
        (x0, y0),
        (x1, y0),
        (x1, y2),
        (right, y2),
        (right, y1),
        (left, y1),
        (left, y2),
        (x0, y2),
    ]
    return Outline(
        rings=(np.array(ring, np.float64),),
        boxes=((x0, y0, x1, y1), (x0, y0, left, y2), (right, y0, x1, y2)),
    )


def courtyard(length: float, breadth: float, wing: float) -> Outline:
    """Four wings around a courtyard."""
    x0, y0, x1, y1 = -length / 2, -breadth / 2, length / 2, breadth / 2
    inner = (x0 + wing, y0 + wing, x1 - wing, y1 - wing)
    return Outline(
        rings=(corners_of((x0, y0, x1, y1)), corners_of(inner)[::-1]),
        boxes=(
            (x0, y0, x1, inner[1]),
            (x0, inner[3], x1, y1),
            (x0, y0, inner[0], y1),
            (inner[2], y0, x1, y1),
        ),
    )


def hut(radius: float, num_corners: int = 20) -> Outline:
    """A round hut, as a polygon."""
    turns = np.linspace(0, 2 * np.pi, num_corners, endpoint=False)
    ring = radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return Outline(rings=(ring,), boxes=((-radius, -radius, radius, radius),))


def draw_outline(rng: np.random.Generator, length: float, breadth: float) -> Outline:
    """A house of about the size given: mostly a rectangle, else with wings."""
    kind = float(rng.random())
    if kind < 0.62 or min(length, breadth) < 5:
        return rectangle(length, breadth)
    wing = float(rng.uniform(0.35, 0.6)) * length
    depth = float(rng.uniform(0.2, 0.6)) * breadth
    if kind < 0.78:
        return l_shape(length, breadth - depth / 2, wing, depth)
    if kind < 0.9:
        return t_shape(length, breadth - depth / 2, wing * 0.8, depth, float(rng.uniform(0.2, 0.8)))
    if kind < 0.93:
        return u_shape(length, breadth * 0.6, length * 0.3, depth)
    return t_shape(length, breadth, wing, float(rng.uniform(0.8, 1.8)), float(rng.choice((0, 1))))


def wings_of(boxes: Sequence[Box], pose: Pose) -> tuple[Wing, ...]:
    """Boxes of a local frame as wings in the plane, their length along the longer side."""
    wings = []
    for x0, y0, x1, y1 in boxes:
        middle = pose.apply(((x0 + x1) / 2, (y0 + y1) / 2))
        length, breadth = x1 - x0, y1 - y0
        turned = breadth > length
        wings.append(
            Wing(
                x=float(middle[0]),
                y=float(middle[1]),
                angle=pose.angle + (math.pi / 2 if turned else 0.0),
                half_length=max(length, breadth) / 2,
                half_breadth=min(length, breadth) / 2,
            )
        )
    return tuple(wings)
