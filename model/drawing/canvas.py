"""The canvas: colours and heights at twice the resolution of the scene."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from model.drawing.fill_polygon import FilledPolygon, fill_polygon

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

SUPERSAMPLING = 2
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Sun:
    """Where light comes from.

    Attributes:
        x: towards the sun, to the right.
        y: towards the sun, downwards.
        z: towards the sun, upwards; the three make a unit vector.
        ambient: share of light that reaches ground in shadow.
    """

    x: float
    y: float
    z: float
    ambient: float

    def shade(self, slope_x: npt.ArrayLike, slope_y: npt.ArrayLike) -> Float32Array:
        """Light on a slope relative to level ground.

        Args:
            slope_x: rise per metre to the right.
            slope_y: rise per metre downwards.
        """
        gx, gy = np.asarray(slope_x, np.float32), np.asarray(slope_y, np.float32)
        cosine = (self.z - gx * self.x - gy * self.y) / np.sqrt(1 + gx * gx + gy * gy)
        light = self.ambient + (1 - self.ambient) * np.maximum(cosine, 0) / self.z
        return np.minimum(light, 1.6).astype(np.float32)


class Canvas:
    """Colours and heights of a scene at `SUPERSAMPLING` times its resolution.

    Coordinates are metres; `work_m` is the size of a pixel of the canvas. Light on slopes is
    painted with the colours; shadows are cast later, from the heights.

    Attributes:
        rgb: uint8, shape (size, size, 3).
        height: metres above the ground, float32, shape (size, size).
    """

    def __init__(self, size_px: int, gsd_m: float, sun: Sun) -> None:
        """An empty canvas for a scene of `size_px` pixels of `gsd_m` metres."""
        self.size = size_px * SUPERSAMPLING
        self.gsd_m = gsd_m
        self.work_m = gsd_m / SUPERSAMPLING
        self.sun = sun
        self.rgb: UInt8Array = np.zeros((self.size, self.size, 3), np.uint8)
        self.height: Float32Array = np.zeros((self.size, self.size), np.float32)

    def polygon_mask(self, *rings: Float64Array) -> FilledPolygon | None:
        """The canvas pixels of an outline in metres."""
        return fill_polygon([ring / self.work_m for ring in rings], (self.size, self.size))

    def fill(self, ring: Float64Array, rgb: npt.ArrayLike, height_m: float | None = None) -> None:
        """Fill a small convex polygon with one colour, and one height if given."""
        fixed = self._fixed(ring)
        cv2.fillConvexPoly(self.rgb, fixed, _plain(rgb), cv2.LINE_8, _SHIFT)
        if height_m is not None:
            cv2.fillConvexPoly(self.height, fixed, float(height_m), cv2.LINE_8, _SHIFT)

    def line(
        self,
        points: Float64Array,
        breadth_m: float,
        rgb: npt.ArrayLike,
        height_m: float | None = None,
        *,
        closed: bool = False,
    ) -> None:
        """Draw a line of some breadth; at least one pixel of the canvas."""
        fixed = self._fixed(points)
        thickness = max(round(breadth_m / self.work_m), 1)
        cv2.polylines(self.rgb, [fixed], closed, _plain(rgb), thickness, cv2.LINE_8, _SHIFT)
        if height_m is not None:
            cv2.polylines(
                self.height, [fixed], closed, float(height_m), thickness, cv2.LINE_8, _SHIFT
            )

    def disc(
        self, x: float, y: float, radius_m: float, rgb: npt.ArrayLike, height_m: float | None
    ) -> None:
        """Fill a circle."""
        fixed = self._fixed(np.array([[x, y]]))[0]
        centre = (int(fixed[0]), int(fixed[1]))
        radius = max(int(radius_m / self.work_m * (1 << _SHIFT)), 8)
        cv2.circle(self.rgb, centre, radius, _plain(rgb), -1, cv2.LINE_8, _SHIFT)
        if height_m is not None:
            cv2.circle(self.height, centre, radius, float(height_m), -1, cv2.LINE_8, _SHIFT)

    def blend(
        self, filled: FilledPolygon, rgb: Float32Array, alpha: Float32Array | None = None
    ) -> None:
        """Put colours (float32, shape of the window by 3) where a mask is set, or by alpha."""
        view = self.rgb[filled.rows, filled.cols]
        if alpha is None:
            np.copyto(view, to_uint8(rgb), where=filled.mask[:, :, None])
            return
        share = (alpha * filled.mask)[:, :, None]
        view[:] = to_uint8(view + (rgb - view) * share)

    def _fixed(self, points: Float64Array) -> npt.NDArray[np.int32]:
        """Metres in OpenCV's fixed point; pixel centres there are whole numbers."""
        fixed = (points / self.work_m - 0.5) * (1 << _SHIFT)
        return np.round(np.clip(fixed, -1e8, 1e8)).astype(np.int32)


def to_uint8(values: npt.NDArray[np.floating]) -> UInt8Array:
    """Clip to 0-255."""
    return np.clip(values, 0, 255).astype(np.uint8)


def _plain(rgb: npt.ArrayLike) -> tuple[int, int, int]:
    red, green, blue = (int(min(max(value, 0), 255)) for value in np.asarray(rgb, np.float64))
    return red, green, blue
