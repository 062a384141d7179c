"""Depthwise convolutions in float32: the same network, closer to the truth than in bfloat16."""

import copy

import pytest
import torch
from torch import Tensor, nn

from model.depthwise import run_depthwise_in_float32
from model.unet import NetworkConfig, build_network


def depthwise(stride: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(6, 6, 3, stride=stride, padding=1, groups=6)


def gradients(layer: nn.Conv2d, image: Tensor, *, autocast: bool) -> tuple[Tensor, ...]:
    """Output, and gradients of the image and of the weights."""
    image = image.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = layer(image)
    output.float().square().sum().backward()
    assert image.grad is not None
    assert layer.weight.grad is not None
    return output.detach(), image.grad, layer.weight.grad


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_gradients_are_those_of_float32(stride: int, dtype: torch.dtype) -> None:
    layer = depthwise(stride)
    image = torch.randn(2, 6, 17, 17).bfloat16().to(dtype)
    exact = gradients(layer, image.float(), autocast=False)
    assert run_depthwise_in_float32(layer) == 1
    output, *own = gradients(layer, image, autocast=True)
    assert output.dtype == torch.bfloat16, "the next layer gets what autocast would give it"
    for ours, true in zip((output, *own), exact, strict=True):
        # One rounding to 8 bits of the output and of its gradient; sums of them for the weights.
        assert (ours.float() - true).norm() < 0.005 * true.norm()


def test_only_depthwise_layers_change() -> None:
    network = build_network(NetworkConfig(encoder="tu-tf_efficientnet_lite0"))
    names = list(network.state_dict())
    expected = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert run_depthwise_in_float32(network) == len(expected) == 16
    assert list(network.state_dict()) == names
    assert run_depthwise_in_float32(build_network(NetworkConfig(encoder="resnet18"))) == 0


def test_a_copy_has_weights_of_its_own() -> None:
    layer = depthwise()
    run_depthwise_in_float32(layer)
    image = torch.randn(1, 6, 5, 5)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.zero_()
        assert twin.bias is not None
        twin.bias.zero_()
        assert not twin(image).any()
        assert layer(image).any()
