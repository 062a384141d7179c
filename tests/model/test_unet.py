import pytest
import torch
from torch import nn

from model.errors import NetworkError
from model.folding import fold_batch_norms
from model.pixel_net import colour_weights
from model.unet import Architecture, NetworkConfig, build_network, register_architecture

SMALL_UNET = NetworkConfig(encoder="resnet18", decoder_channels=(32, 16, 16, 8, 8))


def _randomise_norms(network: nn.Module) -> nn.Module:
    """Statistics and weights that do something; those of a new network are 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return network.eval()


@pytest.mark.parametrize(
    ("config", "bands"),
    [
        (SMALL_UNET, 3),
        (NetworkConfig(encoder="resnet18", in_channels=4, decoder_attention="scse"), 4),
        (NetworkConfig(encoder="resnet18", encoder_depth=3, decoder_channels=(64, 32, 16)), 3),
        (NetworkConfig(encoder="mobilenet_v2", decoder_interpolation="bilinear"), 3),
    ],
)
def test_unets_map_images_to_logits_of_the_same_size(config: NetworkConfig, bands: int) -> None:
    side = 2 * config.stride_px
    assert config.stride_px == 2**config.encoder_depth
    with torch.inference_mode():
        logits = build_network(config).eval()(torch.randn(2, bands, side, side))
    assert logits.shape == (2, 1, side, side)
    assert logits.min() < 0.0 or logits.max() > 1.0  # no activation at the end


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vit"}, "architecture = 'vit' is unknown; this version knows colour"),
        ({"in_channels": 0}, "in_channels = 0"),
        ({"encoder_depth": 2}, "encoder_depth = 2"),
        ({"encoder_depth": 4}, "expected 4 positive numbers"),
        ({"decoder_channels": (256, 128, 64, 32, 0)}, "decoder_channels"),
        ({"kernel_px": 4}, "kernel_px = 4; expected an odd"),
        ({"num_colours": 0}, "num_colours = 0"),
    ],
)
def test_configs_out_of_range(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**changes)  # type: ignore[arg-type]


def test_an_unknown_encoder_is_named() -> None:
    with pytest.raises(NetworkError, match="encoder 'resnet19'"):
        build_network(NetworkConfig(encoder="resnet19"))


def test_registered_architectures_are_built() -> None:
    register_architecture(
        "one-conv",
        Architecture(lambda config: nn.Conv2d(config.in_channels, 1, 1), lambda config: 4),
    )
    config = NetworkConfig(architecture="one-conv", in_channels=2)
    assert isinstance(build_network(config), nn.Conv2d)
    assert config.stride_px == 4


def test_folding_keeps_the_function_and_the_original() -> None:
    torch.manual_seed(0)
    network = _randomise_norms(build_network(SMALL_UNET))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded, num_folded = fold_batch_norms(network)
    assert num_folded == 30
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-4, atol=1e-4)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


class _Shared(nn.Module):
    """A convolution whose result is used twice, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
        self.norm, self.other = nn.BatchNorm2d(1), nn.BatchNorm2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        once = self.first(images)
        return once + self.norm(once) + self.other(self.second(images)) + self.second(images)


class _Branching(nn.Module):
    """Control flow that depends on values, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images) if images.sum() > 0 else images


@pytest.mark.parametrize("network", [_Shared(), _Branching(), nn.Sequential(nn.BatchNorm2d(1))])
def test_what_cannot_be_folded_stays(network: nn.Module) -> None:
    network = _randomise_norms(network)
    images = torch.rand(1, 1, 8, 8)
    folded, num_folded = fold_batch_norms(network)
    assert num_folded == 0
    assert torch.equal(folded(images), network(images))


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_the_colour_network_measures_distance(bands: int) -> None:
    colours = [[10 * band + 40 for band in range(bands)], [200] * bands]
    config = NetworkConfig(architecture="colour", in_channels=bands, num_colours=2)
    network = build_network(config)
    mean, std = [0.3] * bands, [0.2] * bands
    network.load_state_dict(
        colour_weights(colours, mean=mean, std=std, tolerance=30.0, kernel_px=1)
    )
    levels = torch.randint(0, 256, (1, bands, 16, 16)).float()
    levels[0, :, 0, 0] = torch.tensor(colours[0])
    levels[0, :, 0, 1] = torch.tensor(colours[1])
    with torch.inference_mode():
        logits = network((levels / 255 - 0.3) / 0.2)[0, 0]
    roofs = torch.tensor(colours).float().view(2, bands, 1, 1)
    distance = (levels - roofs).abs().sum(dim=1).amin(dim=0)
    torch.testing.assert_close(logits, (6 - distance / 5).clamp(-6, 6), rtol=0, atol=1e-3)


def test_the_colour_network_averages() -> None:
    network = build_network(NetworkConfig(architecture="colour", kernel_px=3))
    network.load_state_dict(
        colour_weights([[255] * 3], mean=[0.5] * 3, std=[0.25] * 3, tolerance=48.0, kernel_px=3)
    )
    images = torch.full((1, 3, 5, 5), -2.0)
    images[0, :, 2, 2] = 2.0
    with torch.inference_mode():
        logits = network(images)[0, 0]
    torch.testing.assert_close(logits[1:4, 1:4], torch.full((3, 3), (6.0 - 8 * 6) / 9))
