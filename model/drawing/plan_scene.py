"""Planning of a scene: streets, blocks, trees and traffic, from a style and a seed."""

import math
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from model.drawing.blocks import FILLERS
from model.drawing.builder import Builder
from model.drawing.districts import Districts
from model.drawing.occupancy import BUILT, CELL_M, ROAD, Occupancy
from model.drawing.outlines import Pose
from model.drawing.roof_choices import choose
from model.drawing.scene_plan import Road, ScenePlan, Thing
from model.drawing.street_grid import Block, draw_grid, draw_streets

Float64Array = npt.NDArray[np.float64]

MARGIN_M = 20.0
"""Ground planned around a scene, so that what it cuts is there."""
_GROUP_M = 12.0


def plan_scene(
    rng: np.random.Generator, districts: Districts, size_m: float
) -> tuple[ScenePlan, Occupancy]:
    """Plan a square scene.

    Args:
        rng: all chance comes from it.
        districts: kinds of settlement.
        size_m: side of the scene.

    Returns:
        The plan, and which ground is taken.
    """
    plan = ScenePlan()
    occupancy = Occupancy(size_m, MARGIN_M)
    builder = Builder(plan, districts.main, occupancy, rng)
    grid = draw_grid(rng, districts.main, size_m, MARGIN_M)
    roads, blocks = draw_streets(rng, districts.main, grid)
    plan.roads.extend(road for road in roads if _meets(road.points, size_m))
    for road in plan.roads:
        occupancy.take_line(road.points, road.breadth_m, ROAD)
    met = [block for block in blocks if _meets(block.ring(), size_m)]
    if met:
        _fill_blocks(builder, districts, met)
    plan.roads.extend(_tread_paths(builder, size_m))
    _plant_trees(builder, districts, size_m)
    _clear_roofs(builder)
    _let_drive(builder, plan.roads)
    _scatter_litter(builder)
    return plan, occupancy


def _fill_blocks(builder: Builder, districts: Districts, blocks: list[Block]) -> None:
    styles = [districts.at(block.pose.x, block.pose.y) for block in blocks]
    kinds = [choose(builder.rng, style.blocks) for style in styles]
    # A scene without a house teaches little: one block is always the style's commonest.
    middle = builder.occupancy.size_m / 2
    nearest = min(range(len(blocks)), key=lambda i: math.hypot(
        blocks[i].pose.x - middle, blocks[i].pose.y - middle))  # fmt: skip
    kinds[nearest] = next(iter(styles[nearest].blocks))
    for style, kind, block in zip(styles, kinds, blocks, strict=True):
        builder.style = style
        FILLERS[kind](builder, block)
    builder.style = districts.main


def _meets(points: Float64Array, size_m: float) -> bool:
    low, high = points.min(axis=0), points.max(axis=0)
    return bool((high > -MARGIN_M).all() and (low < size_m + MARGIN_M).all())


def _plant_trees(builder: Builder, districts: Districts, size_m: float) -> None:
    """Trees in groups wherever nothing stands, and scrub between them, by district."""
    rng, reach = builder.rng, size_m + 2 * MARGIN_M
    cells = int(reach / _GROUP_M) + 2
    thick = cv2.GaussianBlur(rng.standard_normal((cells, cells)), (0, 0), 1.6)
    thick /= thick.std()
    plenty = 2.2 * float(np.exp(rng.normal(-0.1, 0.6)))
    trees_ha = plenty * max(style.trees_ha for style in districts.styles)
    for x, y in _scatter(rng, trees_ha, reach):
        builder.style = districts.at(x, y)
        level = _level(thick, x, y)
        share = plenty * builder.style.trees_ha / trees_ha / (1 + math.exp(0.4 - 2.2 * level))
        if builder.chance(share) and builder.is_free(x, y):
            builder.tree(x, y)
    scrub_ha = districts.main.scrub_ha * float(np.exp(rng.normal(0.2, 0.8)))
    for x, y in _scatter(rng, scrub_ha, reach):
        if _level(thick, x, y) > -1.0 and builder.is_free(x, y):
            builder.bush(x, y, min(0.25 + float(rng.exponential(0.28)), 1.3))
    builder.style = districts.main


def _scatter(rng: np.random.Generator, per_ha: float, reach: float) -> list[list[float]]:
    num = int(rng.poisson(per_ha * reach**2 / 10_000))
    places: list[list[float]] = (rng.random((num, 2)) * reach - MARGIN_M).tolist()
    return places


def _level(thick: Float64Array, x: float, y: float) -> float:
    return float(thick[int((y + MARGIN_M) / _GROUP_M), int((x + MARGIN_M) / _GROUP_M)])


def _clear_roofs(builder: Builder) -> None:
    """Shrink crowns that hide roofs: most reach over an eave a little, a few by half."""
    occupancy, kept = builder.occupancy, []
    clearance = clearance_m(occupancy)
    for tree in builder.plan.trees:
        share = 0.45 if builder.chance(0.05) else 0.8
        col, row = int((tree.x + MARGIN_M) / CELL_M), int((tree.y + MARGIN_M) / CELL_M)
        if not (0 <= row < len(clearance) and 0 <= col < len(clearance)):
            continue
        room = float(clearance[row, col]) / share
        if room >= tree.radius_m:
            kept.append(tree)
        elif room > 0.5:
            kept.append(replace(tree, radius_m=room, height_m=tree.height_m * room / tree.radius_m))
    builder.plan.trees = kept


def _scatter_litter(builder: Builder) -> None:
    """Specks around houses."""
    rng = builder.rng
    for building in builder.plan.buildings:
        for _ in range(int(rng.poisson(builder.style.litter))):
            wing = building.wings[0]
            reach = wing.half_length + rng.exponential(3.0)
            turn = float(rng.uniform(0, 2 * math.pi))
            x, y = wing.x + reach * math.cos(turn), wing.y + reach * math.sin(turn)
            if not builder.occupancy.at(x, y) & BUILT:
                size, other = (float(value) for value in rng.uniform(0.25, 1.2, 2))
                builder.plan.things.append(
                    Thing(x=x, y=y, angle=turn, length_m=size, breadth_m=other, kind="litter")
                )


def _tread_paths(builder: Builder, size_m: float) -> list[Road]:
    """Winding footpaths."""
    rng, paths = builder.rng, []
    for _ in range(int(rng.poisson(builder.style.paths_ha * (size_m / 100) ** 2))):
        turn = rng.uniform(0, 6.28) + np.cumsum(rng.normal(0, 0.22, int(rng.integers(6, 30))))
        steps = np.stack([np.cos(turn), np.sin(turn)], axis=1) * rng.uniform(3, 6)
        points = rng.uniform(0, size_m, 2) + np.cumsum(steps, axis=0)
        paths.append(Road(points=points, breadth_m=float(rng.uniform(0.5, 1.6)), surface="path"))
    return paths


def _let_drive(builder: Builder, roads: list[Road]) -> None:
    """Vehicles along the streets."""
    for road in roads:
        if road.surface == "path":
            continue
        steps = np.diff(road.points, axis=0)
        length = float(np.hypot(steps[:, 0], steps[:, 1]).sum())
        num = int(builder.rng.poisson(length * road.breadth_m / 10_000 * builder.style.cars_ha))
        for _ in range(num):
            index = int(builder.rng.integers(len(steps)))
            x, y = road.points[index] + steps[index] * builder.rng.random()
            side = float(builder.rng.uniform(-0.42, 0.42)) * road.breadth_m
            angle = math.atan2(steps[index][1], steps[index][0])
            builder.car(Pose(float(x), float(y), angle).moved(0, side))


def clearance_m(occupancy: Occupancy) -> npt.NDArray[np.float32]:
    """Distance of each cell to the nearest building, metres, float32."""
    open_cells = ((occupancy.cells & BUILT) == 0).astype(np.uint8)
    return cv2.distanceTransform(open_cells, cv2.DIST_L2, 3) * CELL_M
