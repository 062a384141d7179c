"""Drawn towns: realistic aerial scenes whose building outlines are known exactly.

What they are for: training beside real labels, tests, and a demonstration without any data. The
parts are in `model.drawing`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.drawing.canvas import SUPERSAMPLING, Canvas
from model.drawing.districts import draw_districts
from model.drawing.fill_polygon import fill_polygon
from model.drawing.ground import Ground
from model.drawing.ground_patches import paint_patches
from model.drawing.ground_roads import paint_paths, paint_roads
from model.drawing.light import draw_sun, lit_image
from model.drawing.occupancy import BUILT
from model.drawing.plan_scene import plan_scene
from model.drawing.roofs import paint_buildings
from model.drawing.scene_plan import Building
from model.drawing.sensor import photograph
from model.drawing.styles import STYLES as STYLES
from model.drawing.things import paint_things, paint_walls
from model.drawing.trees import paint_trees

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnScene:
    """A drawn scene and its truth.

    Attributes:
        image: RGB, uint8, shape (size_px, size_px, 3).
        ids: 0 ground, 1 and up buildings, int32, shape (size_px, size_px). A pixel belongs to the
            building whose outline holds its centre; trees over a roof do not count.
        polygons: outlines; `polygons[i]` is that of id i + 1. Each is a tuple of rings, the outer
            one first, float64 arrays of shape (num_corners, 2) of x (column) and y (row) in pixels
            from the upper left corner, not closed. Outlines that the image cuts are kept whole.
        gsd_m: pixel size in metres.
    """

    image: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.int32]
    polygons: tuple[tuple[Float64Array, ...], ...]
    gsd_m: float


def draw_scene(seed: int, size_px: int, gsd_m: float, style: str | None = None) -> DrawnScene:
    """Draw a scene; the same for the same arguments.

    Args:
        seed: any whole number from 0.
        size_px: pixels per side.
        gsd_m: pixel size in metres; made for 0.1 to 1.
        style: a key of `STYLES`; None draws one by the seed, and others for districts of large
            scenes and of some small ones.

    Returns:
        Image, ids and outlines. Every building has at least one pixel.

    Raises:
        ValueError: for an unknown style, or a size that cannot be drawn.
    """
    _check(seed, size_px, gsd_m, style)
    rng = np.random.default_rng((seed, size_px, round(gsd_m * 1e6)))
    districts = draw_districts(rng, style, size_px * gsd_m)
    plan, occupancy = plan_scene(rng, districts, size_px * gsd_m)
    canvas = Canvas(size_px, gsd_m, draw_sun(rng))
    ground = Ground(rng, districts, canvas, occupancy.scene_cells(BUILT, (size_px, size_px)))
    paint_paths(ground, plan.roads)
    paint_patches(ground, plan.patches)
    paint_roads(ground, plan.roads)
    ground.put_on(canvas)
    paint_things(rng, canvas, plan.things)
    paint_walls(rng, canvas, plan.walls, ground.soil)
    paint_buildings(rng, canvas, plan.buildings, _draw_lean(rng))
    paint_trees(rng, canvas, plan.trees)
    image = photograph(rng, lit_image(canvas))
    ids, polygons = _truth(plan.buildings, size_px, gsd_m)
    return DrawnScene(image=image, ids=ids, polygons=polygons, gsd_m=gsd_m)


def _check(seed: int, size_px: int, gsd_m: float, style: str | None) -> None:
    if seed < 0:
        raise ValueError(f"seed = {seed}; expected 0 or more")
    if not 16 <= size_px <= 16_384:
        raise ValueError(f"size_px = {size_px}; expected 16 to 16384 pixels")
    if not 0.05 <= gsd_m <= 2:
        raise ValueError(f"gsd_m = {gsd_m}; expected 0.05 to 2 metres")
    if style is not None and style not in STYLES:
        raise ValueError(f"style = {style!r}; expected one of {', '.join(STYLES)}")


def _draw_lean(rng: np.random.Generator) -> tuple[float, float]:
    """Most orthoimages lean a little: roofs stand off their walls' foot."""
    turn, amount = rng.uniform(0, 2 * np.pi), abs(rng.normal(0, 0.12))
    return float(amount * np.cos(turn)), float(amount * np.sin(turn))


def _truth(
    buildings: list[Building], size_px: int, gsd_m: float
) -> tuple[npt.NDArray[np.int32], tuple[tuple[Float64Array, ...], ...]]:
    """Ids, and outlines in pixels, of the buildings that have a pixel."""
    ids = np.zeros((size_px, size_px), np.int32)
    polygons: list[tuple[Float64Array, ...]] = []
    for building in buildings:
        rings = tuple(ring / gsd_m for ring in building.rings)
        filled = fill_polygon(rings, (size_px, size_px))
        if filled is None:
            continue
        view = ids[filled.rows, filled.cols]
        own = filled.mask & (view == 0)
        if own.any():
            polygons.append(rings)
            view[own] = len(polygons)
    return ids, tuple(polygons)


assert SUPERSAMPLING == 2, "lit_image halves the canvas"
