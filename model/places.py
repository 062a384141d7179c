"""Places: patches of ground with labels, each at its own pixel size; what chips are cut from."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from model.errors import PlaceError

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
Split = Literal["train", "validation", "pool"]
SPLITS: tuple[Split, ...] = ("train", "validation", "pool")

# Ids travel as 16 bit: in packs, and through OpenCV's warping, which knows no 32 bit integers.
MAX_INSTANCES = 65_535


@dataclass(frozen=True, kw_only=True)
class DrawnRecipe:
    """What a drawn place is drawn again from (`model.drawn_towns.draw_scene`).

    Attributes:
        seed: the scene's.
        size_px: pixels per side.
        gsd_m: pixel size in metres.
        style: name of its style; None: the seed tells.
    """

    seed: int
    size_px: int
    gsd_m: float
    style: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A patch of ground with labels, at its own pixel size.

    Attributes:
        name: unique in a pack: "SOURCE/NAME".
        source: name of the source.
        category: free ("urban", "rural", ...), for scores by category.
        region: unit of the split: chips of one region never lie on both sides.
        split: what it is for; `pool` is unlabelled ground for self-training.
        weight: how often it is drawn, relative, per square metre of known ground.
        gsd_m: pixel size in metres.
        image: RGB, uint8, shape (height, width, 3); 0 where not valid.
        ids: 0 ground, 1 and up instances, int32, shape (height, width).
        known: labelled ground with image data, bool, shape (height, width); the rest carries no
            weight in a loss and no score.
        valid: has image data, bool, shape (height, width).
        has_instances: False if ids are components of a binary mask, where touching buildings share
            one.
        recipe: of a drawn place; a pack then keeps it instead of pixels.
        soft: a teacher's output, round(255 * sigmoid) by channel, uint8, shape (height, width,
            channels); None where no teacher has seen the place.

    Raises:
        PlaceError: if shapes, dtypes or values do not fit each other.
    """

    name: str
    source: str
    category: str
    region: str
    split: Split
    weight: float
    gsd_m: float
    image: UInt8Array
    ids: Int32Array
    known: BoolArray
    valid: BoolArray
    has_instances: bool
    recipe: DrawnRecipe | None = None
    soft: UInt8Array | None = None

    def __post_init__(self) -> None:
        """Check what every reader relies on."""
        _check_arrays(self)
        if self.split not in SPLITS:
            raise PlaceError(
                f"place {self.name}: split = {self.split!r}; expected one of {', '.join(SPLITS)}"
            )
        if not 0.01 <= self.gsd_m <= 100:
            raise PlaceError(f"place {self.name}: gsd_m = {self.gsd_m}; expected 0.01 to 100")
        if not 0 <= self.weight < float("inf"):
            raise PlaceError(f"place {self.name}: weight = {self.weight}; expected 0 or more")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.ids.shape[0], self.ids.shape[1]

    @property
    def known_area_m2(self) -> float:
        """Labelled ground in square metres."""
        return int(self.known.sum()) * self.gsd_m**2

    @property
    def num_instances(self) -> int:
        """Instances with at least one known pixel."""
        return int(np.count_nonzero(np.bincount(self.ids[self.known])[1:]))


def check_split(places: "list[Place]") -> None:
    """Refuse places of equal name, and regions that lie on both sides of the split.

    Raises:
        PlaceError: naming the place or region.
    """
    names: set[str] = set()
    split_of: dict[str, Split] = {}
    for place in places:
        if place.name in names:
            raise PlaceError(f"two places are called {place.name}; give their sources other names")
        names.add(place.name)
        if split_of.setdefault(place.region, place.split) != place.split:
            raise PlaceError(
                f"region {place.region} has places for training and for validation, such as "
                f"{place.name}; a region belongs to one side"
            )


def _check_arrays(place: Place) -> None:
    height, width = place.ids.shape if place.ids.ndim == 2 else (0, 0)
    if height < 1 or width < 1:
        raise PlaceError(f"place {place.name}: ids have shape {place.ids.shape}; expected 2 axes")
    expected = (
        ("image", place.image, (height, width, 3), np.uint8),
        ("ids", place.ids, (height, width), np.int32),
        ("known", place.known, (height, width), np.bool_),
        ("valid", place.valid, (height, width), np.bool_),
    )
    for name, array, shape, dtype in expected:
        if array.shape != shape or array.dtype != dtype:
            raise PlaceError(
                f"place {place.name}: {name} is {array.dtype} of shape {array.shape}; expected "
                f"{np.dtype(dtype)} of shape {shape}"
            )
    if place.soft is not None and (
        place.soft.ndim != 3
        or place.soft.shape[:2] != (height, width)
        or place.soft.dtype != np.uint8
    ):
        raise PlaceError(
            f"place {place.name}: soft is {place.soft.dtype} of shape {place.soft.shape}; expected "
            f"uint8 of shape ({height}, {width}, channels)"
        )
    if (place.known & ~place.valid).any():
        raise PlaceError(f"place {place.name}: ground is known where there is no image data")
    low, high = int(place.ids.min()), int(place.ids.max())
    if low < 0 or high > MAX_INSTANCES:
        raise PlaceError(
            f"place {place.name}: ids run from {low} to {high}; expected 0 to {MAX_INSTANCES}"
        )
