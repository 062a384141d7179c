"""How buildings are kept apart, and one probability from a network's channels.

`eroded`: one channel, buildings eroded by some pixels; components of it are the buildings' cores.
`border`: building, and the band where two buildings meet; a core is building and no band.
`distance`: building, and the depth inside it; a core is building from some depth on.

Whatever the scheme, what is thresholded is one probability a pixel, so that seams, confidence and
growing back work the same.
"""

from typing import Literal

import torch
from torch import Tensor

Separation = Literal["eroded", "border", "distance"]

_CORE_DEPTH = 0.4
"""Depth from which a pixel is core, as a share of the depth at which the channel reaches 1."""
_DEPTH_SLOPE = 10.0


def num_channels(separation: Separation) -> int:
    """Channels of the network's output."""
    return 1 if separation == "eroded" else 2


def building_probability(
    logits: Tensor, separation: Separation, border_exponent: float = 1.0
) -> Tensor:
    """The probability that a pixel is the core of a building.

    Args:
        logits: shape (N, channels, H, W).
        separation: what the channels mean.
        border_exponent: `border`: power of the probability that there is no border.

    Returns:
        float32 in 0 to 1, shape (N, H, W).
    """
    first, *others = building_factors(logits, separation, border_exponent)
    return first * others[0] if others else first


def building_factors(
    logits: Tensor, separation: Separation, border_exponent: float = 1.0
) -> tuple[Tensor, ...]:
    """The same as factors, each of which depends on one channel only.

    Args:
        logits: as `building_probability` takes them.
        separation: likewise.
        border_exponent: likewise.

    Returns:
        One or two, float32 in 0 to 1, shape (N, H, W).
    """
    first = torch.sigmoid(logits[:, 0].float())
    if separation == "eroded":
        return (first,)
    second = torch.sigmoid(logits[:, 1].float())
    if separation == "border":
        return first, (1.0 - second) ** border_exponent
    # 1/2 where the depth is that of a core: a soft step there.
    return first, torch.sigmoid(_DEPTH_SLOPE * (second - _CORE_DEPTH)).mul(2.0).clamp(max=1.0)
