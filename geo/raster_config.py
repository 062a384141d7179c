"""Settings of reading: bands, fill colours, the way to 8 bit, and which image wins."""

from dataclasses import dataclass
from typing import ClassVar, Literal

Mosaic = Literal["first", "latest", "mean_probability"]
MOSAICS: tuple[Mosaic, ...] = ("first", "latest", "mean_probability")


@dataclass(frozen=True, kw_only=True)
class RasterConfig:
    """How images become pixels of the world grid."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    bands: tuple[int, ...] | None = None
    """Bands to read, counted from 1, in the model's order. None: the bands tagged red, green and
    blue, else the first three that are not alpha. A band may occur twice."""

    nodata_colours: tuple[tuple[int, ...], ...] = ((0, 0, 0), (255, 255, 255))
    """Colours (0 to 255, one value per band) that fill the parts of an image without data. Images
    of more than 8 bits are compared with the same share of their value range (0 and 255: the
    smallest and the largest value), exactly; of floats only zero can be fill."""

    nodata_tolerance: int = 8
    """How far each band of an 8 bit pixel may be from a fill colour, 0 to 64. On the scenes in use
    the fill of JPEG files stays within 8, and no roof or shadow larger than 80 m2 is that even."""

    nodata_min_area_m2: float = 1000.0
    """An even area inside the image is a hole from this size on. The scenes' holes measure 6,500
    and 12,100 m2, the largest saturated roof 77 m2."""

    nodata_border_area_m2: float = 50.0
    """An even area that touches the image's border is fill from this size on (the largest shadow
    there measures 9 m2)."""

    nodata_grow_px: int = 3
    """Pixels of the source (or of its overview) around fill that are not used either, 0 to 16: JPEG
    ringing."""

    value_range: tuple[float, float] | None = None
    """Source values that become 0 and 255, for all bands. None: 8 bit images stay as they are,
    others are stretched between `value_percentiles` of the whole image."""

    value_percentiles: tuple[float, float] = (2.0, 98.0)
    """Percentiles per band of images that are not 8 bit, used when `value_range` is None."""

    mosaic: Mosaic = "first"
    """Which image a pixel comes from where several have it: the first in the list, the latest, or
    all of them (the mean of their probabilities)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise ValueError(f"bands = {self.bands}: expected numbers from 1 on, such as (1, 2, 3)")
        for colour in self.nodata_colours:
            if not colour or not all(0 <= value <= 255 for value in colour):
                raise ValueError(f"nodata_colours holds {colour}: expected values from 0 to 255")
        if not 0 <= self.nodata_tolerance <= 64:
            raise ValueError(f"nodata_tolerance = {self.nodata_tolerance}: expected 0 to 64")
        for name in ("nodata_min_area_m2", "nodata_border_area_m2"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} = {getattr(self, name)}: expected 0 or more")
        if not 0 <= self.nodata_grow_px <= 16:
            raise ValueError(f"nodata_grow_px = {self.nodata_grow_px}: expected 0 to 16")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range = {self.value_range}: expected (low, high), low < high")
        low, high = self.value_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(
                f"value_percentiles = {self.value_percentiles}: expected 0 <= low < high <= 100"
            )
        if self.mosaic not in MOSAICS:
            raise ValueError(f"mosaic = {self.mosaic!r}: expected one of {', '.join(MOSAICS)}")
