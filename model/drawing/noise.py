"""Textures of value noise in several octaves, made once and sampled everywhere."""

import functools

import cv2
import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]

BANK_PX = 1024
_BANK_SEED = 20_210_712


@functools.lru_cache(maxsize=8)
def noise_bank(num_octaves: int, persistence: float = 0.5) -> Float32Array:
    """A periodic square of noise, mean 0, standard deviation 1.

    Args:
        num_octaves: 1 for pixel noise; each octave more is twice as coarse.
        persistence: amplitude of an octave relative to the next coarser one.

    Returns:
        float32, shape (BANK_PX, BANK_PX); not to be changed.
    """
    rng = np.random.default_rng((_BANK_SEED, num_octaves))
    total = np.zeros((BANK_PX, BANK_PX), np.float32)
    for octave in range(num_octaves):
        cells = BANK_PX >> octave
        grid = rng.standard_normal((cells, cells), dtype=np.float32)
        # Wrapped by three cells, so that the cubic kernel is periodic.
        wrapped = np.pad(grid, 3, mode="wrap")
        scale = BANK_PX // cells
        fine = cv2.resize(wrapped, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        inner = fine[3 * scale : 3 * scale + BANK_PX, 3 * scale : 3 * scale + BANK_PX]
        total += inner * persistence ** (num_octaves - 1 - octave)
    total = (total - total.mean()) / total.std()
    total.setflags(write=False)
    return total


def noise_patch(
    rng: np.random.Generator, shape: tuple[int, int], num_octaves: int, persistence: float = 0.5
) -> Float32Array:
    """A piece of the bank at a random place; finer than the bank's period only if it is larger.

    Returns:
        float32, shape (height, width), about standard normal.
    """
    bank = noise_bank(num_octaves, persistence)
    top, left = (int(value) for value in rng.integers(0, BANK_PX, 2))
    height, width = shape
    if top + height <= BANK_PX and left + width <= BANK_PX:
        return bank[top : top + height, left : left + width]
    rows = np.arange(top, top + height) % BANK_PX
    cols = np.arange(left, left + width) % BANK_PX
    return bank[rows[:, None], cols[None, :]]


def broad_noise(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Float32Array:
    """Noise in three octaves whose coarsest features are about `cell_px` pixels, any size.

    Returns:
        float32, shape (height, width), about standard normal.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(3):
        cell = max(cell_px / 2**octave, 1.0)
        rows, cols = int(height / cell) + 4, int(width / cell) + 4
        grid = rng.standard_normal((rows, cols), dtype=np.float32)
        move = np.array([[1 / cell, 0, 1 + rng.random()], [0, 1 / cell, 1 + rng.random()]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        fine = cv2.warpAffine(
            grid, move, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT
        )
        total += fine * np.float32(0.5**octave * 1.4)
    return total * np.float32(0.87)


def sample_noise(bank: Float32Array, x: Float32Array, y: Float32Array) -> Float32Array:
    """Values of a bank at coordinates in its pixels (nearest, periodic).

    Args:
        bank: from `noise_bank`.
        x: columns, float32, any shape.
        y: rows, of the same shape.
    """
    cols = x.astype(np.int32) & (BANK_PX - 1)
    rows = y.astype(np.int32) & (BANK_PX - 1)
    return bank[rows, cols]
