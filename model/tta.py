"""Test-time augmentation with the eight symmetries of the square (the dihedral group D4)."""

import torch
from torch import Tensor

NUM_SYMMETRIES = 8
# Probabilities are added up as whole multiples of 2^-20: integers, so that the sum does not depend
# on the order and a turned image gives exactly the turned result.
_SCALE_BITS = 20


def apply_symmetry(images: Tensor, index: int) -> Tensor:
    """Turn square images (..., H, W) by `index % 4` quarter turns, mirrored before from 4 on."""
    mirrored = images.flip(-1) if index >= 4 else images
    return torch.rot90(mirrored, index % 4, (-2, -1))


def undo_symmetry(images: Tensor, index: int) -> Tensor:
    """The exact inverse of `apply_symmetry`."""
    turned = torch.rot90(images, -(index % 4), (-2, -1))
    return turned.flip(-1) if index >= 4 else turned


def to_fixed_point(probability: Tensor) -> Tensor:
    """Probabilities (float32, 0 to 1) as int32 multiples of 2^-20."""
    return torch.round(probability * float(1 << _SCALE_BITS)).to(torch.int32)


def mean_to_uint8(total: Tensor) -> Tensor:
    """The mean of eight fixed-point probabilities as uint8, rounded once: round(255 * mean)."""
    # 255 * 8 * 2^20 + 2^22 stays below 2^31.
    shift = _SCALE_BITS + 3
    return ((total * 255 + (1 << (shift - 1))) >> shift).to(torch.uint8)
