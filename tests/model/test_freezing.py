"""Frozen stages and regularisation on the encoders that are used."""

import pytest
import torch
from torch import nn

from model.errors import TrainingError
from model.freezing import freeze_stages
from model.regularisation import RegularisationConfig, add_regularisation
from model.unet import NetworkConfig, build_network

ENCODERS = ("resnet18", "tu-tf_efficientnet_lite0")


def frozen_names(network: nn.Module) -> set[str]:
    return {name for name, part in network.named_parameters() if not part.requires_grad}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_stages_are_frozen_from_the_image_on(encoder: str) -> None:
    config = NetworkConfig(encoder=encoder)
    sizes = []
    for stages in range(6):
        network = build_network(config)
        freeze_stages(network, stages)
        names = frozen_names(network)
        assert all(name.startswith("encoder.") for name in names)
        sizes.append(len(names))
    every = sum(name.startswith("encoder.") for name, _ in network.named_parameters())
    assert sizes[0] == 0
    assert sizes == sorted(set(sizes))
    assert sizes[5] == every


def test_the_frozen_part_of_a_resnet() -> None:
    network = build_network(NetworkConfig(encoder="resnet18"))
    layers = freeze_stages(network, 2)
    stages = {name.split(".")[1] for name in frozen_names(network)}
    assert stages == {"conv1", "bn1", "layer1"}
    assert not any(layer.training for layer in layers)
    with pytest.raises(TrainingError, match="expected 0 to 5"):
        freeze_stages(network, 6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_noise_is_for_learning_only(encoder: str) -> None:
    network = build_network(NetworkConfig(encoder=encoder))
    names = list(network.state_dict())
    image = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        quiet = network.eval()(image)
        config = RegularisationConfig(dropout=0.5, stochastic_depth=0.5)
        num_blocks = add_regularisation(network, config)
        assert num_blocks == {"resnet18": 8}.get(encoder, num_blocks) > 4
        assert list(network.state_dict()) == names
        assert torch.equal(network.eval()(image), quiet)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.0
        network.train()
        torch.manual_seed(1)
        first = network(image)
        torch.manual_seed(1)
        again = network(image)
        other = network(image)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_skipped_branch_keeps_its_mean() -> None:
    block = nn.Identity()
    block.drop_path = nn.Identity()
    network = nn.Module()
    network.encoder = block
    assert add_regularisation(network, RegularisationConfig(stochastic_depth=0.25)) == 1
    torch.manual_seed(0)
    drawn = block.drop_path(torch.ones(20_000, 1, 1, 1)).flatten()
    assert sorted(set(drawn.tolist())) == pytest.approx([0.0, 4 / 3])
    assert drawn.mean() == pytest.approx(1.0, abs=0.02)
