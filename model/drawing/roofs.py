"""Painting of buildings: walls that a leaning view shows, and roofs."""

import math

import numpy as np
import numpy.typing as npt

from model.drawing.canvas import Canvas
from model.drawing.roof_clutter import furnish_roof
from model.drawing.roof_materials import roof_colours
from model.drawing.roof_shapes import RoofSurface, roof_surface
from model.drawing.scene_plan import Building

Float64Array = npt.NDArray[np.float64]


def paint_buildings(
    rng: np.random.Generator, canvas: Canvas, buildings: list[Building], lean: tuple[float, float]
) -> None:
    """Paint all buildings: first the walls of all, then the roofs, which no wall then hides.

    Args:
        rng: all chance comes from it.
        canvas: changed.
        buildings: their outlines are those of the roofs.
        lean: how far a roof is moved against its walls' foot, metres per metre of height.
    """
    if math.hypot(*lean) > 0.01:
        for building in buildings:
            _paint_walls(rng, canvas, building, lean)
    for building in buildings:
        _paint_roof(rng, canvas, building)


def _paint_walls(
    rng: np.random.Generator, canvas: Canvas, building: Building, lean: tuple[float, float]
) -> None:
    foot = -np.array(lean) * building.eave_m
    tone = float(rng.uniform(0.55, 1.0))
    base = np.array((190, 180, 165)) * tone * rng.normal(1, 0.05, 3)
    ring = building.rings[0]
    for first, second in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        along = second - first
        light = canvas.sun.ambient + (1 - canvas.sun.ambient) * max(
            0.0, (along[1] * canvas.sun.x - along[0] * canvas.sun.y) / (np.hypot(*along) + 1e-9)
        )
        quad = np.array([first, second, second + foot, first + foot])
        canvas.fill(quad, base * light * 0.85, building.eave_m * 0.5)


def _paint_roof(rng: np.random.Generator, canvas: Canvas, building: Building) -> None:
    filled = canvas.polygon_mask(*building.rings)
    if filled is None or not filled.mask.any():
        return
    surface = roof_surface(canvas, building, filled)
    colour = roof_colours(rng, building, surface, canvas.work_m)
    colour *= surface.light[..., None]
    rise = surface.rise
    if building.roof == "flat":
        rise = _add_parapet(rng, building, surface, colour)
    canvas.blend(filled, colour)
    view = canvas.height[filled.rows, filled.cols]
    np.copyto(view, np.float32(building.eave_m) + rise, where=filled.mask)
    furnish_roof(rng, canvas, building)


def _add_parapet(
    rng: np.random.Generator,
    building: Building,
    surface: RoofSurface,
    colour: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Lighten the rim of a flat roof; returns heights above the roof."""
    if rng.random() < 0.25:
        return surface.rise
    rim = (surface.inset < rng.uniform(0.15, 0.4)).astype(np.float32)
    tone = np.float32(rng.uniform(0.9, 1.35))
    colour *= (1 + (tone - 1) * rim)[..., None]
    return surface.rise + rim * np.float32(rng.uniform(0.2, 1.1))
