"""Weights that make the network care about edges, above all about gaps between buildings.

Two kinds, to be compared: U-Net's distance weights (Ronneberger et al. 2015), which need the two
nearest buildings of every pixel, and the Gaussian ones of "Continental-Scale Building Detection
from High Resolution Satellite Imagery" (Sirko et al. 2021), a blur of the instances' edges, whose
cost does not depend on how many buildings there are.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

_REACH_SIGMAS = 3.0


def gaussian_edge_weights(ids: Tensor, *, sigma_px: float, amplitude: float) -> Tensor:
    """Instance edges, blurred.

    An edge pixel is one of a building with another id, or none, beside it. Two edges that face each
    other across a gap add up, so that narrow gaps weigh most.

    Args:
        ids: instance ids after all augmentation, integers, shape (N, H, W), 0 is ground; on any
            device, where all of the work is done.
        sigma_px: of the Gaussian.
        amplitude: what the kernel, which adds up to 1, is multiplied by: a long straight edge
            weighs amplitude / (sigma_px * sqrt(2 pi)) on its pixels.

    Returns:
        float32, shape (N, H, W).
    """
    edges = instance_edges(ids).to(torch.float32)[:, None]
    radius = math.ceil(_REACH_SIGMAS * sigma_px)
    steps = torch.arange(-radius, radius + 1, device=ids.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    blurred = functional.conv2d(edges, kernel.view(1, 1, 1, -1), padding=(0, radius))
    blurred = functional.conv2d(blurred, kernel.view(1, 1, -1, 1), padding=(radius, 0))
    return amplitude * blurred[:, 0]


def instance_edges(ids: Tensor) -> Tensor:
    """Pixels of buildings with another id, or ground, above, below, left or right of them.

    The chip's border is no edge: what lies beyond is unknown.

    Args:
        ids: integers, shape (N, H, W).

    Returns:
        bool, shape (N, H, W).
    """
    edges = torch.zeros_like(ids, dtype=torch.bool)
    differs = ids[:, 1:] != ids[:, :-1]
    edges[:, 1:] |= differs
    edges[:, :-1] |= differs
    differs = ids[:, :, 1:] != ids[:, :, :-1]
    edges[:, :, 1:] |= differs
    edges[:, :, :-1] |= differs
    return edges & (ids > 0)


def unet_distance_weights(
    ids: npt.NDArray[np.integer], *, amplitude: float, sigma_px: float
) -> npt.NDArray[np.float32]:
    """U-Net's weights of the ground between buildings: w0 exp(-(d1 + d2)^2 / (2 sigma^2)).

    d1 and d2 are the distances to the nearest and the second nearest building. Costs one distance
    transform per building.

    Args:
        ids: instance ids of one chip, shape (H, W), 0 is ground.
        amplitude: w0.
        sigma_px: sigma.

    Returns:
        float32, shape (H, W); 0 on buildings, and everywhere with fewer than two of them.
    """
    from scipy.ndimage import distance_transform_edt

    nearest = np.full((2, *ids.shape), np.inf)
    for instance in np.unique(ids[ids > 0]):
        distance = distance_transform_edt(ids != instance)
        closer = distance < nearest[0]
        nearest[1] = np.where(closer, nearest[0], np.minimum(nearest[1], distance))
        nearest[0] = np.where(closer, distance, nearest[0])
    weights = amplitude * np.exp(-(nearest.sum(axis=0) ** 2) / (2.0 * sigma_px**2))
    return np.where(ids > 0, 0.0, weights).astype(np.float32)
