"""mixup for segmentation: image, targets and weights of two chips, with one share for all three.

Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; per batch one share.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MixupConfig:
    """How chips are mixed."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    alpha: float = 0.05
    """Shares come from Beta(alpha, alpha); 0 mixes nothing. PAPER.md: M, about 0.05."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0.0 <= self.alpha <= 10.0:
            raise ValueError(f"alpha = {self.alpha}; expected 0 (no mixup) to 10")


@dataclass(frozen=True)
class Mixing:
    """One batch's draw.

    Attributes:
        share: of the chip itself, 0 to 1.
        partner: position of the chip that each is mixed with, int64, shape (N,).
    """

    share: float
    partner: Tensor


def draw_mixing(config: MixupConfig, *, seed: int, step: int, batch_size: int) -> Mixing | None:
    """The mixing of a step, a function of seed and step; None without mixup."""
    if config.alpha == 0.0:
        return None
    # The last number keeps these draws apart from those of the chips.
    rng = np.random.default_rng([seed, step, 0x6D6978])
    share = float(rng.beta(config.alpha, config.alpha))
    return Mixing(share, torch.from_numpy(rng.permutation(batch_size)))


def mix(values: Tensor, mixing: Mixing) -> Tensor:
    """Share * values + (1 - share) * values of the partners; shape (N, ...)."""
    partner = values[mixing.partner.to(values.device)]
    return torch.lerp(partner, values, mixing.share)
