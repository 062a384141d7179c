"""A network small enough to write its weights by hand: nearness to given roof colours.

It needs no training, so that tests and demos run a real bundle: a 1 x 1 convolution measures the
distance of a pixel to every roof colour, a k x k mean convolution smooths the outcome. Every number
it uses is a tensor of the bundle.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MAX_LOGIT = 6.0


class ColourNet(nn.Module):
    """Logits that are positive near one of the roof colours.

    The logit of a pixel is `a - b * d`, where d is the sum over bands of |value - roof colour|; the
    largest over all colours counts, is clamped to +-6 and averaged over k x k pixels. Outside the
    window the average sees zeros, which the window's margin keeps away from the core.

    Args:
        in_channels: number of bands.
        num_colours: number of roof colours.
        kernel_px: side of the mean, odd; 1 leaves every pixel alone.
    """

    def __init__(self, in_channels: int, num_colours: int, kernel_px: int) -> None:
        super().__init__()
        self.difference = nn.Conv2d(in_channels, 2 * in_channels * num_colours, 1)
        self.score = nn.Conv2d(2 * in_channels * num_colours, num_colours, 1, groups=num_colours)
        self.mean = nn.Conv2d(1, 1, kernel_px, padding=kernel_px // 2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 1, H, W) of normalised images (N, bands, H, W)."""
        distances = torch.relu(self.difference(images))
        logits = self.score(distances).amax(dim=1, keepdim=True)
        return self.mean(logits.clamp(-MAX_LOGIT, MAX_LOGIT))


def colour_weights(
    roof_colours: Sequence[Sequence[int]],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    tolerance: float,
    kernel_px: int,
) -> dict[str, Tensor]:
    """State dict of a `ColourNet` that knows the given colours.

    Args:
        roof_colours: one colour per roof kind, levels 0 to 255 for every band.
        mean: of the bundle's normalisation, per band, on 0 to 1.
        std: likewise.
        tolerance: summed difference over bands, in levels, at which the logit is 0; at 0 it is 6,
            at twice the tolerance -6.
        kernel_px: side of the mean.

    Returns:
        float32 tensors. The differences are measured in units of the tolerance.
    """
    num_colours, bands = len(roof_colours), len(mean)
    scale = 255.0 * torch.tensor(std, dtype=torch.float64) / tolerance
    roofs = torch.tensor(roof_colours, dtype=torch.float64) / 255.0
    centres = (roofs - torch.tensor(mean)) / torch.tensor(std, dtype=torch.float64) * scale
    plus = torch.diag(scale).expand(num_colours, bands, bands)
    difference = torch.stack([plus, -plus], dim=1).reshape(-1, bands, 1, 1)
    weights = {
        "difference.weight": difference,
        "difference.bias": torch.stack([-centres, centres], dim=1).reshape(-1),
        "score.weight": torch.full((num_colours, 2 * bands, 1, 1), -MAX_LOGIT),
        "score.bias": torch.full((num_colours,), MAX_LOGIT),
        "mean.weight": torch.full((1, 1, kernel_px, kernel_px), 1.0 / kernel_px**2),
    }
    return {name: tensor.float().contiguous() for name, tensor in weights.items()}
