"""Putting buildings and other things into a plan, where there is room for them."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.drawing.occupancy import BUILT, FREE, TAKEN, Occupancy
from model.drawing.outlines import Box, Outline, Pose, corners_of, hut, wings_of
from model.drawing.roof_choices import ROOFS, RoofChoice, choose, choose_colour
from model.drawing.scene_plan import (
    Building,
    Patch,
    PatchKind,
    Rgb,
    ScenePlan,
    Thing,
    ThingKind,
    Tree,
    TreeKind,
    Wall,
    WallKind,
)
from model.drawing.styles import Style

Float64Array = npt.NDArray[np.float64]


class Builder:
    """A plan in the making: one style, one generator of random numbers, ground that fills up."""

    def __init__(
        self, plan: ScenePlan, style: Style, occupancy: Occupancy, rng: np.random.Generator
    ) -> None:
        """A builder that adds to `plan` and takes ground of `occupancy`."""
        self.plan = plan
        self.style = style
        self.occupancy = occupancy
        self.rng = rng

    def uniform(self, limits: tuple[float, float]) -> float:
        """A number between two limits."""
        return float(self.rng.uniform(*limits))

    def chance(self, share: float) -> bool:
        """True in that share of cases."""
        return bool(self.rng.random() < share)

    def house(
        self, pose: Pose, outline: Outline, *, roof: str | None = None, margin_m: float = 0.0
    ) -> bool:
        """Put a building where its ground is free; round where its roof is.

        Args:
            pose: its middle and direction.
            outline: around the origin.
            roof: name in `ROOFS`; None draws one of the style's.
            margin_m: free ground that it needs around it.

        Returns:
            Whether there was room.
        """
        choice = ROOFS[roof or choose(self.rng, self.style.roofs)]
        if choice.roof == "cone":
            outline = hut(max(float(np.ptp(outline.rings[0][:, 0])) * 0.45, 1.4))
        rings = tuple(pose.apply(ring) for ring in outline.rings)
        if not self.occupancy.claim(rings, margin_m=margin_m):
            return False
        self._add(rings, outline.boxes, pose, choice)
        return True

    def group(
        self, pose: Pose, outlines: Sequence[Outline], roofs: Sequence[str | None]
    ) -> list[bool]:
        """Put buildings that may touch each other; each where the ground was free before.

        Args:
            pose: of the frame that the outlines are in.
            outlines: disjoint but for shared edges.
            roofs: names in `ROOFS`, or None, one each.

        Returns:
            For each whether it stands.
        """
        rings = [tuple(pose.apply(ring) for ring in outline.rings) for outline in outlines]
        free = self.occupancy.claim_group([r[0] for r in rings])
        for fits, ring, outline, roof in zip(free, rings, outlines, roofs, strict=True):
            if fits:
                choice = ROOFS[roof or choose(self.rng, self.style.roofs)]
                self._add(ring, outline.boxes, pose, choice)
        return free

    def _add(
        self,
        rings: tuple[Float64Array, ...],
        boxes: Sequence[Box],
        pose: Pose,
        choice: RoofChoice,
        rgb: Rgb | None = None,
    ) -> None:
        self.plan.buildings.append(
            Building(
                rings=rings,
                wings=wings_of(boxes, pose),
                roof=choice.roof,
                material=choice.material,
                eave_m=self.uniform(choice.eave_m),
                slope=self.uniform(choice.slope),
                rgb=rgb or choose_colour(self.rng, choice.material),
                wear=self.uniform(self.style.wear),
            )
        )

    def is_free(self, x: float, y: float) -> bool:
        """Whether nothing stands at a point."""
        return self.occupancy.at(x, y) == FREE

    def is_open(self, x: float, y: float) -> bool:
        """Whether no building stands at a point."""
        return not self.occupancy.at(x, y) & (BUILT | TAKEN)

    def thing(self, pose: Pose, kind: ThingKind, length_m: float, breadth_m: float) -> bool:
        """Put a small thing where the ground is free of buildings and other things."""
        ring = pose.apply(corners_of((-length_m / 2, -breadth_m / 2, length_m / 2, breadth_m / 2)))
        if not self.occupancy.claim([ring], kind=TAKEN, blockers=BUILT | TAKEN):
            return False
        self.plan.things.append(
            Thing(x=pose.x, y=pose.y, angle=pose.angle, length_m=length_m, breadth_m=breadth_m,
                  kind=kind)
        )  # fmt: skip
        return True

    def car(self, pose: Pose) -> bool:
        """Put a car, sometimes a lorry."""
        if self.chance(0.12):
            return self.thing(pose, "truck", self.uniform((6, 11)), 2.4)
        return self.thing(pose, "car", self.uniform((3.4, 4.8)), self.uniform((1.6, 1.9)))

    def tree(self, x: float, y: float, radius_m: float | None = None) -> None:
        """Put a tree of the style's kinds, whatever stands there."""
        radius = radius_m or self._crown_radius()
        kind: TreeKind = "broad"
        if self.chance(self.style.palms):
            kind, radius = "palm", min(max(radius, 1.6), 3.6)
        elif radius < 1.1:
            kind = "bush"
        height = radius * self.uniform((0.8, 1.8)) if kind != "palm" else self.uniform((4, 11))
        self.plan.trees.append(Tree(x=x, y=y, radius_m=radius, height_m=height, kind=kind))

    def bush(self, x: float, y: float, radius_m: float) -> None:
        """Put a bush."""
        self.plan.trees.append(
            Tree(x=x, y=y, radius_m=radius_m, height_m=radius_m * 0.9, kind="bush")
        )

    def _crown_radius(self) -> float:
        low, high = self.style.tree_m
        return low + (high - low) * float(self.rng.beta(1.3, 2.2))

    def patch(self, ring: Float64Array, kind: PatchKind, angle: float = 0.0) -> None:
        """Put a piece of ground of its own kind."""
        self.plan.patches.append(Patch(ring=ring, kind=kind, angle=angle))

    def wall(self, ring: Float64Array, gate: bool = True) -> None:
        """Put a wall, hedge or fence around a ring, with a gate."""
        kinds: tuple[WallKind, ...] = ("wall", "fence", "hedge")
        kind = kinds[int(self.rng.choice(3, p=(0.55, 0.25, 0.2)))]
        points = np.concatenate([ring, ring[:1]])
        if gate:
            points = with_gate(points, self.uniform((0.1, 0.9)), self.uniform((2, 4)))
        self.plan.walls.append(Wall(points=points, kind=kind, height_m=self.uniform((1.0, 2.4))))


def with_gate(points: Float64Array, at: float, breadth_m: float) -> Float64Array:
    """A closed line opened by a gap in its first side: it begins after and ends before the gap."""
    first, second = points[0], points[1]
    side = second - first
    length = math.hypot(*side)
    if length <= breadth_m * 1.5:
        return points[1:]
    start = first + side * (at * (length - breadth_m) / length)
    stop = start + side * (breadth_m / length)
    return np.concatenate([stop[None], points[1:], start[None]])
