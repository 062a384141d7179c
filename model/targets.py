"""What the network is asked for: eroded buildings, borders, distances, made from instance ids."""

import torch
from torch import Tensor
from torch.nn import functional

from model.separation import Separation


def erode_instances(ids: Tensor, radius_px: int) -> Tensor:
    """Every instance eroded by a square, alone; neighbours that touch come apart.

    A pixel stays where all pixels within the radius, diagonals included, have its id. Beyond the
    chip nothing is known, so that its border erodes nothing.

    Args:
        ids: integers, shape (N, H, W), 0 is ground.
        radius_px: in pixels; 0 gives the ids back.

    Returns:
        ids of the same shape and type, 0 where a pixel was taken away.
    """
    if radius_px == 0:
        return ids
    # float64 holds every int32 id; pooling knows no integers.
    values = ids.to(torch.float64)[:, None]
    size = 2 * radius_px + 1
    high = functional.max_pool2d(values, size, stride=1, padding=radius_px)
    low = -functional.max_pool2d(-values, size, stride=1, padding=radius_px)
    return torch.where((high == low)[:, 0], ids, torch.zeros_like(ids))


def make_targets(
    ids: Tensor, separation: Separation, *, erosion_px: int, border_px: int, distance_px: int
) -> Tensor:
    """Targets of every channel.

    Args:
        ids: integers, shape (N, H, W).
        separation: which channels there are, see `model.separation`.
        erosion_px: by how much instances are eroded in the first channel.
        border_px: `border`: half the width of the band between buildings.
        distance_px: `distance`: depth in a building at which the second channel reaches 1.

    Returns:
        float32 in 0 to 1, shape (N, channels, H, W).
    """
    building = (erode_instances(ids, erosion_px) > 0).to(torch.float32)
    if separation == "eroded":
        return building[:, None]
    if separation == "border":
        return torch.stack([building, contact_band(ids, border_px).to(torch.float32)], dim=1)
    return torch.stack([building, depth_in_buildings(ids, distance_px)], dim=1)


def contact_band(ids: Tensor, radius_px: int) -> Tensor:
    """Pixels from which two different buildings lie within a radius (a square), bool."""
    values = ids.to(torch.float64)[:, None]
    size = 2 * radius_px + 1
    highest = functional.max_pool2d(values, size, stride=1, padding=radius_px)
    # Ground becomes larger than any id, so that the least is that of a building.
    raised = torch.where(values > 0, values, torch.full_like(values, 2.0**40))
    lowest = -functional.max_pool2d(-raised, size, stride=1, padding=radius_px)
    return ((highest > 0) & (highest != lowest))[:, 0]


def depth_in_buildings(ids: Tensor, max_depth_px: int) -> Tensor:
    """How deep in its building a pixel lies, in squares around it, over `max_depth_px`: 0 to 1."""
    depth = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
    for radius in range(max_depth_px):
        depth += (erode_instances(ids, radius) > 0).to(torch.float32)
    return depth / max_depth_px
