"""Chips: small training samples, cut from places at random position, turn, flip and pixel size.

Every chip is a function of the places, the config and (seed, step, index), nothing else: not of the
number of worker processes, not of what was drawn before. A training that is killed and resumed at a
step therefore sees the same chips as one that was not.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt

from model.errors import PlaceError
from model.photometric import PhotometricConfig, change_colours, mean_colour
from model.places import BoolArray, Int32Array, Place, UInt8Array
from model.pyramid import Float64Array, PlacePyramid, build_pyramid

Strength = Literal["none", "weak", "strong"]
STRENGTHS: tuple[Strength, ...] = ("none", "weak", "strong")

# Chips are centred on cells of known ground; finer cells cost memory, coarser ones wander off it.
_CELL_PX = 16
_STREAM = 0x63686970  # "chip": keeps these draws apart from others with the same seed


@dataclass(frozen=True, kw_only=True)
class ChipConfig:
    """How chips are cut and changed."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    size_px: int = 256
    """Pixels per side. PAPER.md: 448 px at 0.5 m (M); 256 fits more places into a batch."""
    gsd_m: tuple[float, float] = (0.2, 0.6)
    """Smallest and largest pixel size in metres; drawn evenly on a logarithmic scale."""
    max_upsampling: float = 1.5
    """How much finer than its place a chip may be: beyond, it would hold blur instead of detail."""
    min_cover: float = 0.75
    """How much of a chip's side the smaller side of its place covers at least: chips of small
    places are not coarser than that allows, so that little is computed on missing ground."""
    building_share: float = 0.5
    """How often a chip is centred on a building, where its place has any, instead of anywhere on
    known ground: more than half of most scenes is plain background."""
    rotate: bool = True
    """Turn by any angle."""
    flip: bool = True
    """Mirror half of the chips."""
    beyond_share: float = 0.1
    """How often a chip may reach far beyond its place: windows at the edge of an image do."""
    missing_share: float = 0.05
    """How often part of a chip loses its image data along one side."""
    photometric: PhotometricConfig = dataclasses.field(default_factory=PhotometricConfig)
    """Changes of colour, sharpness and noise at strength `weak`."""
    strong_factor: float = 1.8
    """How much larger those changes are at strength `strong`, for students of self-training."""
    cutout_share: float = 0.5
    """How often a strong chip has squares painted over; labels stay (DeVries and Taylor 2017)."""
    cutout_size: float = 0.2
    """Largest side of such a square as a share of the chip's side."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        low, high = self.gsd_m
        if not 16 <= self.size_px <= 4096:
            raise ValueError(f"size_px = {self.size_px}; expected 16 to 4096 pixels")
        if not 0.01 <= low <= high <= 100:
            raise ValueError(
                f"gsd_m = {self.gsd_m}; expected two sizes in metres, small then large"
            )
        if not 1 <= self.max_upsampling <= 100:
            raise ValueError(f"max_upsampling = {self.max_upsampling}; expected 1 to 100")
        if not 1 <= self.strong_factor <= 5:
            raise ValueError(f"strong_factor = {self.strong_factor}; expected 1 to 5")
        for name in ("min_cover", "building_share", "beyond_share", "missing_share"):
            _check_share(name, getattr(self, name))
        for name in ("cutout_share", "cutout_size"):
            _check_share(name, getattr(self, name))


@dataclass(frozen=True, eq=False)
class Chip:
    """A sample with its labels.

    Attributes:
        image: RGB, uint8, shape (3, height, width); 0 where not valid.
        ids: 0 ground, else the ids of the place's instances, int32, shape (height, width).
        known: labelled ground with image data, bool, shape (height, width).
        valid: has image data, bool, shape (height, width).
        gsd_m: pixel size in metres.
        place: name of the place.
        soft: a teacher's output there, uint8, shape (channels, height, width), if it has any.
        corner: (row, col) of its upper left pixel in the whole place at this pixel size, for
            windows that are not drawn.
    """

    image: UInt8Array
    ids: Int32Array
    known: BoolArray
    valid: BoolArray
    gsd_m: float
    place: str
    soft: UInt8Array | None = None
    corner: tuple[int, int] = (0, 0)


class ChipSampler:
    """Random access to an endless number of chips.

    Args:
        places: what to cut from; those for validation and those without known ground or weight are
            left out.
        config: how.
        seed: another seed, other chips.
        strength: `none`: position, turn, flip and pixel size only; `weak`: colours too; `strong`:
            stronger, with cutout.

    Raises:
        PlaceError: if no place is left.
    """

    def __init__(
        self,
        places: Sequence[Place],
        config: ChipConfig,
        *,
        seed: int,
        strength: Strength = "weak",
    ) -> None:
        if strength not in STRENGTHS:
            raise ValueError(f"strength = {strength!r}; expected one of {', '.join(STRENGTHS)}")
        kept = [p for p in places if p.split == "train" and p.weight > 0 and p.known.any()]
        if not kept:
            raise PlaceError(
                f"none of {len(places)} places is for training and has labelled ground and a weight"
            )
        self.config = config
        self.seed = seed
        self.strength = strength
        self.pyramids = [build_pyramid(place, config.gsd_m[1]) for place in kept]
        self._cells = [_find_cells(place) for place in kept]
        share = np.array([place.weight * place.known_area_m2 for place in kept])
        self._upto = np.cumsum(share / share.sum())
        factor = config.strong_factor if strength == "strong" else 1.0
        self._photometric = config.photometric.stronger(factor)

    def chip(self, step: int, index: int) -> Chip:
        """The chip of a step and an index in its batch.

        Args:
            step: from 0.
            index: from 0.
        """
        rng = np.random.default_rng((_STREAM, self.seed, step, index))
        chosen = min(int(np.searchsorted(self._upto, rng.random(), "right")), len(self._upto) - 1)
        pyramid = self.pyramids[chosen]
        gsd_m = self._draw_gsd(pyramid.place, rng)
        to_place = self._draw_position(pyramid.place, self._cells[chosen], gsd_m, rng)
        level = pyramid.level_of(gsd_m, 0.0 if self.strength == "none" else 0.4 * rng.random())
        size = self.config.size_px
        image, ids, known, valid = pyramid.sample(to_place, (size, size), level)
        if self.strength != "none":
            image = change_colours(image, valid, self._photometric, rng)
        if self.strength == "strong" and rng.random() < self.config.cutout_share:
            image = _cut_out(image, valid, self.config.cutout_size, rng)
        if rng.random() < self.config.missing_share:
            _drop_side(known, valid, rng)
        chip = _finished(image, ids, known, valid, gsd_m, pyramid.place.name)
        return dataclasses.replace(chip, soft=pyramid.sample_soft(to_place, (size, size)))

    def _draw_gsd(self, place: Place, rng: np.random.Generator) -> float:
        low, high = self.config.gsd_m
        low = min(max(low, place.gsd_m / self.config.max_upsampling), high)
        side_m = min(place.shape) * place.gsd_m
        coarsest = side_m / max(self.config.min_cover * self.config.size_px, 1e-9)
        high = max(min(high, coarsest), low)
        return float(low * (high / low) ** rng.random())

    def _draw_position(
        self, place: Place, cells: "_Cells", gsd_m: float, rng: np.random.Generator
    ) -> Float64Array:
        """Affine from the chip's pixels to the place's, float64, shape (2, 3)."""
        scale = gsd_m / place.gsd_m
        angle, mirrored = 2.0 * math.pi * rng.random(), rng.random() < 0.5
        angle = angle if self.config.rotate else 0.0
        flip = -1.0 if mirrored and self.config.flip else 1.0
        centre = cells.draw(self.config.building_share, rng)
        half = 0.5 * scale * self.config.size_px
        if rng.random() >= self.config.beyond_share:
            reach = half * (abs(math.cos(angle)) + abs(math.sin(angle)))
            centre = _pull_inside(centre, place.shape, reach, half)
        turn = scale * np.array(
            [[flip * math.cos(angle), -math.sin(angle)], [flip * math.sin(angle), math.cos(angle)]]
        )
        middle = np.full(2, self.config.size_px / 2.0)
        return np.column_stack([turn, centre - turn @ middle])


def resample_place(place: Place, gsd_m: float, *, multiple_px: int = 1) -> Chip:
    """A whole place at another pixel size, unchanged otherwise.

    Args:
        place: the place.
        gsd_m: pixel size in metres.
        multiple_px: height and width become multiples of it; what is added has no image data.

    Returns:
        The place as one chip; its upper left corner is the place's.
    """
    scale = gsd_m / place.gsd_m
    height, width = (
        multiple_px * math.ceil(max(round(side / scale), 1) / multiple_px) for side in place.shape
    )
    return _window(build_pyramid(place, gsd_m), gsd_m, (0, 0), (height, width))


def validation_windows(place: Place, gsd_m: float, size_px: int) -> list[Chip]:
    """A whole place at one pixel size, as windows side by side, row by row; nothing is drawn.

    Args:
        place: the place.
        gsd_m: pixel size in metres.
        size_px: side of the windows; those at the right and bottom reach beyond the place, where
            they have no image data.

    Returns:
        Windows that hold known ground.
    """
    pyramid = build_pyramid(place, gsd_m)
    scale = gsd_m / place.gsd_m
    height, width = (max(round(side / scale), 1) for side in place.shape)
    windows = (
        _window(pyramid, gsd_m, (row, col), (size_px, size_px))
        for row in range(0, height, size_px)
        for col in range(0, width, size_px)
    )
    return [window for window in windows if window.known.any()]


def _window(
    pyramid: PlacePyramid, gsd_m: float, corner: tuple[int, int], size: tuple[int, int]
) -> Chip:
    """An upright window whose upper left corner is pixel (row, col) of the resampled place."""
    scale = gsd_m / pyramid.place.gsd_m
    row, col = corner
    to_place = scale * np.array([[1.0, 0.0, col], [0.0, 1.0, row]])
    image, ids, known, valid = pyramid.sample(to_place, size, pyramid.level_of(gsd_m))
    chip = _finished(image, ids, known, valid, gsd_m, pyramid.place.name)
    return dataclasses.replace(chip, corner=corner)


def _finished(
    image: UInt8Array,
    ids: npt.NDArray[np.uint16],
    known: BoolArray,
    valid: BoolArray,
    gsd_m: float,
    name: str,
) -> Chip:
    image = cv2.bitwise_and(image, image, mask=valid.view(np.uint8))
    return Chip(
        image=np.ascontiguousarray(image.transpose(2, 0, 1)),
        ids=ids.astype(np.int32),
        known=known,
        valid=valid,
        gsd_m=gsd_m,
        place=name,
    )


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} = {value}; expected 0 to 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cells:
    """Where chips may be centred: upper left corners (x, y) of cells, float64, shape (n, 2).

    Attributes:
        known: cells that are mostly known ground; at least one.
        building: those of them that are at least half building; maybe none.
    """

    known: Float64Array
    building: Float64Array

    def draw(self, building_share: float, rng: np.random.Generator) -> Float64Array:
        """A point (x, y) in one of the cells."""
        wants_building, pick, within = rng.random(), rng.random(), rng.random(2)
        is_wanted = wants_building < building_share and len(self.building) > 0
        cells = self.building if is_wanted else self.known
        return cells[int(pick * len(cells))] + _CELL_PX * within


def _find_cells(place: Place) -> _Cells:
    known = _cell_shares(place.known)
    is_known = known >= min(0.5, float(known.max()))
    is_building = is_known & (_cell_shares(place.known & (place.ids > 0)) >= 0.5)
    return _Cells(known=_corners(is_known), building=_corners(is_building))


def _cell_shares(mask: BoolArray) -> Float64Array:
    """Share of each cell that a mask covers; cells at the far edges reach beyond it."""
    height, width = (-(-side // _CELL_PX) for side in mask.shape)
    padded = np.zeros((height * _CELL_PX, width * _CELL_PX), np.bool_)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    shares: Float64Array = padded.reshape(height, _CELL_PX, width, _CELL_PX).mean(axis=(1, 3))
    return shares


def _corners(cells: BoolArray) -> Float64Array:
    rows, cols = np.nonzero(cells)
    return np.stack([cols, rows], axis=1).astype(np.float64) * _CELL_PX


def _pull_inside(
    centre: Float64Array, shape: tuple[int, int], reach: float, half: float
) -> Float64Array:
    """A centre near the one given from which the chip stays within its place, if it fits.

    Where the turned chip does not fit, the upright one has to; where that is larger than the place,
    the place has to lie within it.
    """
    pulled = centre.copy()
    for axis, side in enumerate((shape[1], shape[0])):
        margin = reach if 2 * reach <= side else half
        low, high = sorted((margin, side - margin))
        pulled[axis] = min(max(centre[axis], low), high)
    return pulled


def _drop_side(known: BoolArray, valid: BoolArray, rng: np.random.Generator) -> None:
    """Take the image data from one side of a chip, up to half of it; writes into the masks."""
    side, depth = int(rng.integers(4)), max(1, round(rng.uniform(0.02, 0.5) * len(valid)))
    part = slice(None, depth) if side % 2 else slice(-depth, None)
    for mask in (known, valid):
        view = mask if side < 2 else mask.T
        view[part] = False


def _cut_out(
    image: UInt8Array, valid: BoolArray, max_share: float, rng: np.random.Generator
) -> UInt8Array:
    """Paint up to four squares over with the chip's mean colour."""
    image = image.copy()
    size, colour = len(image), mean_colour(image, valid)
    for _ in range(int(rng.integers(1, 5))):
        side = max(1, round(size * max_share * rng.uniform(0.25, 1.0)))
        row, col = (int(rng.integers(-side // 2, size - side // 2)) for _ in range(2))
        image[max(row, 0) : row + side, max(col, 0) : col + side] = colour
    return image
