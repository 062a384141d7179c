"""A place at its own and ever halved pixel sizes: coarse chips are sampled without aliasing."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from model.places import BoolArray, Place, UInt8Array

UInt16Array = npt.NDArray[np.uint16]
Float64Array = npt.NDArray[np.float64]

# OpenCV's warp holds positions in 16 bit.
_MAX_SIDE_PX = 32_766
_ALL_VALID = 254


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacePyramid:
    """What chips of a place are sampled from.

    Attributes:
        place: the place.
        levels: RGB and validity (0 or 255) at pixel sizes gsd_m * 2**level, uint8, shape (height,
            width, 4); a pixel of a level is valid when all four below it are.
        ids: the place's ids, uint16.
        known: 1 where the ground is known, uint8.
    """

    place: Place
    levels: tuple[UInt8Array, ...]
    ids: UInt16Array
    known: UInt8Array

    def level_of(self, gsd_m: float, sharpness: float = 0.0) -> int:
        """The level that a pixel size is sampled from.

        Args:
            gsd_m: pixel size wanted.
            sharpness: 0: between 1 and 2 pixels of the level meet one of the target; 0.5: half an
                octave coarser, which is softer.
        """
        octaves = math.log2(max(gsd_m / self.place.gsd_m, 1.0)) + 1e-6
        return min(int(octaves + sharpness), len(self.levels) - 1)

    def sample(
        self, to_place: Float64Array, size: tuple[int, int], level: int
    ) -> tuple[UInt8Array, UInt16Array, BoolArray, BoolArray]:
        """Pixels of a chip: the image bilinear, ids and masks from the nearest pixel.

        Args:
            to_place: affine from the chip to the place in continuous pixels (a pixel's centre lies
                at .5), float64, shape (2, 3).
            size: (height, width) of the chip.
            level: level of the image.

        Returns:
            Image, uint8, shape (height, width, 3), 0 where not valid; ids; known; valid.
        """
        pixels = _warp(self.levels[level], to_place / 2.0**level, size, cv2.INTER_LINEAR)
        valid: BoolArray = pixels[:, :, 3] >= _ALL_VALID
        image = cv2.bitwise_and(pixels[:, :, :3], pixels[:, :, :3], mask=valid.view(np.uint8))
        ids: UInt16Array = _warp(self.ids, to_place, size, cv2.INTER_NEAREST)
        known: BoolArray = _warp(self.known, to_place, size, cv2.INTER_NEAREST).view(np.bool_)
        return image, ids, known & valid, valid

    def sample_soft(self, to_place: Float64Array, size: tuple[int, int]) -> UInt8Array | None:
        """The teacher's output under a chip, bilinear, uint8, shape (channels, height, width)."""
        if self.place.soft is None:
            return None
        soft = _warp(self.place.soft, to_place, size, cv2.INTER_LINEAR)
        # OpenCV drops an axis of one channel.
        return np.ascontiguousarray(soft.reshape(*size, -1).transpose(2, 0, 1))


def build_pyramid(place: Place, coarsest_gsd_m: float) -> PlacePyramid:
    """Halve a place until its pixels would be coarser than asked for.

    Args:
        place: the place.
        coarsest_gsd_m: largest pixel size of any chip.
    """
    valid = place.valid.astype(np.uint8) * 255
    levels: list[UInt8Array] = [cv2.merge([place.image, valid])]
    num_levels = 1 + max(0, math.ceil(math.log2(max(coarsest_gsd_m / place.gsd_m, 1.0))))
    while len(levels) < num_levels and min(levels[-1].shape[:2]) >= 4:
        levels.append(_halve(levels[-1]))
    return PlacePyramid(
        place=place,
        levels=tuple(levels),
        ids=place.ids.astype(np.uint16),
        known=np.ascontiguousarray(place.known).view(np.uint8),
    )


def _halve(pixels: UInt8Array) -> UInt8Array:
    """Means of 2 x 2 pixels; valid where all four are. An odd last row or column is left out."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    even = pixels[: 2 * height, : 2 * width]
    half: UInt8Array = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    half[:, :, 3] = even[:, :, 3].reshape(height, 2, width, 2).min(axis=(1, 3))
    return half


def _warp(
    source: npt.NDArray[np.generic], to_source: Float64Array, size: tuple[int, int], flags: int
) -> Any:
    """Sample an array; 0 beyond its edges."""
    # OpenCV puts the centre of the first pixel at 0, we at 0.5.
    shifted = to_source.copy()
    shifted[:, 2] += to_source[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(
        source,
        shifted,
        (size[1], size[0]),
        flags=flags | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
