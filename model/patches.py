"""The rectangles of an image that hold missing ground, so that the rest need not be touched."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

BoolArray = npt.NDArray[np.bool_]

# Side of the squares looked at, in pixels of the full mask: small enough that little valid ground
# is rewritten beside a slanted edge, large enough that few rectangles are left of a whole window.
_BLOCK_PX = 64


class Patch(NamedTuple):
    """A rectangle with missing ground.

    Attributes:
        image: which image of the batch.
        rows: its rows.
        cols: its columns.
        keep: shape (1, rows, cols), 1 where valid and 0 where not; None if nothing is valid.
    """

    image: int
    rows: slice
    cols: slice
    keep: Tensor | None


def missing_patches(mask: Tensor, factor: int) -> list[Patch]:
    """Rectangles that cover all missing ground, without overlap.

    Args:
        mask: shape (N, 1, H, W), on the CPU; 1 where valid, else 0, in the dtype of the images.
        factor: how many pixels of the input one pixel of the mask is.
    """
    side = max(1, _BLOCK_PX // factor)
    patches = []
    for number, image in enumerate(mask[:, 0]):
        missing = image.float().numpy() == 0
        for rows, cols in _rectangles(_blocks_with_any(missing, side)):
            inside = _scaled(rows, side), _scaled(cols, side)
            is_empty = bool(missing[inside].all())
            patches.append(Patch(number, *inside, None if is_empty else image[None][:, *inside]))
    return patches


def zero_missing(images: Tensor, patches: list[Patch]) -> None:
    """Set missing ground to zero, in place.

    Args:
        images: shape (N, C, H, W).
        patches: of the mask of these images, at their size.
    """
    for number, rows, cols, keep in patches:
        part = images[number, :, rows, cols]
        if keep is None:
            part.zero_()
        else:
            part.mul_(keep)


def _scaled(blocks: slice, side: int) -> slice:
    return slice(blocks.start * side, blocks.stop * side)


def _blocks_with_any(missing: BoolArray, side: int) -> BoolArray:
    """Which squares of `side` pixels hold a True; those at the far edges may be cut."""
    by_row = np.logical_or.reduceat(missing, np.arange(0, missing.shape[0], side), axis=0)
    blocks: BoolArray = np.logical_or.reduceat(by_row, np.arange(0, missing.shape[1], side), axis=1)
    return blocks


def _rectangles(blocks: BoolArray) -> list[tuple[slice, slice]]:
    """Disjoint rectangles over the True cells: equal runs of neighbouring rows are joined."""
    done: list[tuple[slice, slice]] = []
    growing: dict[tuple[int, int], int] = {}
    for row in range(len(blocks) + 1):
        runs = set(_runs(blocks[row])) if row < len(blocks) else set()
        for run in [run for run in growing if run not in runs]:
            done.append((slice(growing.pop(run), row), slice(*run)))
        for run in runs:
            growing.setdefault(run, row)
    return done


def _runs(row: BoolArray) -> list[tuple[int, int]]:
    """Starts and ends of the runs of True."""
    steps = np.diff(row.astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
