"""Roads, streets and paths."""

import cv2
import numpy as np
import numpy.typing as npt

from model.drawing.ground import Ground
from model.drawing.noise import noise_patch
from model.drawing.scene_plan import Road

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]


def paint_paths(ground: Ground, roads: list[Road]) -> None:
    """Footpaths, trodden into whatever grows there."""
    paths = [road for road in roads if road.surface == "path"]
    if paths:
        light = ground.soil * np.float32(ground.rng.uniform(1.0, 1.2))
        _paint_network(ground, paths, light, soft_m=0.5, ragged=0.12)


def paint_roads(ground: Ground, roads: list[Road]) -> None:
    """Dirt roads with soft worn edges first, then asphalt with its markings."""
    dirt = [road for road in roads if road.surface == "dirt"]
    paved = [road for road in roads if road.surface == "asphalt"]
    rng = ground.rng
    if dirt:
        light = ground.soil * np.float32(rng.uniform(0.98, 1.2))
        _paint_network(ground, dirt, light, soft_m=1.0, ragged=0.2)
        _paint_ruts(ground, dirt, light)
    if paved:
        shoulder = ground.soil * np.float32(rng.uniform(0.85, 1.1))
        _paint_network(ground, paved, shoulder, soft_m=0.8, ragged=0.2, wider_m=1.2)
        grey = np.float32(rng.uniform(88, 168)) * np.array([1.0, 0.985, 0.96], np.float32)
        _paint_network(ground, paved, grey, soft_m=0.25, ragged=0.05)
        if rng.random() < 0.5:
            for road in paved:
                _paint_markings(ground, road)


def _paint_network(
    ground: Ground,
    roads: list[Road],
    colour: Float32Array,
    *,
    soft_m: float,
    ragged: float,
    wider_m: float = 0.0,
) -> None:
    mask = np.zeros(ground.shape, np.float32)
    for road in roads:
        _stroke(mask, ground.gsd_m, road.points, road.breadth_m + wider_m, 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), max(soft_m / ground.gsd_m, 0.5))
    patchy = noise_patch(ground.rng, ground.shape, 6, 0.65)
    rough = noise_patch(ground.rng, ground.shape, 2, 0.7)
    alpha = np.clip((mask - 0.5 + ragged * patchy) * 4 + 0.5, 0, 1)[:, :, None]
    painted = colour * (1 + 0.05 * patchy + 0.03 * rough)[:, :, None]
    ground.rgb += (painted - ground.rgb) * alpha


def _paint_ruts(ground: Ground, roads: list[Road], colour: Float32Array) -> None:
    mask = np.zeros(ground.shape, np.float32)
    for road in roads:
        if road.breadth_m > 2.5:
            for side in (-0.8, 0.8):
                line = _beside(road.points, side + float(ground.rng.normal(0, 0.2)))
                _stroke(mask, ground.gsd_m, line, 0.5, 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), max(0.25 / ground.gsd_m, 0.5))
    patchy = noise_patch(ground.rng, ground.shape, 6, 0.65)
    alpha = np.clip(mask * (0.35 + 0.3 * patchy), 0, 1)[:, :, None]
    ground.rgb += (colour * np.float32(1.12) - ground.rgb) * alpha


def _paint_markings(ground: Ground, road: Road) -> None:
    mask = np.zeros(ground.shape, np.float32)
    share = min(0.22 / ground.gsd_m, 1.0)
    steps = np.diff(road.points, axis=0)
    place = np.concatenate([[0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])
    for start in np.arange(2.0, place[-1] - 3, 7.0):
        ends = np.array([start, start + 3.0])
        dash = np.stack([np.interp(ends, place, road.points[:, i]) for i in (0, 1)], axis=1)
        _stroke(mask, ground.gsd_m, dash, 0.15, share)
    if road.breadth_m > 8:
        for side in (-0.46, 0.46):
            line = _beside(road.points, side * road.breadth_m)
            _stroke(mask, ground.gsd_m, line, 0.15, share * 0.8)
    ground.rgb += (np.float32(222) - ground.rgb) * (mask * np.float32(0.75))[:, :, None]


def _stroke(
    mask: Float32Array, gsd_m: float, points: Float64Array, breadth_m: float, value: float
) -> None:
    fixed = np.round((points / gsd_m - 0.5) * 16).astype(np.int32)
    cv2.polylines(mask, [fixed], False, value, max(round(breadth_m / gsd_m), 1), cv2.LINE_8, 4)


def _beside(points: Float64Array, side_m: float) -> Float64Array:
    """A line moved to its side."""
    along = np.gradient(points, axis=0)
    length = np.hypot(along[:, 0], along[:, 1]) + 1e-9
    return points + side_m * np.stack([-along[:, 1], along[:, 0]], axis=1) / length[:, None]
