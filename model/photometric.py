"""Changes of colour, sharpness and noise; the labels stay.

Everything linear in colour (brightness, contrast, saturation, hue, gains of the bands) is one 3 x 4
matrix per chip, the rest is a table of 256 values, a small blur, noise and JPEG, all in OpenCV and
integers: 20 times faster than torchvision's functions one after another, and the same bits for any
number of threads. Brightness, contrast and saturation mean what they mean there (a test compares);
hue is a turn around the grey axis.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from model.places import BoolArray, UInt8Array

Float64Array = npt.NDArray[np.float64]

# Luma of ITU-R BT.601, as in torchvision and PIL.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, kw_only=True)
class PhotometricConfig:
    """How far colours and sharpness are changed; 0 leaves out a change.

    Ranges are starting values within what is common for aerial imagery (PAPER.md names the kinds of
    change, not their sizes).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    brightness: float = 0.25
    """All values times a factor from 1 - this to 1 + this."""
    contrast: float = 0.25
    """Distance from the chip's mean grey times such a factor."""
    saturation: float = 0.3
    """Distance from each pixel's grey times such a factor."""
    hue_deg: float = 12.0
    """Colours turned around the grey axis by up to so many degrees, to either side."""
    band_gain: float = 0.08
    """Each band times a factor of its own: differences between sensors."""
    gamma: float = 0.25
    """Exponent from 1 / (1 + this) to 1 + this."""
    shade: float = 0.15
    """Share of light that a smooth field takes away at its darkest: cloud shadow, vignette."""
    blur_share: float = 0.25
    """How often a chip is blurred."""
    blur_px: float = 1.0
    """Largest standard deviation of the blur, in pixels."""
    sharpen_share: float = 0.15
    """How often a chip is sharpened, where it is not blurred."""
    sharpen: float = 0.8
    """Largest weight of the difference to a blurred copy."""
    noise_share: float = 0.25
    """How often noise is added."""
    noise: float = 6.0
    """Largest standard deviation of the noise, in levels of 255."""
    jpeg_share: float = 0.2
    """How often a chip goes through JPEG."""
    jpeg_quality: int = 40
    """Lowest quality of that JPEG; the highest is 95."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("brightness", "contrast", "band_gain", "shade", "blur_share"):
            _check(name, getattr(self, name), 1.0)
        for name in ("sharpen_share", "noise_share", "jpeg_share", "saturation"):
            _check(name, getattr(self, name), 1.0)
        for name, high in (("hue_deg", 180.0), ("gamma", 4.0), ("blur_px", 10.0)):
            _check(name, getattr(self, name), high)
        for name, high in (("sharpen", 5.0), ("noise", 100.0)):
            _check(name, getattr(self, name), high)
        if not 5 <= self.jpeg_quality <= 95:
            raise ValueError(f"jpeg_quality = {self.jpeg_quality}; expected 5 to 95")

    def stronger(self, factor: float) -> "PhotometricConfig":
        """The same with every change larger by a factor, and more frequent, within the ranges."""
        limits = dict.fromkeys(
            ("brightness", "contrast", "band_gain", "shade", "saturation", "blur_share"), 0.9
        ) | dict.fromkeys(("sharpen_share", "noise_share", "jpeg_share"), 0.9)
        limits |= {"hue_deg": 90.0, "gamma": 2.0, "blur_px": 5.0, "sharpen": 3.0, "noise": 50.0}
        changes = {
            name: max(min(getattr(self, name) * factor, limit), getattr(self, name))
            for name, limit in limits.items()
        }
        quality = max(5, round(self.jpeg_quality / factor))
        return dataclasses.replace(self, jpeg_quality=quality, **changes)


def change_colours(
    image: UInt8Array, valid: BoolArray, config: PhotometricConfig, rng: np.random.Generator
) -> UInt8Array:
    """A chip with other colours, sharpness and noise.

    Args:
        image: RGB, uint8, shape (height, width, 3); not changed.
        valid: where it has data, bool, shape (height, width).
        config: how far.
        rng: what is drawn from.

    Returns:
        uint8, same shape; without meaning where not valid.
    """
    mean = mean_colour(image, valid)
    if not valid.all():
        # Blur, sharpening and JPEG must not drag black in from missing ground.
        image = np.where(valid[:, :, None], image, np.array(mean, np.uint8))
    image = cv2.transform(image, _draw_matrix(float(_LUMA @ mean), config, rng))
    image = cv2.LUT(image, gamma_table(_draw_factor(config.gamma, rng, is_exponent=True)))
    image = _shade(image, config.shade, rng)
    image = _blur_or_sharpen(image, config, rng)
    if rng.random() < config.noise_share:
        image = _add_noise(image, rng.uniform(0.0, config.noise), rng)
    if rng.random() < config.jpeg_share:
        image = _through_jpeg(image, int(rng.integers(config.jpeg_quality, 96)))
    return image


def mean_colour(image: UInt8Array, valid: BoolArray) -> tuple[int, int, int]:
    """Mean of the valid pixels, rounded; black where there is none.

    Args:
        image: RGB, uint8, shape (height, width, 3).
        valid: where it has data, bool, shape (height, width).
    """
    red, green, blue, _ = cv2.mean(image, mask=valid.view(np.uint8))
    return round(red), round(green), round(blue)


def colour_matrix(
    *,
    mean_grey: float,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue_deg: float = 0.0,
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Float64Array:
    """Linear changes of colour as one matrix: gains, hue, saturation, contrast, brightness.

    Args:
        mean_grey: what contrast is measured from, 0 to 255.
        brightness: factor of all values.
        contrast: factor of the distance from `mean_grey`.
        saturation: factor of the distance from each pixel's grey.
        hue_deg: turn around the grey axis.
        gains: factors of the bands.

    Returns:
        float64, shape (3, 4): new colour = matrix @ (red, green, blue, 1).
    """
    grey = np.tile(_LUMA, (3, 1))
    mix = (grey + saturation * (np.eye(3) - grey)) @ _turn(hue_deg) @ np.diag(gains)
    offset = np.full((3, 1), (1.0 - contrast) * mean_grey)
    return brightness * np.hstack([contrast * mix, offset])


def gamma_table(exponent: float) -> UInt8Array:
    """A table of 256 values: 255 * (value / 255) ** exponent, rounded; uint8."""
    values = np.arange(256) / 255.0
    return np.round(255.0 * values**exponent).astype(np.uint8)


def _check(name: str, value: float, high: float) -> None:
    if not 0 <= value <= high:
        raise ValueError(f"{name} = {value}; expected 0 to {high:g}")


def _draw_factor(reach: float, rng: np.random.Generator, *, is_exponent: bool = False) -> float:
    draw = rng.uniform(-1.0, 1.0)
    return (1.0 + reach) ** draw if is_exponent else 1.0 + reach * draw


def _draw_matrix(
    mean_grey: float, config: PhotometricConfig, rng: np.random.Generator
) -> Float64Array:
    return colour_matrix(
        mean_grey=mean_grey,
        brightness=_draw_factor(config.brightness, rng),
        contrast=_draw_factor(config.contrast, rng),
        saturation=_draw_factor(config.saturation, rng),
        hue_deg=config.hue_deg * rng.uniform(-1.0, 1.0),
        gains=(
            _draw_factor(config.band_gain, rng),
            _draw_factor(config.band_gain, rng),
            _draw_factor(config.band_gain, rng),
        ),
    )


def _turn(hue_deg: float) -> Float64Array:
    """Turn around the grey axis (1, 1, 1), after Rodrigues."""
    cos, sin = math.cos(math.radians(hue_deg)), math.sin(math.radians(hue_deg)) / math.sqrt(3.0)
    third = (1.0 - cos) / 3.0
    cross = np.array([[0.0, -sin, sin], [sin, 0.0, -sin], [-sin, sin, 0.0]])
    return cos * np.eye(3) + third + cross


def _shade(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Darken by a smooth field, drawn at 4 x 4 points."""
    points = rng.random((4, 4), np.float32) * np.float32(strength * rng.random() * 255.0)
    if strength == 0:
        return image
    size = (image.shape[1], image.shape[0])
    field = 255.0 - np.clip(cv2.resize(points, size, interpolation=cv2.INTER_CUBIC), 0.0, 255.0)
    light = cv2.merge([np.round(field).astype(np.uint8)] * 3)
    return np.asarray(cv2.multiply(image, light, scale=1.0 / 255.0))


def _blur_or_sharpen(
    image: UInt8Array, config: PhotometricConfig, rng: np.random.Generator
) -> UInt8Array:
    which, amount = rng.random(), rng.random()
    if which < config.blur_share:
        sigma = 0.3 + amount * (config.blur_px - 0.3)
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma)) if sigma > 0 else image
    if which < config.blur_share + config.sharpen_share:
        soft = cv2.GaussianBlur(image, (0, 0), 1.0)
        weight = amount * config.sharpen
        return np.asarray(cv2.addWeighted(image, 1.0 + weight, soft, -weight, 0.0))
    return image


def _add_noise(image: UInt8Array, sigma: float, rng: np.random.Generator) -> UInt8Array:
    noise = np.rint(rng.standard_normal(image.shape, np.float32) * np.float32(sigma))
    return np.asarray(cv2.add(image, noise.astype(np.int16), dtype=cv2.CV_8U))


def _through_jpeg(image: UInt8Array, quality: int) -> UInt8Array:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    assert done, "OpenCV cannot write JPEG"
    return np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
