"""What roofs look like: sheets and rust, tiles, thatch, concrete, membranes."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from model.drawing.noise import noise_bank, sample_noise
from model.drawing.roof_shapes import RoofSurface
from model.drawing.scene_plan import Building

Float32Array = npt.NDArray[np.float32]

_RUST = np.array([128, 86, 62], np.float32)
_DIRT = np.array([92, 88, 78], np.float32)


def roof_colours(
    rng: np.random.Generator, building: Building, surface: RoofSurface, work_m: float
) -> Float32Array:
    """Colours of a roof, light not yet applied.

    Args:
        rng: all chance comes from it.
        building: its material, base colour and wear.
        surface: its shape.
        work_m: pixel size, so that patterns too fine for it fade.

    Returns:
        float32, shape (rows, cols, 3), 0-255.
    """
    return _PAINTERS[building.material](rng, building, surface, work_m)


def _seen(period_m: float, work_m: float) -> float:
    """How much of a pattern is left after sampling."""
    return math.exp(-((work_m / period_m) ** 2) * 7)


def _noise(
    rng: np.random.Generator, octaves: int, x: Float32Array, y: Float32Array, x_m: float, y_m: float
) -> Float32Array:
    """Noise along and down a roof; `x_m` and `y_m` are metres per cell of the bank."""
    shift_x, shift_y = (float(value) for value in rng.uniform(64, 900, 2))
    bank = noise_bank(octaves, 0.6)
    return sample_noise(bank, x / np.float32(x_m) + shift_x, y / np.float32(y_m) + shift_y)


def _toward(colour: Float32Array, other: Float32Array, share: Float32Array) -> Float32Array:
    return colour + (other - colour) * np.clip(share, 0, 1)[..., None]


def _sheets(
    rng: np.random.Generator, building: Building, surface: RoofSurface, work_m: float
) -> Float32Array:
    """Corrugated sheets: each of its own tone, some replaced, rust in streaks down the slope."""
    base = np.array(building.rgb, np.float32)
    wear = building.wear
    sheet_m, length_m = float(rng.uniform(0.7, 1.0)), float(rng.uniform(1.8, 3.6))
    col = np.floor(surface.along / np.float32(sheet_m)).astype(np.int32) & 63
    row = np.floor(surface.down / np.float32(length_m)).astype(np.int32) & 15
    tones = rng.standard_normal((16, 64)).astype(np.float32)
    spread = 0.015 + 0.06 * wear
    tone = 1 + np.float32(spread) * tones[row, col]
    period = float(rng.choice((0.25, 0.5, sheet_m)))
    depth = float(rng.uniform(0.02, 0.10)) * _seen(period, work_m)
    tone += np.float32(depth) * np.sin(surface.along * np.float32(2 * math.pi / period))
    fine = _noise(rng, 3, surface.along, surface.down, 0.15, 0.15)
    tone += np.float32(0.02 + 0.02 * wear) * fine
    if building.wings[0].half_breadth > 5:
        tone += _hall_bays(rng, surface)
    colour = base * tone[..., None]
    if wear > 0.25:
        streaks = _noise(rng, 5, surface.along, surface.down, 0.12, 0.45)
        odd = (tones[row, col ^ 21] > 1.3).astype(np.float32)
        amount = np.float32(1.1 * (wear - 0.55)) + 0.3 * streaks + 0.25 * odd
        colour = _toward(colour, _RUST * np.float32(rng.uniform(0.85, 1.25)), amount * 0.8)
    return colour


def _hall_bays(rng: np.random.Generator, surface: RoofSurface) -> Float32Array:
    """Translucent sheets at even steps, a ridge cap, dirt that collects low."""
    step = float(rng.uniform(4, 8))
    place = np.mod(surface.along + np.float32(rng.uniform(0, 8)), np.float32(step))
    is_light = (place < 0.9) & (surface.ridge > 1.0) & (surface.inset > 1.0)
    light = np.float32(rng.uniform(-0.12, 0.22) if rng.random() < 0.6 else 0.0)
    ridge = (surface.ridge < 0.35).astype(np.float32) * np.float32(rng.uniform(-0.1, 0.12))
    broad = _noise(rng, 7, surface.along, surface.down, 0.3, 0.3)
    return is_light * light + ridge + np.float32(0.02) * broad


def _rusty(
    rng: np.random.Generator, building: Building, surface: RoofSurface, work_m: float
) -> Float32Array:
    """Sheets that are rust all over, patched with newer ones."""
    colour = _sheets(rng, building, surface, work_m)
    col = np.floor(surface.along / np.float32(0.85)).astype(np.int32) & 63
    row = np.floor(surface.down / np.float32(2.4)).astype(np.int32) & 15
    patched = rng.random((16, 64)) < 0.16 * building.wear
    newer = np.array([176, 172, 166], np.float32) * np.float32(rng.uniform(0.8, 1.1))
    blotches = _noise(rng, 6, surface.along, surface.down, 0.2, 0.3)
    colour = colour * (1 + np.float32(0.09) * blotches)[..., None]
    return _toward(colour, newer, patched[row, col].astype(np.float32) * np.float32(0.75))


def _tiles(
    rng: np.random.Generator, building: Building, surface: RoofSurface, work_m: float
) -> Float32Array:
    """Clay tiles: rows, mottled, dark with moss, a lighter ridge."""
    base = np.array(building.rgb, np.float32)
    fine = _noise(rng, 2, surface.along, surface.down, 0.22, 0.3)
    blotches = _noise(rng, 6, surface.along, surface.down, 0.2, 0.35)
    rows = np.sin(surface.down * np.float32(2 * math.pi / 0.34)) * np.float32(_seen(0.34, work_m))
    tone = 1 + np.float32(0.07) * fine + np.float32(0.07) * blotches + np.float32(0.06) * rows
    colour = base * tone[..., None]
    colour = _toward(colour, _DIRT, np.float32(0.75 * building.wear - 0.3) + 0.25 * blotches)
    is_ridge = (surface.ridge < 0.16).astype(np.float32)
    return colour * (1 + np.float32(rng.uniform(-0.1, 0.22)) * is_ridge)[..., None]


def _shingle(
    rng: np.random.Generator, building: Building, surface: RoofSurface, work_m: float
) -> Float32Array:
    base = np.array(building.rgb, np.float32)
    fine = _noise(rng, 2, surface.along, surface.down, 0.3, 0.2)
    blotches = _noise(rng, 6, surface.along, surface.down, 0.3, 0.4)
    return base * (1 + np.float32(0.045) * fine + np.float32(0.05) * blotches)[..., None]


def _concrete(
    rng: np.random.Generator, building: Building, surface: RoofSurface, work_m: float
) -> Float32Array:
    """A flat roof: stains, damp corners, patches of screed, a parapet."""
    base = np.array(building.rgb, np.float32)
    wear = np.float32(building.wear)
    stains = _noise(rng, 6, surface.along, surface.down, 0.12, 0.12)
    fine = _noise(rng, 3, surface.along, surface.down, 0.12, 0.12)
    tone = 1 + (0.03 + 0.10 * wear) * stains + np.float32(0.03) * fine
    damp = np.clip(1.2 - surface.inset, 0, 1) * (0.16 * wear)
    colour = base * (tone - damp)[..., None]
    colour = _toward(colour, _DIRT * np.float32(1.1), (0.9 * wear - 0.55) + 0.35 * wear * stains)
    cell = float(rng.uniform(2.5, 4.5))
    cells = rng.standard_normal((16, 16)).astype(np.float32)
    col = np.floor(surface.along / np.float32(cell)).astype(np.int32) & 15
    row = np.floor(surface.down / np.float32(cell)).astype(np.int32) & 15
    return colour * (1 + np.float32(0.06) * wear * cells[row, col])[..., None]


def _adobe(
    rng: np.random.Generator, building: Building, surface: RoofSurface, work_m: float
) -> Float32Array:
    base = np.array(building.rgb, np.float32)
    stains = _noise(rng, 6, surface.along, surface.down, 0.14, 0.14)
    fine = _noise(rng, 3, surface.along, surface.down, 0.12, 0.12)
    return base * (1 + np.float32(0.06) * stains + np.float32(0.035) * fine)[..., None]


def _thatch(
    rng: np.random.Generator, building: Building, surface: RoofSurface, work_m: float
) -> Float32Array:
    """Straw down the slope, darker towards the eaves in rings."""
    base = np.array(building.rgb, np.float32)
    straw = _noise(rng, 3, surface.along, surface.down, 0.10, 0.7)
    blotches = _noise(rng, 6, surface.along, surface.down, 0.15, 0.15)
    rings = np.sin(surface.down * np.float32(2 * math.pi / 0.9)) * np.float32(_seen(0.9, work_m))
    tone = 1 + np.float32(0.07) * straw + np.float32(0.05) * blotches + np.float32(0.03) * rings
    tip = (surface.ridge < 0.3).astype(np.float32) * np.float32(rng.uniform(-0.3, 0.1))
    return base * (tone + tip)[..., None]


def _membrane(
    rng: np.random.Generator, building: Building, surface: RoofSurface, work_m: float
) -> Float32Array:
    base = np.array(building.rgb, np.float32)
    stains = _noise(rng, 7, surface.along, surface.down, 0.15, 0.15)
    seams = (np.mod(surface.along, np.float32(3.0)) < 0.15).astype(np.float32)
    tone = 1 + np.float32(0.035 + 0.04 * building.wear) * stains - np.float32(0.05) * seams
    return base * tone[..., None]


_PAINTERS: Mapping[
    str, Callable[[np.random.Generator, Building, RoofSurface, float], Float32Array]
] = {
    "zinc": _sheets,
    "painted": _sheets,
    "rusty": _rusty,
    "tiles": _tiles,
    "shingle": _shingle,
    "concrete": _concrete,
    "adobe": _adobe,
    "thatch": _thatch,
    "membrane": _membrane,
}
