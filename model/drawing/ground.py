"""Ground: soil and plants, and how patches are laid on it."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from model.drawing.canvas import Canvas, to_uint8
from model.drawing.districts import Districts
from model.drawing.noise import broad_noise, noise_patch

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]


class Ground:
    """Colours of the ground at the scene's own resolution, before anything stands on it."""

    def __init__(
        self, rng: np.random.Generator, districts: Districts, canvas: Canvas, built: Float32Array
    ) -> None:
        """Soil and plants.

        Args:
            rng: all chance comes from it.
            districts: the palettes of the main one, how green each is.
            canvas: its sizes.
            built: share of each pixel under roofs, float32, shape (size, size): bare around.
        """
        self.rng = rng
        self.gsd_m = canvas.gsd_m
        self.shape = built.shape
        soils, grasses = districts.main.soils, districts.main.grasses
        first = int(rng.integers(len(soils)))
        tone = np.float32(rng.uniform(0.68, 1.0))
        self.soil = np.array(soils[first], np.float32) * tone
        self.soil_b = np.array(soils[int(rng.integers(len(soils)))], np.float32) * tone
        self.grass = np.array(grasses[int(rng.integers(len(grasses)))], np.float32)
        self.grass_b = np.array(grasses[int(rng.integers(len(grasses)))], np.float32)
        size_m = len(built) * self.gsd_m
        green = cv2.GaussianBlur(districts.green(size_m), (0, 0), 1.5)
        self.rgb = self._natural(cv2.resize(green, built.shape[::-1]), built)

    def _natural(self, green: Float32Array, built: Float32Array) -> Float32Array:
        rng, shape = self.rng, self.shape
        broad = broad_noise(rng, shape, 40 / self.gsd_m)
        small = broad_noise(rng, shape, 6 / self.gsd_m)
        fine = noise_patch(rng, shape, 5, 0.65)
        near = cv2.GaussianBlur(built, (0, 0), max(2.2 / self.gsd_m, 1))
        level = 2.6 * (green - 0.5) + np.float32(rng.normal(0, 0.3))
        cover = 0.9 * broad + 0.5 * small + 0.8 * fine + level - 2.6 * near
        share = np.clip(0.5 + 0.5 * cover, 0, 1)[:, :, None]
        soil = mixed(self.soil, self.soil_b, 0.5 + 0.35 * broad_noise(rng, shape, 15 / self.gsd_m))
        grass = mixed(self.grass, self.grass_b, 0.5 + 0.4 * small)
        rough = noise_patch(rng, shape, 3, 0.7)
        soil *= (1 + 0.05 * rough + 0.05 * fine + 0.04 * small)[:, :, None]
        grass *= (1 + 0.13 * rough + 0.09 * fine)[:, :, None]
        return soil + (grass - soil) * share

    def lay(self, ring: Float64Array, paint: Callable[[Float32Array, Float32Array], Float32Array],
            soft_m: float = 0.4) -> None:  # fmt: skip
        """Paint a patch: `paint` gets x and y in metres and gives colours (rows, cols, 3)."""
        low = np.floor(ring.min(axis=0) / self.gsd_m).astype(int) - 3
        high = np.ceil(ring.max(axis=0) / self.gsd_m).astype(int) + 3
        left, top = (int(value) for value in np.maximum(low, 0))
        right, bottom = int(min(high[0], self.shape[1])), int(min(high[1], self.shape[0]))
        if left >= right or top >= bottom:
            return
        mask = np.zeros((bottom - top, right - left), np.float32)
        fixed = np.round((ring / self.gsd_m - 0.5 - (left, top)) * 16).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 1.0, cv2.LINE_8, 4)
        mask = cv2.GaussianBlur(mask, (0, 0), max(soft_m / self.gsd_m, 0.5))
        edge = noise_patch(self.rng, (bottom - top, right - left), 4, 0.6)
        alpha = np.clip((mask - 0.5 + 0.12 * edge) * 4 + 0.5, 0, 1)[:, :, None]
        x = np.arange(left, right, dtype=np.float32)[None, :] * np.float32(self.gsd_m)
        y = np.arange(top, bottom, dtype=np.float32)[:, None] * np.float32(self.gsd_m)
        view = self.rgb[top:bottom, left:right]
        view += (paint(x, y) - view) * alpha

    def put_on(self, canvas: Canvas) -> None:
        """Enlarge it onto the canvas."""
        size = (canvas.size, canvas.size)
        canvas.rgb = cv2.resize(to_uint8(self.rgb), size, interpolation=cv2.INTER_LINEAR)


def mixed(first: Float32Array, second: Float32Array, share: Float32Array) -> Float32Array:
    """Two colours (or images of them) mixed by a share per pixel, cut to 0-1."""
    return first + (second - first) * np.clip(share, 0, 1)[:, :, None]
