"""Dropout and stochastic depth for networks that were built without them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class RegularisationConfig:
    """Noise inside the network while it learns; none when it is used.

    Noisy Student asks for both in the student (Xie et al., CVPR 2020).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    dropout: float = 0.0
    """Share of the decoder's last channels that are dropped, whole."""
    stochastic_depth: float = 0.0
    """How often the encoder's last residual block is skipped; earlier ones less, in proportion to
    their depth (Huang et al., ECCV 2016)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("dropout", "stochastic_depth"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} = {getattr(self, name)}; expected 0 to below 1")


def add_regularisation(network: nn.Module, config: RegularisationConfig) -> int:
    """Give a network dropout and stochastic depth, by hooks: names and weights stay as they are.

    Args:
        network: with `segmentation_head` and `encoder`, as those of segmentation-models-pytorch.
        config: how much.

    Returns:
        How many residual blocks may be skipped; 0 for encoders that have none that are known.
    """
    if config.dropout > 0.0:
        head = network.get_submodule("segmentation_head")
        head.register_forward_pre_hook(_Dropout(config.dropout))
    if config.stochastic_depth == 0.0:
        return 0
    branches = _residual_branches(network.get_submodule("encoder"))
    for place, branch in enumerate(branches, start=1):
        share = config.stochastic_depth * place / len(branches)
        branch.register_forward_hook(_Skipping(share))
    return len(branches)


class _Dropout:
    """Drops whole channels of a layer's input while it learns."""

    def __init__(self, share: float) -> None:
        self._share = share

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (functional.dropout2d(inputs[0], self._share, layer.training), *inputs[1:])


class _Skipping:
    """Sets a residual branch to zero for some images of a batch while it learns."""

    def __init__(self, share: float) -> None:
        self._keep = 1.0 - share

    def __call__(self, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not layer.training:
            return output
        drawn = torch.rand((len(output), 1, 1, 1), device=output.device) < self._keep
        return output * (drawn / self._keep).to(output.dtype)


def _residual_branches(encoder: nn.Module) -> list[nn.Module]:
    """The layer of each residual block whose output is added to the block's input, in order."""
    branches = []
    for block in encoder.modules():
        if isinstance(drop := getattr(block, "drop_path", None), nn.Module):
            # timm's: an identity when built without. A block without a sum has it, too.
            if getattr(block, "has_skip", True):
                branches.append(drop)
        elif hasattr(block, "downsample") and hasattr(block, "conv2"):
            # torchvision's blocks of ResNet: the last normalisation before the sum.
            branches.append(getattr(block, "bn3", getattr(block, "bn2", None)) or block)
    return branches
