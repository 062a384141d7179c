"""What stands and lies on roofs: stair heads, water tanks, cloths, boxes, solar panels."""

import numpy as np

from model.drawing.canvas import Canvas
from model.drawing.outlines import Pose, corners_of
from model.drawing.scene_plan import Building, Rgb

_TANKS: tuple[Rgb, ...] = (
    (34, 36, 40),
    (40, 40, 42),
    (60, 110, 170),
    (226, 226, 222),
    (90, 90, 90),
)
_CLOTHS: tuple[Rgb, ...] = ((62, 118, 186), (190, 70, 64), (222, 220, 214), (70, 132, 100),
                            (206, 172, 84), (120, 116, 112), (84, 150, 190))  # fmt: skip


_SHEETS: tuple[Rgb, ...] = ((62, 118, 186), (84, 146, 198), (176, 180, 182), (150, 150, 146),
                            (146, 92, 78), (128, 104, 90))  # fmt: skip


def furnish_roof(rng: np.random.Generator, canvas: Canvas, building: Building) -> None:
    """Put things on a roof: much on flat ones, a solar panel on a few others."""
    wing = building.wings[int(rng.integers(len(building.wings)))]
    pose = Pose(wing.x, wing.y, wing.angle)
    half_l, half_b = wing.half_length - 0.5, wing.half_breadth - 0.5
    if min(half_l, half_b) < 0.6 or building.roof == "cone":
        return
    if building.roof != "flat":
        if rng.random() < 0.06 and building.roof in ("gable", "hip"):
            _solar(rng, canvas, building, pose, half_l, half_b)
        return
    area = 4 * half_l * half_b
    busy = float(rng.uniform(0.1, 1.0)) if building.material == "concrete" else 0.15
    if area > 30 and building.material == "concrete" and rng.random() < 0.4:
        _storey(rng, canvas, building, pose, half_l, half_b)
    elif area > 25 and rng.random() < 0.75 * busy + 0.1:
        _stair_head(rng, canvas, building, pose, half_l, half_b)
    for _ in range(int(rng.poisson(busy * min(area, 150) / 40))):
        _tank(rng, canvas, building, pose, half_l, half_b)
    for _ in range(int(rng.poisson(busy * min(area, 200) / 11))):
        _clutter(rng, canvas, building, pose, half_l, half_b)
    if rng.random() < 0.5 * busy:
        _partition(rng, canvas, building, pose, half_l, half_b)
    if rng.random() < 0.12 * busy:
        _solar(rng, canvas, building, pose, half_l, half_b)


def _storey(
    rng: np.random.Generator,
    canvas: Canvas,
    building: Building,
    pose: Pose,
    half_l: float,
    half_b: float,
) -> None:
    """A storey more on part of the roof, flat with a rim or under sheets in stripes."""
    length, breadth = 2 * half_l * rng.uniform(0.35, 0.75), 2 * half_b * rng.uniform(0.55, 1.0)
    x = float(rng.choice((-1, 1))) * (half_l - length / 2)
    y = float(rng.choice((-1, 1))) * (half_b - breadth / 2)
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (length / 2, breadth / 2)
    top = building.eave_m + float(rng.uniform(2.6, 3.2))
    ring = pose.apply(half + (x, y))
    if rng.random() < 0.55:
        rgb = np.array(building.rgb) * rng.normal(1.02, 0.08)
        canvas.fill(ring, rgb * 1.12, top + 0.6)
        canvas.fill(pose.apply(half * (1 - 0.5 / max(length, 2)) + (x, y)), rgb * 0.95, top)
        return
    rgb = np.array(_SHEETS[int(rng.integers(len(_SHEETS)))]) * rng.normal(1, 0.07)
    canvas.fill(ring, rgb, top)
    for share in np.arange(-0.9, 1.0, 1.8 / max(length, 1.8)):
        ends = pose.apply(np.array([[share, -1], [share, 1]]) * half[2] + (x, y))
        canvas.line(ends, 0.12, rgb * rng.uniform(0.86, 0.97))


def _stair_head(
    rng: np.random.Generator,
    canvas: Canvas,
    building: Building,
    pose: Pose,
    half_l: float,
    half_b: float,
) -> None:
    """A storey on part of the roof, often under sheet metal."""
    big = rng.random() < 0.3
    length = min(float(rng.uniform(2, 3.6)) * (1.8 if big else 1), 1.6 * half_l)
    breadth = min(float(rng.uniform(1.8, 3)) * (1.6 if big else 1), 1.6 * half_b)
    x = float(rng.choice((-1, 1))) * (half_l - length / 2)
    y = float(rng.choice((-1, 1))) * (half_b - breadth / 2)
    ring = pose.apply(
        corners_of((x - length / 2, y - breadth / 2, x + length / 2, y + breadth / 2))
    )
    rgb = np.array(building.rgb) * rng.normal(1.04, 0.1)
    if rng.random() < 0.3:
        rgb = np.array(_CLOTHS[int(rng.integers(len(_CLOTHS)))]) * rng.normal(1, 0.08)
    top = building.eave_m + float(rng.uniform(2.0, 2.8))
    canvas.fill(ring, rgb, top)
    if rng.random() < 0.5:
        inner = ring + 0.15 * (ring.mean(axis=0) - ring)
        canvas.fill(inner, rgb * 0.88, top - 0.2)


def _tank(
    rng: np.random.Generator,
    canvas: Canvas,
    building: Building,
    pose: Pose,
    half_l: float,
    half_b: float,
) -> None:
    x, y = rng.uniform(-1, 1, 2) * (half_l - 0.3, half_b - 0.3)
    place = pose.moved(float(x), float(y))
    radius = float(rng.uniform(0.45, 0.75))
    rgb = np.array(_TANKS[int(rng.integers(len(_TANKS)))])
    canvas.disc(place.x, place.y, radius, rgb, building.eave_m + float(rng.uniform(1.2, 2.6)))
    canvas.disc(place.x + canvas.sun.x * 0.2, place.y + canvas.sun.y * 0.2, radius * 0.4,
                rgb * 1.2 + 18, None)  # fmt: skip


def _clutter(
    rng: np.random.Generator,
    canvas: Canvas,
    building: Building,
    pose: Pose,
    half_l: float,
    half_b: float,
) -> None:
    """A box, a cloth, a pot plant, a stack: some small rectangle."""
    length, breadth = rng.uniform(0.3, 1.8, 2)
    x, y = rng.uniform(-1, 1, 2) * (half_l - 0.3, half_b - 0.3)
    place = pose.moved(float(x), float(y), float(rng.choice((0, 0, 0.5))))
    kind = rng.random()
    if kind < 0.3:
        rgb = np.array(_CLOTHS[int(rng.integers(len(_CLOTHS)))]) * rng.uniform(0.7, 1.1)
    elif kind < 0.5:
        rgb = np.array((70, 96, 52)) * rng.uniform(0.7, 1.3)
    else:
        rgb = np.array(building.rgb) * rng.uniform(0.45, 1.25)
    half = (length / 2, breadth / 2)
    ring = place.apply(corners_of((-half[0], -half[1], half[0], half[1])))
    canvas.fill(ring, rgb, building.eave_m + float(rng.uniform(0.1, 1.0)))


def _partition(
    rng: np.random.Generator,
    canvas: Canvas,
    building: Building,
    pose: Pose,
    half_l: float,
    half_b: float,
) -> None:
    """A low wall across the roof."""
    x = float(rng.uniform(-0.6, 0.6)) * half_l
    ends = pose.apply(((x, -half_b), (x, half_b)))
    canvas.line(ends, 0.2, np.array(building.rgb) * 1.12, building.eave_m + 0.8)


def _solar(
    rng: np.random.Generator,
    canvas: Canvas,
    building: Building,
    pose: Pose,
    half_l: float,
    half_b: float,
) -> None:
    length, breadth = min(float(rng.uniform(1.7, 6)), half_l), min(1.0, half_b * 0.6)
    place = pose.moved(
        float(rng.uniform(-0.4, 0.4)) * half_l, float(rng.choice((-0.5, 0.5))) * half_b
    )
    ring = place.apply(corners_of((-length / 2, -breadth / 2, length / 2, breadth / 2)))
    canvas.fill(ring, (36, 44, 74))
    canvas.line(ring, 0.06, (120, 126, 140), closed=True)
