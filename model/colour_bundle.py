"""A real bundle without training: it recognises roofs by their colour (see `model.pixel_net`)."""

import os
from collections.abc import Sequence
from pathlib import Path

from model.bundle import BundleMeta, save_bundle
from model.pixel_net import colour_weights
from model.unet import NetworkConfig

BRICK_RED = (200, 60, 50)


def save_colour_bundle(
    path: str | os.PathLike[str],
    *,
    roof_colours: Sequence[Sequence[int]] = (BRICK_RED,),
    bands: Sequence[str] = ("red", "green", "blue"),
    gsd_m: float = 0.3,
    tolerance: float = 36.0,
    kernel_px: int = 1,
    window_px: int = 256,
    margin_px: int = 16,
    erosion_px: int = 0,
    threshold: float = 0.5,
    name: str = "colour",
) -> Path:
    """Write a bundle that takes pixels near the given colours for roofs.

    With a kernel of 1 roofs drawn in exactly these colours are segmented to the pixel (probability
    254 of 255 on the colour, 1 at twice the tolerance and beyond); a kernel of 3 rounds their
    corners.

    Args:
        path: where to.
        roof_colours: levels 0 to 255, one for each band.
        bands: names of the bands.
        gsd_m: pixel size, in metres.
        tolerance: difference summed over the bands, in levels, at which the probability is 0.5.
        kernel_px: side of the mean over logits, odd.
        window_px: recommended side of a core.
        margin_px: margin; at least half the kernel.
        erosion_px: by how much detections are to be grown back.
        threshold: probability from which a pixel is building.
        name: the model's name.

    Returns:
        The path.

    Raises:
        ValueError: if a colour does not fit the bands or the margin not the kernel.
    """
    if any(len(colour) != len(bands) for colour in roof_colours) or not roof_colours:
        raise ValueError(f"roof_colours = {roof_colours}; expected {len(bands)} levels in each")
    if margin_px < kernel_px // 2:
        raise ValueError(f"margin_px = {margin_px}; a kernel of {kernel_px} needs more")
    mean, std = (0.5,) * len(bands), (0.25,) * len(bands)
    meta = BundleMeta(
        name=name,
        network=NetworkConfig(
            architecture="colour",
            in_channels=len(bands),
            num_colours=len(roof_colours),
            kernel_px=kernel_px,
        ),
        bands=tuple(bands),
        mean=mean,
        std=std,
        gsd_m=gsd_m,
        threshold=threshold,
        window_px=window_px,
        margin_px=margin_px,
        erosion_px=erosion_px,
        provenance={"source": "made by hand: nearness to fixed colours", "licence": "Apache-2.0"},
    )
    weights = colour_weights(
        roof_colours, mean=mean, std=std, tolerance=tolerance, kernel_px=kernel_px
    )
    save_bundle(path, meta, weights)
    return Path(path)
