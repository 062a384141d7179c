"""What fills the ground between streets: houses on parcels, rows, dense cores, slums, halls."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from model.drawing.builder import Builder
from model.drawing.open_ground import fill_compound, fill_grove, fill_hamlet, fill_open
from model.drawing.outlines import (
    Box,
    Outline,
    Pose,
    corners_of,
    courtyard,
    draw_outline,
    l_shape,
    rectangle,
    u_shape,
)
from model.drawing.street_grid import Block


def fill_parcels(builder: Builder, block: Block) -> None:
    """Detached houses on parcels along the streets, with sheds, walls, cars and gardens."""
    rows = 2 if block.depth > 34 else 1
    depth = block.depth / rows
    for row in range(rows):
        s = block.s0
        while s < block.s1 - 6:
            breadth = min(builder.uniform(builder.style.parcel_m), block.s1 - s)
            if block.s1 - s - breadth < 6:
                breadth = block.s1 - s
            faces_up = row == 0
            _fill_parcel(builder, block, (s, s + breadth), row * depth + block.t0, depth, faces_up)
            s += breadth


def _fill_parcel(
    builder: Builder,
    block: Block,
    s: tuple[float, float],
    t: float,
    depth: float,
    faces_up: bool,
) -> None:
    """One parcel; its street lies at the lower t if `faces_up`."""
    style, rng = builder.style, builder.rng
    if builder.chance(0.07):
        return
    middle = block.grid.at((s[0] + s[1]) / 2, t + depth / 2)
    front = Pose(middle.x, middle.y, middle.angle + (0 if faces_up else math.pi))
    breadth = s[1] - s[0]
    house = min(builder.uniform(style.house_m), breadth * 0.92)
    deep = house * builder.uniform(style.aspect)
    setback = float(rng.uniform(1.5, max(2.0, min(8.0, depth - deep - 4))))
    jitter = float(rng.normal(0, style.jitter))
    side = float(rng.uniform(-0.5, 0.5)) * max(breadth - house - 1.0, 0)
    pose = front.moved(side, -depth / 2 + setback + deep / 2, jitter)
    builder.house(pose, _sideways(builder, house, deep), margin_m=0.3)
    if builder.chance(style.walled):
        corners = corners_of((-breadth / 2, -depth / 2, breadth / 2, depth / 2))
        builder.wall(front.apply(corners))
    _furnish_parcel(builder, front, breadth, depth)


def _sideways(builder: Builder, length: float, breadth: float) -> Outline:
    outline = draw_outline(builder.rng, length, breadth)
    if builder.chance(0.25):
        return draw_outline(builder.rng, breadth, length) if breadth > 4 else outline
    return outline


def _furnish_parcel(builder: Builder, front: Pose, breadth: float, depth: float) -> None:
    style, rng = builder.style, builder.rng
    for _ in range(int(rng.choice(3, p=(0.5, 0.35, 0.15)))):
        shed = rectangle(builder.uniform((2.2, 5)), builder.uniform((1.8, 3.5)))
        x, y = rng.uniform(-0.42, 0.42) * breadth, rng.uniform(0.1, 0.44) * depth
        roof = "zinc_shed" if builder.chance(0.6) else "rusty_shed"
        builder.house(front.moved(x, y, float(rng.normal(0, 0.05))), shed, roof=roof)
    if builder.chance(style.cars_ha / 60):
        builder.car(front.moved(rng.uniform(-0.4, 0.4) * breadth, -0.38 * depth, math.pi / 2))
    if style.green > 0.6 and builder.chance(0.08):
        pose = front.moved(0, depth * 0.25, float(rng.choice((0, math.pi / 2))))
        builder.thing(pose, "pool", builder.uniform((5, 10)), builder.uniform((3, 5)))
    if style.green > 0.5 and builder.chance(0.5):
        half = breadth / 2 - 0.5
        builder.patch(front.apply(corners_of((-half, 0.1 * depth, half, 0.48 * depth))), "lawn")
    for _ in range(int(rng.poisson(0.6 + style.trees_ha / 40))):
        x, y = rng.uniform(-0.48, 0.48) * breadth, rng.uniform(-0.45, 0.48) * depth
        place = front.moved(x, y)
        if builder.is_free(place.x, place.y):
            builder.tree(place.x, place.y)


def fill_strip(builder: Builder, block: Block) -> None:
    """Row houses that share walls, along both long streets, with yards between."""
    deep = min(builder.uniform((7, 14)), block.depth * 0.48)
    for faces_up in (True, False):
        s = block.s0 + builder.uniform((0, 4))
        while s < block.s1 - 8:
            length = min(builder.uniform((18, 60)), block.s1 - s)
            t = block.t0 + deep / 2 if faces_up else block.t1 - deep / 2
            pose = block.grid.at(s + length / 2, t)
            turned = Pose(pose.x, pose.y, pose.angle + (0 if faces_up else math.pi))
            _add_row(builder, turned, length, deep)
            s += length + (builder.uniform((0.8, 5)) if builder.chance(0.7) else 12)
    _scatter_yard(builder, block, deep)


def _add_row(builder: Builder, pose: Pose, length: float, deep: float) -> None:
    """Units side by side, fronts at the upper edge; one roof over all, or each its own."""
    style, rng = builder.style, builder.rng
    unit = builder.uniform(style.house_m if style.house_m[1] < 10 else (4.0, 8.0))
    num = max(int(length / unit), 2)
    edges = np.concatenate([[0], np.cumsum(rng.uniform(0.8, 1.25, num))])
    edges = -length / 2 + edges / edges[-1] * length
    is_even = builder.chance(0.4)
    roof = _roof_of_row(builder) if is_even else None
    backs = np.full(num, deep) if is_even else deep * rng.uniform(0.65, 1.0, num)
    fronts = np.zeros(num) if builder.chance(0.6) else rng.uniform(0, 1.2, num)
    outlines: list[Outline] = []
    for index in range(num):
        box = (edges[index], -deep / 2 + fronts[index], edges[index + 1], -deep / 2 + backs[index])
        outlines.append(_box_outline(builder, box, may_step=not is_even))
    builder.group(pose, outlines, [roof] * num)


def _roof_of_row(builder: Builder) -> str:
    names = [name for name in builder.style.roofs if not name.startswith(("adobe", "thatch"))]
    return names[int(builder.rng.integers(len(names)))]


def _box_outline(builder: Builder, box: Box, *, may_step: bool) -> Outline:
    """A box, or one with a notch at the back, in the frame of the box."""
    x0, y0, x1, y1 = (float(value) for value in box)
    ring = corners_of((x0, y0, x1, y1))
    if not may_step or min(x1 - x0, y1 - y0) < 4.5 or builder.chance(0.7):
        return Outline(rings=(ring,), boxes=((x0, y0, x1, y1),))
    cut = float(builder.rng.uniform(0.3, 0.6)) * (x1 - x0)
    rise = float(builder.rng.uniform(0.2, 0.45)) * (y1 - y0)
    ring = np.array(
        [(x0, y0), (x1, y0), (x1, y1 - rise), (x0 + cut, y1 - rise), (x0 + cut, y1), (x0, y1)]
    )
    return Outline(rings=(ring,), boxes=((x0, y0, x1, y1 - rise), (x0, y0, x0 + cut, y1)))


def _scatter_yard(builder: Builder, block: Block, deep: float) -> None:
    for _ in range(int(builder.rng.poisson(block.length / 14))):
        s = builder.uniform((block.s0 + 2, block.s1 - 2))
        t = builder.uniform((block.t0 + deep * 0.8, max(block.t1 - deep * 0.8, block.t0 + deep)))
        pose = block.grid.at(s, t)
        if builder.chance(0.5):
            shed = rectangle(builder.uniform((2, 5)), builder.uniform((2, 3.5)))
            builder.house(pose, shed)
        elif builder.is_free(pose.x, pose.y):
            builder.tree(pose.x, pose.y)


def fill_packed(builder: Builder, block: Block) -> None:
    """A dense core: the block split again and again, pieces that touch or nearly do."""
    box = (-block.length / 2, -block.depth / 2, block.length / 2, block.depth / 2)
    area = builder.uniform(builder.style.house_m) ** 2 * 1.4
    leaves: list[Box] = []
    _split(builder, box, max(area, 30.0), leaves)
    outlines = []
    for leaf in leaves:
        if builder.chance(0.9):
            outlines.append(_box_outline(builder, _shrunk(builder, leaf), may_step=True))
    builder.group(block.pose, outlines, [None] * len(outlines))
    for _ in range(len(leaves) // 4):
        pose = block.pose.moved(*builder.rng.uniform(-0.5, 0.5, 2) * (block.length, block.depth))
        if builder.is_free(pose.x, pose.y):
            builder.tree(pose.x, pose.y)


def _split(builder: Builder, box: Box, area: float, leaves: list[Box]) -> None:
    x0, y0, x1, y1 = box
    breadth, height = x1 - x0, y1 - y0
    is_small = breadth * height < area * builder.uniform((0.7, 1.8))
    if (is_small and max(breadth, height) < 2.6 * min(breadth, height)) or min(breadth, height) < 4:
        leaves.append(box)
        return
    at = builder.uniform((0.35, 0.65))
    gap = 0.0 if builder.chance(0.5) else builder.uniform((0.4, 2.2))
    if breadth > height:
        middle = x0 + at * breadth
        halves: tuple[Box, Box] = ((x0, y0, middle - gap / 2, y1), (middle + gap / 2, y0, x1, y1))
    else:
        middle = y0 + at * height
        halves = ((x0, y0, x1, middle - gap / 2), (x0, middle + gap / 2, x1, y1))
    for half in halves:
        if min(half[2] - half[0], half[3] - half[1]) > 2.5:
            _split(builder, half, area, leaves)


def _shrunk(builder: Builder, box: Box) -> Box:
    """A box of which some sides are drawn in."""
    draws = builder.rng.uniform(0, 1.6, 4) * (builder.rng.random(4) < 0.35)
    x0, y0, x1, y1 = box
    if min(x1 - x0, y1 - y0) < 5:
        return box
    return float(x0 + draws[0]), float(y0 + draws[1]), float(x1 - draws[2]), float(y1 - draws[3])


def fill_informal(builder: Builder, block: Block) -> None:
    """Small houses at odd angles wherever there is room, large ones first."""
    style, rng = builder.style, builder.rng
    tries = int(block.length * block.depth / 6 * builder.uniform((0.3, 1.0)))
    low, high = style.house_m
    sizes = low + (high - low) * np.sort(rng.beta(1.1, 2.6, tries))[::-1]
    s, t = rng.uniform(block.s0, block.s1, tries), rng.uniform(block.t0, block.t1, tries)
    points = block.grid.points(s, t)
    bend, phase = builder.uniform((0.0, 0.8)), builder.uniform((0, 6.28))
    turns = block.pose.angle + bend * np.sin(s / 25 + phase) + rng.normal(0, style.jitter, tries)
    gap = builder.uniform(style.gap_m)
    for (x, y), size, turn in zip(points.tolist(), sizes.tolist(), turns.tolist(), strict=True):
        # Most tries end here, at the cost of one look.
        if builder.is_free(x, y):
            pose = Pose(x, y, turn + (math.pi / 2) * float(rng.integers(2)))
            outline = draw_outline(rng, size, size * builder.uniform(style.aspect))
            builder.house(pose, outline, margin_m=gap)


def fill_halls(builder: Builder, block: Block) -> None:
    """Large halls on a paved or dirty yard, with containers and lorries."""
    rng = builder.rng
    builder.patch(block.ring(1.0), "paved" if builder.chance(0.5) else "bare")
    if builder.chance(0.6):
        builder.wall(block.ring(1.0))
    pose = block.pose
    roofs = ("hall_gable", "hall_painted", "hall_vault", "hall_sawtooth", "membrane_flat")
    for _ in range(int(rng.integers(2, 7))):
        length = min(builder.uniform((18, 75)), block.length * 0.9)
        breadth = min(length * builder.uniform((0.25, 0.7)), block.depth * 0.85, 45.0)
        x = builder.uniform((-0.5, 0.5)) * max(block.length - length, 0)
        y = builder.uniform((-0.5, 0.5)) * max(block.depth - breadth, 0)
        outline = rectangle(length, breadth)
        if builder.chance(0.2):
            outline = l_shape(length, breadth * 0.7, length * 0.4, breadth * 0.3)
        roof = roofs[int(rng.choice(5, p=(0.38, 0.24, 0.12, 0.08, 0.18)))]
        builder.house(pose.moved(x, y), outline, roof=roof, margin_m=1.0)
    _scatter_yard_things(builder, block)


def _scatter_yard_things(builder: Builder, block: Block) -> None:
    rng = builder.rng
    for _ in range(int(rng.poisson(block.length * block.depth / 900))):
        x, y = rng.uniform(-0.45, 0.45, 2) * (block.length, block.depth)
        turn = float(rng.choice((0, math.pi / 2))) + float(rng.normal(0, 0.03))
        pose = block.pose.moved(float(x), float(y), turn)
        length = float(rng.choice((6.1, 12.2)))
        for index in range(int(rng.integers(1, 6))):
            builder.thing(pose.moved(0, index * 3.0), "container", length, 2.44)
    for _ in range(int(rng.poisson(block.length * block.depth / 500))):
        x, y = rng.uniform(-0.48, 0.48, 2) * (block.length, block.depth)
        builder.car(block.pose.moved(float(x), float(y), float(rng.choice((0, math.pi / 2)))))


def fill_school(builder: Builder, block: Block) -> None:
    """Long low buildings around a bare yard, or one around a courtyard."""
    builder.patch(block.ring(2.0), "bare" if builder.chance(0.6) else "pitch", block.pose.angle)
    pose, roof = block.pose, _roof_of_row(builder)
    length, breadth = block.length * 0.75, builder.uniform((7, 9.5))
    if builder.chance(0.25) and block.depth > 30:
        size = builder.uniform((0.6, 0.85))
        outline = courtyard(block.length * size, block.depth * size, breadth)
        if builder.chance(0.4):
            outline = u_shape(block.length * size, breadth, breadth, block.depth * size * 0.5)
        builder.house(pose, outline, roof=roof)
        return
    for side in (-1, 1):
        y = side * (block.depth / 2 - breadth / 2 - 2.5)
        for share in (-0.25, 0.25):
            bar = rectangle(length * builder.uniform((0.35, 0.48)), breadth)
            builder.house(pose.moved(share * length, y), bar, roof=roof)


def fill_walled(builder: Builder, block: Block) -> None:
    """Walled yards with low flat buildings along their walls."""
    rows = 2 if block.depth > 30 else 1
    depth, s = block.depth / rows, block.s0
    while s < block.s1 - 8:
        breadth = min(builder.uniform((14, 28)), block.s1 - s)
        for row in range(rows):
            t = block.t0 + (row + 0.5) * depth
            pose = block.grid.at(s + breadth / 2, t)
            if builder.chance(0.85):
                _fill_yard(builder, pose, breadth - 0.6, depth - 0.6)
        s += breadth


def _fill_yard(builder: Builder, pose: Pose, breadth: float, depth: float) -> None:
    ring = pose.apply(corners_of((-breadth / 2, -depth / 2, breadth / 2, depth / 2)))
    builder.wall(ring)
    builder.patch(ring, "bare")
    rng = builder.rng
    if builder.chance(0.12) and min(breadth, depth) > 13:
        builder.house(pose, courtyard(breadth * 0.85, depth * 0.85, builder.uniform((3.5, 5))))
        return
    for _ in range(int(rng.integers(1, 5))):
        length = builder.uniform(builder.style.house_m)
        deep = min(length, builder.uniform((3.2, 7)))
        turned = builder.chance(0.5)
        wide, high = (deep, length) if turned else (length, deep)
        if wide > breadth - 1 or high > depth - 1:
            continue
        x = float(rng.choice((-0.5, 0.5))) * (breadth - wide - 0.8)
        y = float(rng.choice((-0.5, 0.0, 0.5))) * (depth - high - 0.8)
        builder.house(pose.moved(x, y), _sideways(builder, wide, high))


FILLERS: Mapping[str, Callable[[Builder, Block], None]] = {
    "parcels": fill_parcels,
    "strip": fill_strip,
    "packed": fill_packed,
    "informal": fill_informal,
    "halls": fill_halls,
    "school": fill_school,
    "walled": fill_walled,
    "compound": fill_compound,
    "hamlet": fill_hamlet,
    "grove": fill_grove,
    "open": fill_open,
}
"""What can fill a block, by name."""
