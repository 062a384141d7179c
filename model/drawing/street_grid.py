"""Streets as the lines of a bent grid, and the blocks between them."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.drawing.outlines import Pose
from model.drawing.scene_plan import Road, Surface
from model.drawing.styles import Style

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreetGrid:
    """A grid of street lines s = const and t = const, bent by sine waves and turned.

    Attributes:
        pose: middle and direction of the grid.
        s_lines: places of the lines of the first kind, metres, ascending.
        t_lines: places of the lines of the second kind.
        swing_m: amplitudes of the two waves.
        wave_m: their lengths.
        phase: their phases.
    """

    pose: Pose
    s_lines: Float64Array
    t_lines: Float64Array
    swing_m: tuple[float, float]
    wave_m: tuple[float, float]
    phase: tuple[float, float]

    def points(self, s: npt.ArrayLike, t: npt.ArrayLike) -> Float64Array:
        """Points of grid coordinates in the plane, float64 (..., 2)."""
        s, t = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(t, np.float64))
        x = s + self.swing_m[0] * np.sin(2 * np.pi * t / self.wave_m[0] + self.phase[0])
        y = t + self.swing_m[1] * np.sin(2 * np.pi * s / self.wave_m[1] + self.phase[1])
        return self.pose.apply(np.stack([x, y], axis=-1))

    def at(self, s: float, t: float) -> Pose:
        """The pose at grid coordinates, along the lines of the second kind."""
        x, y = self.points(s, t)
        turn = 2 * math.pi / self.wave_m[1]
        slope = self.swing_m[1] * turn * math.cos(turn * s + self.phase[1])
        return Pose(float(x), float(y), self.pose.angle + math.atan(slope))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The ground between four streets, in grid coordinates, streets left out."""

    grid: StreetGrid
    s0: float
    s1: float
    t0: float
    t1: float

    @property
    def length(self) -> float:
        """Along s, in metres."""
        return self.s1 - self.s0

    @property
    def depth(self) -> float:
        """Along t, in metres."""
        return self.t1 - self.t0

    @property
    def pose(self) -> Pose:
        """Its middle."""
        return self.grid.at((self.s0 + self.s1) / 2, (self.t0 + self.t1) / 2)

    def ring(self, inset_m: float = 0.0) -> Float64Array:
        """Its outline with a few points per side, float64 (num_points, 2)."""
        s0, s1 = self.s0 + inset_m, self.s1 - inset_m
        t0, t1 = self.t0 + inset_m, self.t1 - inset_m
        share = np.linspace(0, 1, 6)[:-1]
        s = np.concatenate([s0 + share * (s1 - s0), np.full(5, s1), s1 - share * (s1 - s0),
                            np.full(5, s0)])  # fmt: skip
        t = np.concatenate([np.full(5, t0), t0 + share * (t1 - t0), np.full(5, t1),
                            t1 - share * (t1 - t0)])  # fmt: skip
        return self.grid.points(s, t)


def draw_grid(rng: np.random.Generator, style: Style, size_m: float, margin_m: float) -> StreetGrid:
    """Lines that cover a square scene and its margin, at a random angle."""
    reach = (size_m / 2 + margin_m) * math.sqrt(2) + style.block_m[1] * style.bend
    return StreetGrid(
        pose=Pose(size_m / 2, size_m / 2, float(rng.uniform(0, math.pi))),
        s_lines=_draw_lines(rng, reach, style.block_m),
        t_lines=_draw_lines(rng, reach, style.depth_m),
        swing_m=(
            float(rng.uniform(0.3, 1) * style.bend * style.block_m[1]),
            float(rng.uniform(0.3, 1) * style.bend * style.block_m[1]),
        ),
        wave_m=(float(rng.uniform(220, 500)), float(rng.uniform(220, 500))),
        phase=(float(rng.uniform(0, 6.28)), float(rng.uniform(0, 6.28))),
    )


def draw_streets(
    rng: np.random.Generator, style: Style, grid: StreetGrid
) -> tuple[list[Road], list[Block]]:
    """Streets along most pieces of the grid's lines, and the blocks that they leave.

    Returns:
        (streets, blocks). A line has one breadth and one surface.
    """
    roads: list[Road] = []
    inset: list[Float64Array] = []
    for axis, lines in enumerate((grid.s_lines, grid.t_lines)):
        breadths = rng.uniform(*style.street_m, len(lines)) * (
            1 + 0.6 * (rng.random(len(lines)) < 0.12)
        )
        inset.append(breadths / 2 + 0.8)
        ends = grid.t_lines if axis == 0 else grid.s_lines
        for place, breadth in zip(lines, breadths, strict=True):
            surface: Surface = "asphalt" if rng.random() < style.paved else "dirt"
            for low, high in _kept_pieces(rng, ends, style.missing):
                along = np.linspace(low, high, max(int((high - low) / 8), 2))
                points = grid.points(place, along) if axis == 0 else grid.points(along, place)
                roads.append(Road(points=points, breadth_m=float(breadth), surface=surface))
    return roads, _blocks(grid, inset[0], inset[1])


def _draw_lines(
    rng: np.random.Generator, reach: float, step_m: tuple[float, float]
) -> Float64Array:
    steps = rng.uniform(*step_m, int(2 * reach / step_m[0]) + 3)
    lines = -reach - rng.uniform(0, step_m[0]) + np.concatenate([[0.0], np.cumsum(steps)])
    last = int(np.searchsorted(lines, reach)) + 1
    return lines[: last + 1]


def _kept_pieces(
    rng: np.random.Generator, ends: Float64Array, missing: float
) -> list[tuple[float, float]]:
    """Runs of consecutive pieces that are there."""
    kept = rng.random(len(ends) - 1) >= missing
    runs: list[tuple[float, float]] = []
    for index in np.flatnonzero(kept):
        low, high = float(ends[index]), float(ends[index + 1])
        if runs and runs[-1][1] == low:
            runs[-1] = (runs[-1][0], high)
        else:
            runs.append((low, high))
    return runs


def _blocks(grid: StreetGrid, s_inset: Float64Array, t_inset: Float64Array) -> list[Block]:
    blocks = []
    for i in range(len(grid.s_lines) - 1):
        for j in range(len(grid.t_lines) - 1):
            block = Block(
                grid=grid,
                s0=float(grid.s_lines[i] + s_inset[i]),
                s1=float(grid.s_lines[i + 1] - s_inset[i + 1]),
                t0=float(grid.t_lines[j] + t_inset[j]),
                t1=float(grid.t_lines[j + 1] - t_inset[j + 1]),
            )
            if block.length > 8 and block.depth > 8:
                blocks.append(block)
    return blocks
