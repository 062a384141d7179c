"""The network as modules for the peers on torch; GeoDeep needs no torch and loads none."""

import torch
from torch import Tensor, nn


class Probability(nn.Module):
    """The network for pixels of 0 to 1.

    Args:
        path: the TorchScript file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.network = torch.jit.load(path, map_location="cpu").eval()

    def forward(self, images: Tensor) -> Tensor:
        """Probability of building (N, 1, H, W) of images (N, 3, H, W)."""
        return self.network(images * 255.0)


class TwoClasses(Probability):
    """The network as one of two classes, background and building, for pixels of 0 to 1.

    Args:
        path: the TorchScript file.
        threshold: probability at which both classes are to be equal.
    """

    def __init__(self, path: str, threshold: float) -> None:
        super().__init__(path)
        self.shift = float(torch.logit(torch.tensor(threshold)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 2, H, W), for a softmax."""
        logit = torch.logit(super().forward(images), eps=1e-6) - self.shift
        return torch.cat([torch.zeros_like(logit), logit], dim=1)
