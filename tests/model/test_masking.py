"""Masked layers against the same network on the cropped image."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from geo.missing_ground import find_missing_runs
from model.masking import LayerMasking, zero_missing
from model.unet import NetworkConfig, build_network


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(encoder="resnet18")).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.2)
            module.bias.data.normal_(0.0, 0.2)
    return network


def _image_in_a_frame() -> tuple[torch.Tensor, torch.Tensor]:
    """A 64 x 96 px image amid 160 x 192 px of nothing; the image's place, as a mask."""
    image = torch.zeros(1, 3, 160, 192)
    image[:, :, 32:96, 64:160] = torch.randn(
        1, 3, 64, 96, generator=torch.Generator().manual_seed(1)
    )
    mask = torch.zeros(1, 1, 160, 192, dtype=torch.bool)
    mask[:, :, 32:96, 64:160] = True
    return image, mask


@torch.inference_mode()
def test_missing_ground_is_as_the_edge_of_the_image(unet: nn.Module) -> None:
    image, mask = _image_in_a_frame()
    cropped = unet(image[:, :, 32:96, 64:160])
    framed = copy.deepcopy(unet)
    masking = LayerMasking(framed)
    with masking.using(mask):
        masked = framed(image)[:, :, 32:96, 64:160]
    torch.testing.assert_close(masked, cropped)
    # And the frame matters without the mask, or this would show nothing.
    assert (framed(image)[:, :, 32:96, 64:160] - cropped).abs().max() > 0.01


@torch.inference_mode()
def test_a_full_mask_changes_no_bit(unet: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 96).to(memory_format=torch.channels_last)
    plain = unet(image)
    masked_network = copy.deepcopy(unet)
    masking = LayerMasking(masked_network)
    with masking.using(torch.ones(1, 1, 64, 96, dtype=torch.bool)):
        assert torch.equal(masked_network(image), plain)
    with masking.using(None):
        assert torch.equal(masked_network(image), plain)


@torch.inference_mode()
def test_what_lies_under_the_mask_is_not_seen(unet: nn.Module) -> None:
    image, mask = _image_in_a_frame()
    network = copy.deepcopy(unet)
    masking = LayerMasking(network)
    with masking.using(mask):
        zeros = network(image)[:, :, 32:96, 64:160]
        noise = network(torch.where(mask, image, torch.rand_like(image)))[:, :, 32:96, 64:160]
    assert torch.equal(zeros, noise)


@pytest.mark.parametrize("seed", range(4))
@torch.inference_mode()
def test_zeroing_in_place_gives_the_bits_of_a_product_with_the_mask(
    unet: nn.Module, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images a batch, with slanted edges, holes and specks of missing ground."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 160, 192, generator=generator)
    rows, cols = torch.meshgrid(torch.arange(160), torch.arange(192), indexing="ij")
    mask = (torch.rand(2, 1, 160, 192, generator=generator) > 0.001) & (rows + cols // 9 < 120)
    mask[1, :, 40:110, 50:130] = False
    images.masked_fill_(~mask, 0.0)
    network = copy.deepcopy(unet)
    masking = LayerMasking(network)
    with masking.using(mask):
        in_place = network(images.clone())
    monkeypatch.setattr("model.masking._is_eager_on_cpu", lambda image: False)
    with masking.using(mask):
        product = network(images.clone())
    assert torch.equal(in_place, product)


@given(
    mask=hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))),
    channels=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    memory_format=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_zeroing_is_multiplying_by_the_mask(
    mask: np.ndarray, channels: int, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    keep = torch.from_numpy(mask)[:, None]
    shape = (len(mask), channels, *mask.shape[1:])
    images = torch.arange(1.0, 1.0 + np.prod(shape)).reshape(shape).to(dtype)
    images = images.to(memory_format=memory_format)
    expected = images * keep
    assert zero_missing(images, [find_missing_runs(part) for part in mask])
    assert torch.equal(images, expected)


def test_images_with_gaps_in_memory_are_left_to_others() -> None:
    images = torch.ones(1, 2, 4, 8)[..., ::2]
    assert not zero_missing(images, [find_missing_runs(np.zeros((4, 4), bool))])
    assert images.all()


@torch.inference_mode()
def test_a_layer_whose_input_has_gaps_in_memory_is_masked_too() -> None:
    layer = nn.Conv2d(2, 1, 3, padding=1)
    image = torch.randn(1, 2, 6, 12)[..., ::2]
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    mask[..., 2:, 4:] = False
    expected = layer(image * mask)
    with LayerMasking(layer).using(mask):
        assert torch.equal(layer(image), expected)
