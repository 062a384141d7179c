"""What fills blocks of the countryside: compounds, hamlets, groves, fields and empty ground."""

import itertools
import math

import numpy as np

from model.drawing.builder import Builder
from model.drawing.occupancy import TAKEN
from model.drawing.outlines import Pose, draw_outline, rectangle
from model.drawing.scene_plan import PatchKind
from model.drawing.street_grid import Block

_FIELDS: tuple[PatchKind, ...] = (
    "furrows",
    "crop",
    "rows",
    "bare",
    "lawn",
    "pitch",
    "water",
    "mud",
)
_FIELD_SHARES = (0.2, 0.22, 0.18, 0.14, 0.12, 0.04, 0.03, 0.07)


def fill_compound(builder: Builder, block: Block) -> None:
    """Huts and small houses around bare yards."""
    for _ in range(int(builder.rng.integers(1, 4))):
        s = builder.uniform((block.s0 + 0.2 * block.length, block.s1 - 0.2 * block.length))
        t = builder.uniform((block.t0 + 0.2 * block.depth, block.t1 - 0.2 * block.depth))
        _add_compound(builder, block.grid.at(s, t), builder.uniform((8, 17)))


def _add_compound(builder: Builder, middle: Pose, radius: float) -> None:
    rng = builder.rng
    turns = np.linspace(0, 2 * math.pi, 14, endpoint=False)
    swing = 1 + 0.12 * rng.standard_normal(14)
    ring = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (radius * swing)[:, None]
    yard = ring + (middle.x, middle.y)
    builder.patch(yard, "bare")
    if builder.chance(0.35):
        builder.wall(yard * 1.0)
    for turn in rng.permutation(turns)[: int(rng.integers(2, 9))]:
        reach = radius * builder.uniform((0.45, 0.95))
        pose = Pose(
            middle.x + reach * math.cos(turn), middle.y + reach * math.sin(turn), float(turn)
        )
        length = builder.uniform(builder.style.house_m)
        breadth = length * builder.uniform(builder.style.aspect)
        facing = Pose(pose.x, pose.y, pose.angle + math.pi / 2)
        builder.house(facing, draw_outline(rng, length, breadth), margin_m=0.4)
    _plant(builder, middle, radius * 1.4, int(rng.poisson(3)))


def fill_hamlet(builder: Builder, block: Block) -> None:
    """Houses here and there among trees and gardens."""
    rng, style = builder.rng, builder.style
    num = int(block.length * block.depth / builder.uniform((300, 900)))
    for _ in range(num):
        s, t = builder.uniform((block.s0, block.s1)), builder.uniform((block.t0, block.t1))
        pose = block.grid.at(s, t)
        turn = float(rng.choice((0, math.pi / 2))) + float(rng.normal(0, style.jitter))
        pose = Pose(pose.x, pose.y, pose.angle + turn)
        length = builder.uniform(style.house_m)
        outline = draw_outline(rng, length, length * builder.uniform(style.aspect))
        if not builder.house(pose, outline, margin_m=0.5):
            continue
        if builder.chance(0.5):
            radius = length * builder.uniform((0.8, 1.3))
            turns = np.linspace(0, 2 * math.pi, 10, endpoint=False)
            ring = radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
            builder.patch(
                ring * (1 + 0.15 * rng.standard_normal((10, 1))) + (pose.x, pose.y), "bare"
            )
        if builder.chance(0.4):
            shed = rectangle(builder.uniform((2, 4)), builder.uniform((1.8, 3)))
            builder.house(pose.moved(length * 0.5 + 3, builder.uniform((-4, 4))), shed)
    _plant(builder, block.pose, max(block.length, block.depth) / 2, num)


def fill_grove(builder: Builder, block: Block) -> None:
    """Trees close together, in rows where they were planted."""
    if builder.chance(0.25):
        _plant_rows(builder, block)
        return
    density = builder.uniform((0.01, 0.03))
    for _ in range(int(block.length * block.depth * density)):
        s, t = builder.uniform((block.s0, block.s1)), builder.uniform((block.t0, block.t1))
        x, y = block.grid.points(s, t)
        if builder.is_free(float(x), float(y)):
            builder.tree(float(x), float(y))


def _plant_rows(builder: Builder, block: Block) -> None:
    step, radius = builder.uniform((4, 9)), builder.uniform((1.0, 2.6))
    for s in np.arange(block.s0, block.s1, step):
        for t in np.arange(block.t0, block.t1, step):
            x, y = block.grid.points(s, t) + builder.rng.normal(0, 0.3, 2)
            if builder.chance(0.93) and builder.is_free(float(x), float(y)):
                builder.tree(float(x), float(y), radius * builder.uniform((0.75, 1.25)))


def fill_open(builder: Builder, block: Block) -> None:
    """Fields, pasture, bare ground, a pond or a pitch, split into a few parts."""
    rng = builder.rng
    num = int(rng.integers(1, 4))
    edges = block.s0 + np.linspace(0, 1, num + 1) * block.length
    for low, high in itertools.pairwise(edges.tolist()):
        part = Block(grid=block.grid, s0=low + 0.4, s1=high - 0.4, t0=block.t0, t1=block.t1)
        kind = _FIELDS[int(rng.choice(len(_FIELDS), p=_FIELD_SHARES))]
        angle = block.pose.angle + float(rng.choice((0, math.pi / 2)))
        builder.patch(part.ring(), kind, angle)
        if kind in ("water", "crop", "rows", "pitch"):
            builder.occupancy.take(part.ring(), TAKEN)
        for _ in range(0 if kind == "water" else int(rng.poisson(1.2))):
            x, y = part.grid.points(
                builder.uniform((part.s0, part.s1)), builder.uniform((part.t0, part.t1))
            )
            _put_odd_thing(builder, Pose(float(x), float(y), builder.uniform((0, 6.28))))


def _put_odd_thing(builder: Builder, pose: Pose) -> None:
    kind = ("rock", "heap", "ruin")[int(builder.rng.choice(3, p=(0.45, 0.35, 0.2)))]
    if kind == "rock":
        for _ in range(int(builder.rng.integers(1, 7))):
            size = builder.uniform((0.6, 4.0))
            near = pose.moved(*builder.rng.normal(0, 4, 2))
            builder.thing(near, "rock", size, size * builder.uniform((0.6, 1)))
    elif kind == "heap":
        size = builder.uniform((2, 7))
        builder.thing(pose, "heap", size, size * builder.uniform((0.6, 1)))
    else:
        builder.thing(pose, "ruin", builder.uniform((6, 14)), builder.uniform((5, 9)))


def _plant(builder: Builder, middle: Pose, radius: float, num: int) -> None:
    for _ in range(num):
        x, y = (middle.x, middle.y) + builder.rng.uniform(-radius, radius, 2)
        if builder.is_free(float(x), float(y)):
            builder.tree(float(x), float(y))
