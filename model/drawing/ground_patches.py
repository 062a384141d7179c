"""Pieces of ground: fields, yards, lawns, ponds, pitches."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from model.drawing.ground import Ground, mixed
from model.drawing.noise import noise_bank, noise_patch, sample_noise
from model.drawing.scene_plan import Patch, Rgb

Float32Array = npt.NDArray[np.float32]
Paint = Callable[[Float32Array, Float32Array], Float32Array]


def paint_patches(ground: Ground, patches: list[Patch]) -> None:
    """Fields, yards, lawns, ponds and pitches, in the order given."""
    for patch in patches:
        painter = _PAINTERS[patch.kind](ground, patch)
        ground.lay(patch.ring, painter, 0.9 if patch.kind in ("bare", "mud") else 0.3)


def _stripes(ground: Ground, patch: Patch, period_m: float, sharp: float) -> Paint:
    """Values about -1 to 1 across rows of the patch's direction, slightly wavy."""
    c, s = math.cos(patch.angle), math.sin(patch.angle)
    phase, bank = float(ground.rng.uniform(0, 6)), noise_bank(6, 0.6)

    def values(x: Float32Array, y: Float32Array) -> Float32Array:
        across = -s * x + c * y
        wobble = sample_noise(bank, (x + 0 * y) * 4, (y + 0 * x) * 4) * np.float32(0.12)
        wave = np.sin((across + wobble) * np.float32(2 * math.pi / period_m) + np.float32(phase))
        return np.tanh(wave * np.float32(sharp))

    return values


def _visible(ground: Ground, period_m: float) -> float:
    """How much of a pattern the pixel size leaves."""
    return math.exp(-((1.1 * ground.gsd_m / period_m) ** 2) * 4)


def _furrows(ground: Ground, patch: Patch) -> Paint:
    rng = ground.rng
    period = float(rng.uniform(0.7, 2.0))
    stripes = _stripes(ground, patch, period, 1.0)
    base = ground.soil * np.float32(rng.uniform(0.75, 1.1))
    depth = np.float32(rng.uniform(0.05, 0.16) * _visible(ground, period))
    grow = ground.grass * np.float32(rng.uniform(0.8, 1.1))
    weeds = np.float32(rng.uniform(0.0, 0.5))

    def paint(x: Float32Array, y: Float32Array) -> Float32Array:
        shape = np.broadcast_shapes(x.shape, y.shape)
        rough = noise_patch(rng, shape, 3, 0.7)
        patchy = noise_patch(rng, shape, 7, 0.6)
        colour = mixed(base, grow, weeds * (0.6 + 0.8 * patchy + 0.6 * rough))
        return colour * (1 + depth * stripes(x, y) + 0.05 * rough + 0.05 * patchy)[:, :, None]

    return paint  # type: ignore[no-any-return]


def _rows(ground: Ground, patch: Patch) -> Paint:
    rng = ground.rng
    period = float(rng.uniform(1.2, 3.0))
    along = _stripes(ground, patch, period, 1.5)
    turned = Patch(ring=patch.ring, kind="rows", angle=patch.angle + math.pi / 2)
    across = _stripes(ground, turned, period * float(rng.uniform(0.6, 1.2)), 1.0)
    soil = ground.soil * np.float32(rng.uniform(0.8, 1.1))
    leaf = ground.grass * np.float32(rng.uniform(0.65, 1.0))
    seen = np.float32(_visible(ground, period))

    def paint(x: Float32Array, y: Float32Array) -> Float32Array:
        shape = np.broadcast_shapes(x.shape, y.shape)
        rough = noise_patch(rng, shape, 4, 0.7)
        share = 0.45 + seen * (0.3 * along(x, y) + 0.2 * across(x, y)) + 0.22 * rough
        return mixed(soil, leaf, share) * (1 + 0.06 * rough)[:, :, None]

    return paint


def _plain(ground: Ground, colour: Float32Array, rough_amount: float, other: Float32Array) -> Paint:
    rng = ground.rng
    fine = np.float32(rough_amount)

    def paint(x: Float32Array, y: Float32Array) -> Float32Array:
        shape = np.broadcast_shapes(x.shape, y.shape)
        patchy = noise_patch(rng, shape, 7, 0.6)
        rough = noise_patch(rng, shape, 3, 0.65)
        tone = mixed(colour, other, 0.35 + 0.35 * patchy)
        return tone * (1 + fine * rough + 0.04 * patchy)[:, :, None]

    return paint


def _near(ground: Ground, colour: npt.ArrayLike, spread: float) -> Float32Array:
    base = np.asarray(colour, np.float32)
    return (base * ground.rng.normal(1, spread) + ground.rng.normal(0, 5, 3)).astype(np.float32)


def _crop(ground: Ground, patch: Patch) -> Paint:
    green = _near(ground, ground.grass * (0.8, 0.98, 0.75), 0.1)
    return _plain(ground, green, 0.07, ground.grass * np.float32(0.85))


def _lawn(ground: Ground, patch: Patch) -> Paint:
    return _plain(ground, _near(ground, ground.grass, 0.08), 0.06, ground.grass_b)


def _bare(ground: Ground, patch: Patch) -> Paint:
    light = ground.soil * np.float32(ground.rng.uniform(0.95, 1.2))
    return _plain(ground, light, 0.035, ground.soil_b * np.float32(1.05))


def _mud(ground: Ground, patch: Patch) -> Paint:
    dark = _near(ground, ground.soil * np.float32(0.65), 0.1)
    return _plain(ground, dark, 0.03, ground.soil * np.float32(0.8))


def _paved(ground: Ground, patch: Patch) -> Paint:
    grey = _near(ground, (158, 154, 148), 0.12)
    return _plain(ground, grey, 0.03, grey * np.float32(0.88))


def _water(ground: Ground, patch: Patch) -> Paint:
    palette: tuple[Rgb, ...] = ((66, 84, 70), (92, 88, 66), (48, 66, 62), (110, 112, 92))
    colour = _near(ground, palette[int(ground.rng.integers(4))], 0.1)
    return _plain(ground, colour, 0.012, colour * np.float32(1.12))


def _pitch(ground: Ground, patch: Patch) -> Paint:
    return _plain(ground, ground.soil * np.float32(1.05), 0.03, ground.grass)


_PAINTERS: Mapping[str, Callable[[Ground, Patch], Paint]] = {
    "furrows": _furrows,
    "rows": _rows,
    "crop": _crop,
    "lawn": _lawn,
    "bare": _bare,
    "mud": _mud,
    "paved": _paved,
    "water": _water,
    "pitch": _pitch,
}
