"""What stands where in a drawn scene, in metres: x to the right, y down from the upper left."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
Rgb = tuple[float, float, float]
Surface = Literal["asphalt", "dirt", "path"]
PatchKind = Literal["furrows", "crop", "rows", "bare", "lawn", "paved", "water", "pitch", "mud"]
WallKind = Literal["wall", "hedge", "fence"]
TreeKind = Literal["broad", "palm", "bush"]
ThingKind = Literal["car", "truck", "container", "pool", "rock", "heap", "ruin", "litter"]
RoofKind = Literal["gable", "hip", "shed", "flat", "cone", "vault", "sawtooth"]
Material = Literal[
    "zinc", "painted", "rusty", "tiles", "shingle", "concrete", "adobe", "thatch", "membrane"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wing:
    """A rectangular part of a building; its ridge runs along its length.

    Attributes:
        x: of its middle.
        y: of its middle.
        angle: direction of its length, radians, clockwise as y points down.
        half_length: half of its length.
        half_breadth: half of its breadth.
    """

    x: float
    y: float
    angle: float
    half_length: float
    half_breadth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """A building: the outline of its roof and what the roof is made of.

    Attributes:
        rings: corners of the outline, float64, shape (num_corners, 2), not closed; the first ring
            is the outer one, others are courtyards.
        wings: rectangles whose union is the outline; for round huts one square around it.
        roof: form of the roof.
        material: what covers it.
        eave_m: height of its eaves above the ground.
        slope: rise per metre.
        rgb: base colour.
        wear: how worn it is, 0 to 1.
    """

    rings: tuple[Float64Array, ...]
    wings: tuple[Wing, ...]
    roof: RoofKind
    material: Material
    eave_m: float
    slope: float
    rgb: Rgb
    wear: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """A road, street or path.

    Attributes:
        points: its middle line, float64, shape (num_points, 2).
        breadth_m: its breadth.
        surface: what it is made of.
    """

    points: Float64Array
    breadth_m: float
    surface: Surface


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A piece of ground of its own kind.

    Attributes:
        ring: its corners, float64, shape (num_corners, 2).
        kind: what it is.
        angle: direction of furrows or lines, radians.
    """

    ring: Float64Array
    kind: PatchKind
    angle: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """An enclosure wall, a hedge or a fence along a line of points."""

    points: Float64Array
    kind: WallKind
    height_m: float = 1.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A tree, palm or bush: its place, crown radius and height."""

    x: float
    y: float
    radius_m: float
    height_m: float
    kind: TreeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A small thing that is no building, of rectangular outline."""

    x: float
    y: float
    angle: float
    length_m: float
    breadth_m: float
    kind: ThingKind


@dataclass(slots=True, kw_only=True)
class ScenePlan:
    """Everything that is drawn in a scene, in lists that the fillers of blocks add to."""

    buildings: list[Building] = field(default_factory=list)
    roads: list[Road] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    walls: list[Wall] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
