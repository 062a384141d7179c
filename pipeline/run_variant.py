"""One run of an ablation: a training, or a student of the last round."""

import shutil
from pathlib import Path

from model.errors import TrainingError
from model.noisy_student import SelfTrainConfig, self_train
from model.train_config import TrainConfig
from model.training import train


def run_variant(config: TrainConfig | SelfTrainConfig, output: Path) -> None:
    """Train, and leave the scores of the last round in the folder itself.

    Args:
        config: with the folder as its output.
        output: the folder.
    """
    if isinstance(config, TrainConfig):
        train(config, resume=True)
        return
    self_train(config, resume=True)
    last = output / f"round{config.rounds}" / "scores.csv"
    if not last.exists():
        raise TrainingError(f"{last} was not written; the pack needs validation places")
    shutil.copyfile(last, output / "scores.csv")
