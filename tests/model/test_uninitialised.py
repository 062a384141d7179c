"""Networks built for weights from a file are those that random weights would have been put into."""

from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from model.bundle import check_weights
from model.unet import NetworkConfig, build_network
from model.uninitialised import Uninitialised

CONFIGS = [
    NetworkConfig(encoder="resnet18", decoder_channels=(32, 16, 16, 8, 8)),
    NetworkConfig(encoder="resnet18", decoder_attention="scse"),
    NetworkConfig(encoder="mobilenet_v2"),
    NetworkConfig(encoder="tu-tf_efficientnet_lite0"),
    NetworkConfig(encoder="mit_b0"),
]


def _name(config: NetworkConfig) -> str:
    return f"{config.encoder} {config.decoder_attention}"


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
def test_weights_from_a_file_make_the_same_network(config: NetworkConfig) -> None:
    torch.manual_seed(0)
    wanted = build_network(config).eval()
    weights = {name: tensor.clone() for name, tensor in wanted.state_dict().items()}
    # Memory that was used before: what is not filled shows.
    with mock.patch.object(torch, "empty", _full_of_nan), Uninitialised():
        found = build_network(config)
    found.load_state_dict(weights, strict=True)
    tensors = dict([*found.eval().named_parameters(), *found.named_buffers()])
    for name, tensor in [*wanted.named_parameters(), *wanted.named_buffers()]:
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=0)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(found(images), wanted(images))


_EMPTY = torch.empty


def _full_of_nan(*shape: object, **options: object) -> Tensor:
    tensor = _EMPTY(*shape, **options)  # type: ignore[call-overload]
    return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
def test_weights_of_every_encoder_can_be_checked(config: NetworkConfig) -> None:
    check_weights(config, build_network(config).state_dict())


def test_nothing_is_drawn_and_everything_else_works() -> None:
    state = torch.get_rng_state()
    with Uninitialised():
        layer = nn.Linear(3, 2)
        nn.init.normal_(tensor=layer.weight)
        nn.init.trunc_normal_(layer.weight)
        layer.weight.data.uniform_()
        ones = torch.ones(3) + 1
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(ones, torch.full((3,), 2.0))
    # And outside it torch fills again.
    assert nn.init.ones_(layer.weight).min() == 1.0
