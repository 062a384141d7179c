"""Bundles of random weights whose probabilities go up and down, for tests of everything after."""

from pathlib import Path
from typing import Any

import synthetic
import torch
from torch import nn

from model.bundle import BundleMeta, save_bundle
from model.unet import NetworkConfig, build_network


def save_random_unet(
    path: Path,
    config: NetworkConfig,
    *,
    seed: int,
    spread: float = 2.0,
    sample_px: int = 128,
    has_random_norms: bool = True,
    **meta: Any,
) -> Path:
    """Save a U-Net whose logits on a drawn town have mean 0 and a given deviation.

    Args:
        path: the file.
        config: the network.
        seed: of the weights.
        spread: standard deviation of the logits.
        sample_px: side of the town that they are measured on.
        has_random_norms: batch normalisation has statistics other than 0 and 1.
        meta: of the bundle, beyond name, network, bands and pixel size.
    """
    torch.manual_seed(seed)
    network = build_network(config).eval()
    for module in network.modules():
        if has_random_norms and isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.3, 0.8)
            module.running_mean.normal_(0.0, 0.1)
    town = synthetic.draw_town(sample_px, sample_px).pixels.copy()
    head = network.segmentation_head[0]
    with torch.no_grad():
        logits = network(((torch.from_numpy(town).float() / 255 - 0.45) / 0.25)[None])
        head.weight.mul_(spread / logits.std())
        head.bias.copy_(-spread * logits.mean() / logits.std())
    bands = ("red", "green", "blue")
    about = BundleMeta(name="random", network=config, bands=bands, gsd_m=0.3, **meta)
    save_bundle(path, about, network.state_dict())
    return path
