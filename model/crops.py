"""Which part of a window goes through the network: where no pixel is valid beyond, it is cut off.

A network of convolutions, for which missing ground is zero at every layer (`model.masking`), gives
the pixels of an image the same bits whether nothing lies around it or the image ends there, as long
as the cut falls between the coarsest layer's pixels. Measured with a resnet18 U-Net, EfficientNet-
Lite0 and the colour network, bf16 and fp32, AVX-512 and AVX2.
"""

import math

from geo.missing_ground import ValidBox
from geo.pixel_window import PixelWindow

_NUM_SIZES = 5
"""Sizes that a side may have. oneDNN takes a tenth of a second to prepare a network for a shape."""


def pick_crop(box: ValidBox, side: int, *, stride_px: int, least_px: int) -> PixelWindow:
    """The part of a window that holds all valid pixels.

    Args:
        box: of the window's valid pixels.
        side: of the window, pixels, a multiple of the stride.
        stride_px: the part's offsets and sides are multiples of this.
        least_px: its sides are at least this long, or the whole window's.
    """
    quantum = stride_px * math.ceil(side / (_NUM_SIZES * stride_px))
    row, height = _pick_range(box.row, box.row_end, side, quantum, stride_px, least_px)
    col, width = _pick_range(box.col, box.col_end, side, quantum, stride_px, least_px)
    return PixelWindow(col, row, width, height)


def _pick_range(
    first: int, end: int, side: int, quantum: int, stride_px: int, least_px: int
) -> tuple[int, int]:
    """Start and length of what holds `first` to `end`."""
    first = first // stride_px * stride_px
    length = min(side, math.ceil(max(end - first, least_px) / quantum) * quantum)
    return min(first, side - length), length
