"""Trees: a few crowns are modelled per scene, then stamped at many sizes."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from model.drawing.canvas import Canvas, Sun, to_uint8
from model.drawing.noise import noise_patch
from model.drawing.scene_plan import Rgb, Tree

Float32Array = npt.NDArray[np.float32]

_STAMP_PX = 96
_GREENS: tuple[Rgb, ...] = ((78, 100, 48), (94, 116, 56), (64, 86, 46), (110, 126, 64),
                            (84, 102, 66), (118, 122, 74), (58, 80, 44), (98, 106, 60))  # fmt: skip
_PALMS: tuple[Rgb, ...] = ((116, 132, 74), (100, 122, 64), (136, 142, 88))


@dataclass(frozen=True, slots=True)
class _Stamp:
    """A crown seen from above.

    Attributes:
        rgb: shaded colours, float32 (_STAMP_PX, _STAMP_PX, 3).
        alpha: how much it covers, 0 to 1, float32.
        height: share of the tree's height, 0 to 1, float32.
    """

    rgb: Float32Array
    alpha: Float32Array
    height: Float32Array


def paint_trees(rng: np.random.Generator, canvas: Canvas, trees: list[Tree]) -> None:
    """Paint trees and bushes, low ones first."""
    if not trees:
        return
    tint = rng.normal(1, 0.045, 3) * rng.normal(1.05, 0.1)
    broad = _StampSizes([_broad_stamp(rng, canvas.sun, tint) for _ in range(12)])
    palms = _StampSizes([_palm_stamp(rng, canvas.sun, tint) for _ in range(6)])
    for tree in sorted(trees, key=lambda one: one.height_m):
        sizes = palms if tree.kind == "palm" else broad
        index = int(rng.integers(len(sizes.stamps)))
        _put(canvas, sizes, index, tree, float(rng.normal(1.0, 0.1)))


def _grid() -> tuple[Float32Array, Float32Array]:
    axis = (np.arange(_STAMP_PX, dtype=np.float32) + 0.5) / (_STAMP_PX / 2) - 1
    return axis[None, :], axis[:, None]


def _broad_stamp(rng: np.random.Generator, sun: Sun, tint: npt.NDArray[np.float64]) -> _Stamp:
    """A crown of many round tufts on a dome."""
    x, y = _grid()
    height = np.full((_STAMP_PX, _STAMP_PX), -1.0, np.float32)
    tone = np.ones_like(height)
    num = int(rng.integers(25, 70))
    size = float(rng.uniform(0.16, 0.32))
    lop = rng.uniform(0.7, 1.0, 2)
    for _ in range(num):
        turn, reach = rng.uniform(0, 2 * math.pi), math.sqrt(rng.random()) * 0.8
        cx, cy = reach * math.cos(turn) * lop[0], reach * math.sin(turn) * lop[1]
        radius = size * float(rng.uniform(0.6, 1.3))
        square = 1 - ((x - cx) ** 2 + (y - cy) ** 2) / radius**2
        bump = 0.55 * (1 - reach**2) + radius * np.sqrt(np.maximum(square, 0)) * 1.6
        higher = (square > 0) & (bump > height)
        height = np.where(higher, bump, height).astype(np.float32)
        tone = np.where(higher, np.float32(rng.normal(1, 0.1)), tone)
    leaves = noise_patch(rng, height.shape, 4, 0.9)
    ragged = (height > 0.15 + 0.11 * leaves).astype(np.float32)
    return _lit_stamp(rng, sun, _GREENS, tint, ragged, height, tone * (1 + 0.13 * leaves))


def _lit_stamp(
    rng: np.random.Generator,
    sun: Sun,
    palette: tuple[Rgb, ...],
    tint: npt.NDArray[np.float64],
    inside: Float32Array,
    height: Float32Array,
    tone: Float32Array,
) -> _Stamp:
    soft = cv2.GaussianBlur(np.maximum(height, 0), (0, 0), 1.0)
    # Leaves let light through and scatter it: a crown's far side is not black.
    slope_y, slope_x = np.gradient(soft * np.float32(_STAMP_PX / 2))
    light = sun.shade(np.clip(slope_x * 0.6, -1.2, 1.2), np.clip(slope_y * 0.6, -1.2, 1.2))
    deep = 0.7 + 0.4 * np.clip(soft / (soft.max() + 1e-6), 0, 1)
    base = np.array(palette[int(rng.integers(len(palette)))]) * tint
    rgb = base.astype(np.float32) * (tone * (0.5 + 0.5 * light) * deep)[..., None]
    alpha = cv2.GaussianBlur(inside, (0, 0), 0.8)
    share = np.clip(0.15 + 0.85 * soft / (soft.max() + 1e-6), 0, 1) * (inside > 0)
    return _Stamp(rgb, alpha, share.astype(np.float32))


def _palm_stamp(rng: np.random.Generator, sun: Sun, tint: npt.NDArray[np.float64]) -> _Stamp:
    """Fronds that bend down from the middle."""
    inside = np.zeros((_STAMP_PX, _STAMP_PX), np.float32)
    height = np.full_like(inside, -1)
    tone = np.ones_like(inside)
    num = int(rng.integers(11, 20))
    for index in range(num):
        turn = 2 * math.pi * (index + rng.uniform(-0.3, 0.3)) / num
        bend = float(rng.uniform(-0.5, 0.5))
        length = float(rng.uniform(0.75, 1.0))
        reach = np.linspace(0, length, 8)
        angle = turn + bend * reach
        middle = np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)
        broad = 0.09 * np.sin(np.pi * np.clip(reach / length, 0.12, 0.93))
        side = np.stack([-np.sin(angle), np.cos(angle)], axis=1) * broad[:, None]
        ring = np.concatenate([middle + side, (middle - side)[::-1]])
        fixed = np.round((ring + 1) * (_STAMP_PX / 2) * 16).astype(np.int32)
        cv2.fillPoly(inside, [fixed], 1.0, cv2.LINE_8, 4)
        cv2.fillPoly(height, [fixed], float(rng.uniform(0.3, 0.9)), cv2.LINE_8, 4)
        cv2.fillPoly(tone, [fixed], float(rng.normal(1.05, 0.18)), cv2.LINE_8, 4)
    return _lit_stamp(rng, sun, _PALMS, tint, inside, height, tone)


class _StampSizes:
    """Stamps at the sizes asked for; small ones are kept."""

    def __init__(self, stamps: list[_Stamp]) -> None:
        self.stamps = stamps
        self.kept: dict[tuple[int, int], _Stamp] = {}

    def get(self, index: int, size: int) -> _Stamp:
        """Stamp `index` at `size` pixels per side."""
        if (index, size) in self.kept:
            return self.kept[index, size]
        how = cv2.INTER_AREA if size < _STAMP_PX else cv2.INTER_LINEAR
        full = self.stamps[index]
        rgb, alpha, height = (
            cv2.resize(layer, (size, size), interpolation=how)
            for layer in (full.rgb, full.alpha, full.height)
        )
        stamp = _Stamp(rgb, alpha, height)
        if size <= 48:
            self.kept[index, size] = stamp
        return stamp


def _put(canvas: Canvas, sizes: _StampSizes, index: int, tree: Tree, tone: float) -> None:
    radius = tree.radius_m / canvas.work_m
    size = max(round(2 * radius), 2)
    left = round(tree.x / canvas.work_m - radius)
    top = round(tree.y / canvas.work_m - radius)
    rows = slice(max(top, 0), min(top + size, canvas.size))
    cols = slice(max(left, 0), min(left + size, canvas.size))
    if rows.start >= rows.stop or cols.start >= cols.stop:
        return
    cut = (slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left))
    stamp = sizes.get(index, size)
    # Bushes are thin: the ground shows through.
    alpha = stamp.alpha[cut] * np.float32(0.75 if tree.kind == "bush" else 1.0)
    view = canvas.rgb[rows, cols]
    ground = view.astype(np.float32)
    view[:] = to_uint8(ground + (stamp.rgb[cut] * np.float32(tone) - ground) * alpha[..., None])
    below = canvas.height[rows, cols]
    top_m = stamp.height[cut] * np.float32(tree.height_m)
    np.maximum(below, np.where(alpha > 0.5, top_m, 0), out=below)
