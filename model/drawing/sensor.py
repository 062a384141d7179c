"""From light to image: haze, colour cast, contrast, blur, sharpening, noise and JPEG."""

import cv2
import numpy as np
import numpy.typing as npt

from model.drawing.canvas import to_uint8
from model.drawing.noise import broad_noise

Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]


def photograph(rng: np.random.Generator, light: Float32Array) -> UInt8Array:
    """An image of a scene as one of many cameras would give it.

    Args:
        rng: all chance comes from it.
        light: float32, shape (height, width, 3), 0-255.

    Returns:
        uint8, of the same shape.
    """
    image = _develop(rng, _through_air(rng, light))
    # Drone mosaics are crisp, often sharpened too much; satellites blur by half a pixel or more.
    is_crisp = rng.random() < 0.7
    blur = float(rng.uniform(0.15, 0.45) if is_crisp else rng.uniform(0.45, 0.9))
    image = cv2.GaussianBlur(image, (0, 0), blur)
    if rng.random() < 0.75:
        amount = float(rng.uniform(0.1, 1.0))
        soft = cv2.GaussianBlur(image, (0, 0), 1.0)
        image = image + amount * (image - soft)
    height, width = image.shape[:2]
    grain = rng.standard_normal((height, width), dtype=np.float32) * rng.uniform(0.5, 4.5)
    return _compressed(rng, to_uint8(image + grain[:, :, None]))


def _through_air(rng: np.random.Generator, light: Float32Array) -> Float32Array:
    share = float(rng.beta(1.2, 5.0)) * 0.6
    haze = np.array([198, 204, 212], np.float32) * np.float32(rng.uniform(0.8, 1.05))
    return light * np.float32(1 - share) + haze * np.float32(share)


def _develop(rng: np.random.Generator, image: Float32Array) -> Float32Array:
    # Exposure goes most of the way to a usual brightness, as cameras and mosaics do.
    wanted = float(np.clip(rng.normal(122, 15), 90, 155))
    exposure = (wanted / max(float(image.mean()), 1.0)) ** 0.8
    gain = exposure * rng.normal(1.0, 0.022, 3)
    gamma, middle = float(rng.normal(1.0, 0.08)), wanted
    contrast, saturation = float(rng.normal(1.08, 0.11)), float(rng.normal(0.95, 0.16))
    image = np.clip(image * gain.astype(np.float32), 0, 400) / np.float32(255)
    image = image ** np.float32(max(gamma, 0.7)) * np.float32(255)
    image = (image - np.float32(middle)) * np.float32(contrast) + np.float32(middle)
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * np.float32(saturation)
    if rng.random() < 0.3:
        uneven = broad_noise(rng, image.shape[:2], max(image.shape) / 3)
        image = image * (1 + np.float32(0.025) * uneven[:, :, None])
    return image


def _compressed(rng: np.random.Generator, image: UInt8Array) -> UInt8Array:
    if rng.random() < 0.15:
        return image
    quality = int(rng.integers(55, 97))
    ok, coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[:, :, ::-1])
