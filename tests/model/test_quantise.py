"""Bytes by table against the arithmetic on all logits."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model.quantise import Quantiser
from model.separation import num_channels
from model.unet import NetworkConfig

SCHEMES = [("eroded", 1.0), ("border", 1.0), ("border", 0.5), ("border", 0.37), ("distance", 1.0)]


def _arithmetic(config: NetworkConfig, logits: Tensor) -> Tensor:
    return torch.round(config.probability(logits).mul_(255.0)).to(torch.uint8)


@pytest.mark.parametrize(("separation", "exponent"), SCHEMES)
def test_every_number_of_bf16_gives_the_byte_of_the_arithmetic(
    separation: str, exponent: float
) -> None:
    config = NetworkConfig(separation=separation, border_exponent=exponent)
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    # In each channel every number once, paired with numbers that a network gives.
    usual = (torch.arange(1 << 16) % 4001 - 2000).div(150).to(torch.bfloat16)
    one = torch.stack([every, usual])
    other = torch.stack([usual, every])
    logits = torch.stack([one, other]).view(2, 2, 256, 256)[:, : num_channels(separation)]
    logits = logits.contiguous(memory_format=torch.channels_last)
    is_number = ~torch.isnan(logits.float()).any(dim=1)
    assert is_number.float().mean() > 0.99
    found = Quantiser(config).quantise(logits)
    assert found.dtype == torch.uint8
    assert torch.equal(found[is_number], _arithmetic(config, logits)[is_number])
    assert not found[~is_number].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("separation", "exponent"), SCHEMES)
def test_a_part_of_a_batch_of_logits(separation: str, exponent: float, dtype: torch.dtype) -> None:
    config = NetworkConfig(separation=separation, border_exponent=exponent)
    generator = torch.Generator().manual_seed(1)
    logits = 4.0 * torch.randn(3, num_channels(separation), 40, 50, generator=generator)
    logits = logits.to(dtype, memory_format=torch.channels_last)[:, :, 3:33, 7:50]
    quantiser = Quantiser(config)
    for _ in range(2):
        found = quantiser.quantise(logits)
        assert torch.equal(found, _arithmetic(config, logits))
    assert len(np.unique(found.numpy())) > 100
