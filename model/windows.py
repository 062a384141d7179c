"""Which windows of a tile go through the network.

A tile of H x W pixels arrives with a margin on every side. It is cut into cores of `window_px`; a
window is a core plus the margin. Cores lie on the world grid, since tiles are whole numbers of
cores, so that a core's window holds the same pixels whichever tile asks.
"""

import numpy as np
import numpy.typing as npt

from geo.pixel_window import PixelWindow
from model.errors import SegmentError

BoolArray = npt.NDArray[np.bool_]

FIRST_LOOK_FACTOR = 2
"""Pixels of a window that are one in a first look (`model.first_look`), along either side."""


def check_window(window_px: int, margin_px: int, stride_px: int) -> None:
    """Refuse windows that the network cannot take.

    Args:
        window_px: side of a core.
        margin_px: pixels added on every side.
        stride_px: the sides of a network input must be a multiple of this.

    Raises:
        SegmentError: naming the values and the nearest window that fits.
    """
    if window_px < 1 or margin_px < 0:
        raise SegmentError(
            f"window_px = {window_px}, margin_px = {margin_px}; expected at least 1 and 0"
        )
    side = window_px + 2 * margin_px
    if side % stride_px:
        fitting = max(round(side / stride_px), 2 * margin_px // stride_px + 1) * stride_px
        raise SegmentError(
            f"window_px = {window_px} with margin_px = {margin_px} makes network inputs of {side} "
            f"px, but this network needs a multiple of {stride_px}; with this margin "
            f"window_px = {fitting - 2 * margin_px} fits"
        )


def check_first_look(input_px: int, stride_px: int) -> None:
    """Refuse windows that cannot be shrunk.

    Args:
        input_px: side of a network input.
        stride_px: the sides of a network input must be a multiple of this.

    Raises:
        SegmentError: naming the values and what would fit.
    """
    step = FIRST_LOOK_FACTOR * stride_px
    if input_px % step:
        raise SegmentError(
            f"first_look: window_px and two margins are {input_px} px; shrunk to half they have to "
            f"be a multiple of {stride_px} px, so take a multiple of {step}, such as "
            f"{max(round(input_px / step), 1) * step}"
        )


def plan_cores(
    valid: BoolArray, window_px: int, margin_px: int, *, active: BoolArray | None = None
) -> tuple[list[PixelWindow], int]:
    """Cores of a tile that are wanted and hold at least one valid pixel.

    Whether a core is kept depends on its own pixels only, never on the margin or on the tile.

    Args:
        valid: bool, shape (H + 2 * margin_px, W + 2 * margin_px).
        window_px: side of a core.
        margin_px: pixels around the tile.
        active: which cores are wanted, bool, shape (H / window_px, W / window_px); None: all.

    Returns:
        The cores in scan order, in pixels of the tile without its margin, and the number of cores
        left out.

    Raises:
        ValueError: if the tile is not a whole number of cores, or `active` does not fit it.
    """
    height, width = (side - 2 * margin_px for side in valid.shape)
    if height < 1 or width < 1 or height % window_px or width % window_px:
        raise ValueError(
            f"a tile of {height} x {width} px (without {margin_px} px of margin) is not a whole "
            f"number of cores of {window_px} px"
        )
    inner = valid[margin_px : margin_px + height, margin_px : margin_px + width]
    num_rows, num_cols = height // window_px, width // window_px
    blocks = inner.reshape(num_rows, window_px, num_cols, window_px)
    wanted = blocks.any(axis=(1, 3))
    if active is not None:
        if active.shape != wanted.shape:
            raise ValueError(f"active has shape {active.shape}; the tile's cores {wanted.shape}")
        wanted &= active
    rows, cols = np.nonzero(wanted)
    cores = [
        PixelWindow(int(col) * window_px, int(row) * window_px, window_px, window_px)
        for row, col in zip(rows, cols, strict=True)
    ]
    return cores, num_rows * num_cols - len(cores)
