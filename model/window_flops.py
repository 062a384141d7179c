"""How much arithmetic one window costs, counted on a network without weights or pixels."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.unet import NetworkConfig, build_network


def window_flops(config: NetworkConfig, side_px: int) -> int:
    """Floating point operations of one forward pass; a multiplication and an addition are two.

    Args:
        config: the network.
        side_px: pixels per side of its input, margin included.
    """
    with torch.device("meta"):
        network = build_network(config).eval()
        pixels = torch.empty(1, config.in_channels, side_px, side_px)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(pixels)
    return int(counter.get_total_flops())
