"""The sun, and the shadows that everything with a height casts."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from model.drawing.canvas import Canvas, Sun

Float32Array = npt.NDArray[np.float32]

MAX_HEIGHT_M = 40.0
_SOFT_M = 0.45
_SHADOW_TINT = np.array([0.94, 1.0, 1.1], np.float32)


def draw_sun(rng: np.random.Generator) -> Sun:
    """A sun anywhere around, 32 to 75 degrees high, rarely behind a veil of cloud."""
    azimuth = float(rng.uniform(0, 2 * math.pi))
    elevation = math.radians(float(rng.uniform(32, 75)))
    ambient = (
        float(rng.uniform(0.32, 0.55)) if rng.random() < 0.85 else float(rng.uniform(0.7, 0.92))
    )
    flat = math.cos(elevation)
    return Sun(flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation), ambient)


def shadow_share(height: Float32Array, gsd_m: float, sun: Sun) -> Float32Array:
    """How much of each pixel lies in shadow.

    The horizon towards the sun is the largest of `height(p + k d) - k drop` over all steps k, found
    in log2 steps: a window of twice as many steps is the larger of two windows.

    Args:
        height: metres, float32, shape (rows, cols).
        gsd_m: pixel size.
        sun: where light comes from.

    Returns:
        float32 in [0, 1], of the same shape.
    """
    flat = math.hypot(sun.x, sun.y)
    step_x, step_y = sun.x / flat, sun.y / flat
    drop = gsd_m * sun.z / flat
    top = min(float(height.max()), MAX_HEIGHT_M)
    horizon = height
    reach = 1
    while reach * drop < top * 2:
        move = np.array([[1, 0, step_x * reach], [0, 1, step_y * reach]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (height.shape[1], height.shape[0])
        ahead = cv2.warpAffine(horizon, move, size, flags=flags, borderValue=0.0)
        horizon = np.maximum(horizon, ahead - np.float32(reach * drop))
        reach *= 2
    return np.clip((horizon - height - 0.12) / _SOFT_M, 0, 1)


def lit_image(canvas: Canvas) -> Float32Array:
    """The scene at its own resolution, shadows cast.

    Returns:
        float32, shape (size_px, size_px, 3), 0-255.
    """
    size = (round(canvas.size / 2), round(canvas.size / 2))
    rgb = cv2.resize(canvas.rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    height = cv2.resize(canvas.height, size, interpolation=cv2.INTER_AREA)
    shadow = shadow_share(height, canvas.gsd_m, canvas.sun)
    light = 1 - shadow[:, :, None] * (1 - canvas.sun.ambient * _SHADOW_TINT)
    return rgb * light
