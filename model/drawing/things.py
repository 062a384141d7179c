"""Small things that are no buildings: vehicles, containers, pools, rocks, ruins, walls."""

import math

import numpy as np

from model.drawing.canvas import Canvas
from model.drawing.outlines import Pose, corners_of
from model.drawing.scene_plan import Rgb, Thing, Wall

_CARS: tuple[Rgb, ...] = ((232, 232, 230), (210, 212, 214), (40, 42, 46), (120, 124, 128),
                          (150, 40, 40), (48, 76, 130), (90, 92, 96), (196, 188, 170),
                          (222, 180, 60))  # fmt: skip
_CONTAINERS: tuple[Rgb, ...] = ((150, 62, 48), (46, 88, 140), (58, 110, 84), (196, 196, 192),
                                (170, 110, 60), (90, 96, 104), (130, 60, 44))  # fmt: skip


def paint_things(rng: np.random.Generator, canvas: Canvas, things: list[Thing]) -> None:
    """Paint vehicles, containers and the like."""
    for thing in things:
        _PAINTERS[thing.kind](rng, canvas, thing)


def paint_walls(
    rng: np.random.Generator, canvas: Canvas, walls: list[Wall], soil: np.ndarray
) -> None:
    """Paint enclosure walls, hedges and fences."""
    for wall in walls:
        if wall.kind == "wall":
            rgb = np.array((186, 178, 164)) * rng.normal(1, 0.12) * 0.6 + soil * 0.4
            canvas.line(wall.points, float(rng.uniform(0.2, 0.32)), rgb, wall.height_m)
        elif wall.kind == "fence":
            canvas.line(wall.points, 0.1, soil * 0.75, wall.height_m * 0.4)
        else:
            _hedge(rng, canvas, wall)


def _hedge(rng: np.random.Generator, canvas: Canvas, wall: Wall) -> None:
    steps = np.diff(wall.points, axis=0)
    green = np.array((66, 92, 48)) * rng.normal(1, 0.1)
    for start, step in zip(wall.points[:-1], steps, strict=True):
        length = math.hypot(*step)
        for share in np.arange(0, 1, 0.8 / max(length, 0.8)):
            if rng.random() < 0.85:
                x, y = start + step * share + rng.normal(0, 0.15, 2)
                canvas.disc(float(x), float(y), float(rng.uniform(0.4, 0.8)),
                            green * rng.normal(1, 0.14), wall.height_m * 0.8)  # fmt: skip


def _box(
    thing: Thing, share_l: float = 1.0, share_b: float = 1.0, ahead: float = 0.0
) -> np.ndarray:
    half_l, half_b = thing.length_m / 2 * share_l, thing.breadth_m / 2 * share_b
    pose = Pose(thing.x, thing.y, thing.angle).moved(ahead * thing.length_m, 0)
    return pose.apply(corners_of((-half_l, -half_b, half_l, half_b)))


def _car(rng: np.random.Generator, canvas: Canvas, thing: Thing) -> None:
    rgb = np.array(_CARS[int(rng.integers(len(_CARS)))]) * rng.normal(1, 0.05)
    canvas.fill(_box(thing), rgb * 0.92, 0.9)
    canvas.fill(_box(thing, 0.55, 0.88, -0.05), np.array((40, 46, 54)), 1.3)
    canvas.fill(_box(thing, 0.36, 0.86, -0.06), rgb, 1.4)


def _truck(rng: np.random.Generator, canvas: Canvas, thing: Thing) -> None:
    cab = np.array(_CARS[int(rng.integers(len(_CARS)))])
    load = np.array(_CONTAINERS[int(rng.integers(len(_CONTAINERS)))]) * rng.normal(1.05, 0.1)
    canvas.fill(_box(thing, 0.22, 0.95, 0.39), cab, 2.6)
    canvas.fill(_box(thing, 0.74, 1.0, -0.12), load, 2.8)


def _container(rng: np.random.Generator, canvas: Canvas, thing: Thing) -> None:
    rgb = np.array(_CONTAINERS[int(rng.integers(len(_CONTAINERS)))]) * rng.normal(1, 0.1)
    canvas.fill(_box(thing), rgb, 2.6)
    for share in np.arange(-0.45, 0.5, 0.1):
        pose = Pose(thing.x, thing.y, thing.angle)
        ends = pose.apply(((share * thing.length_m, -1.1), (share * thing.length_m, 1.1)))
        canvas.line(ends, 0.1, rgb * 0.93)


def _pool(rng: np.random.Generator, canvas: Canvas, thing: Thing) -> None:
    canvas.fill(_box(thing, 1.2, 1.3), np.array((206, 200, 188)) * rng.normal(1, 0.06), 0.0)
    canvas.fill(_box(thing), np.array((76, 168, 196)) * rng.normal(1, 0.08, 3), 0.0)


def _rock(rng: np.random.Generator, canvas: Canvas, thing: Thing) -> None:
    base = np.array((142, 134, 122)) * rng.normal(1, 0.1)
    high = thing.breadth_m * float(rng.uniform(0.25, 0.6))
    turns = np.linspace(0, 2 * math.pi, 9, endpoint=False)
    ring = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.uniform(0.75, 1.1, (9, 1))
    half = np.array([thing.length_m / 2, thing.breadth_m / 2])
    pose = Pose(thing.x, thing.y, thing.angle)
    canvas.fill(pose.apply(ring * half), base * 0.8, high * 0.6)
    lit = np.array([canvas.sun.x, canvas.sun.y]) * 0.12 * thing.breadth_m
    canvas.fill(pose.apply(ring * half * 0.65) + lit, base * 1.15, high)


def _heap(rng: np.random.Generator, canvas: Canvas, thing: Thing) -> None:
    """Sand, gravel or rubble."""
    base = np.array(((206, 184, 142), (150, 144, 136), (166, 122, 96))[int(rng.integers(3))])
    for share in (1.0, 0.75, 0.5, 0.25):
        move = np.array([canvas.sun.x, canvas.sun.y]) * (1 - share) * 0.25 * thing.breadth_m
        turns = np.linspace(0, 2 * math.pi, 14, endpoint=False)
        ring = np.stack([np.cos(turns), np.sin(turns)], axis=1) * share
        half = np.array([thing.length_m / 2, thing.breadth_m / 2])
        placed = Pose(thing.x, thing.y, thing.angle).apply(ring * half) + move
        canvas.fill(placed, base * (0.8 + 0.3 * (1 - share)), (1 - share) * thing.breadth_m * 0.4)


def _ruin(rng: np.random.Generator, canvas: Canvas, thing: Thing) -> None:
    """Walls or foundations without a roof."""
    rgb = np.array((168, 158, 142)) * rng.normal(1, 0.08)
    ring = _box(thing)
    high = float(rng.uniform(0.3, 2.2))
    canvas.line(ring, 0.3, rgb, high, closed=True)
    middle = (ring[[0, 1]].mean(axis=0), ring[[2, 3]].mean(axis=0))
    canvas.line(np.array(middle), 0.3, rgb, high)
    if rng.random() < 0.5:
        across = (ring[[1, 2]].mean(axis=0), ring[[3, 0]].mean(axis=0))
        canvas.line(np.array(across), 0.3, rgb, high)


def _litter(rng: np.random.Generator, canvas: Canvas, thing: Thing) -> None:
    """A drum, a cloth on a line, a pot, a heap of wood: a speck of any colour."""
    tone = rng.uniform(40, 225) * rng.normal(1, 0.08, 3)
    canvas.fill(_box(thing), tone, float(rng.uniform(0.2, 1.0)))


_PAINTERS = {
    "litter": _litter,
    "car": _car,
    "truck": _truck,
    "container": _container,
    "pool": _pool,
    "rock": _rock,
    "heap": _heap,
    "ruin": _ruin,
}
