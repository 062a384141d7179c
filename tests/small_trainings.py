"""Trainings of a second or two, for tests."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from model.chips import ChipConfig
from model.mixup import MixupConfig
from model.train_config import ScheduleConfig, TrainConfig
from model.unet import NetworkConfig

NETWORK = NetworkConfig(encoder="resnet18", encoder_depth=3, decoder_channels=(32, 16, 8))
LIGHTNING_WARNINGS = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]


def small(pack: Path, output: Path, **schedule: object) -> TrainConfig:
    values = {"steps": 6, "batch_size": 2, "validate_every": 2, **schedule}
    return TrainConfig(
        pack=str(pack),
        output=str(output),
        network=NETWORK,
        chips=ChipConfig(size_px=64, gsd_m=(0.25, 0.4)),
        mixup=MixupConfig(alpha=0.4),
        schedule=ScheduleConfig(**values),  # type: ignore[arg-type]
        validation_gsd_m=(0.3,),
        precision="32-true",
        num_loaders=0,
    )


def weights_of(bundle: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(bundle)


def same(first: Path, second: Path) -> bool:
    one, two = weights_of(first), weights_of(second)
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
