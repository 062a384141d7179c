"""Learning-rate finder: losses while the rate rises, and the rate at which they fall fastest.

Source: Smith, "Cyclical learning rates for training neural networks", WACV 2017; Lightning's tuner
does it.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.tuner.tuning import Tuner

from model.chip_batches import ChipBatches
from model.chip_pack import read_pack
from model.chips import ChipSampler
from model.errors import TrainingError
from model.learner import SegmenterTraining
from model.train_config import TrainConfig

LOWEST, HIGHEST = 1e-6, 0.1


@dataclass(frozen=True, kw_only=True)
class TriedRates:
    """What a finder saw.

    Attributes:
        suggestion: rate at which the loss fell fastest.
        num_rates: rates tried.
        last: highest one, where the loss had grown too large or the range ended.
        csv: rate and smoothed loss of each.
    """

    suggestion: float
    num_rates: int
    last: float
    csv: Path


def try_learning_rates(config: TrainConfig, *, num_steps: int = 100) -> TriedRates:
    """Train for some steps with a rate that rises by an equal factor each.

    Args:
        config: the training; its output folder gets learning_rates.csv and nothing else.
        num_steps: batches.

    Raises:
        ChipPackError: if the pack cannot be read.
        TrainingError: if no rate makes the loss fall.
    """
    pl.seed_everything(config.seed, verbose=False)
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    sampler = ChipSampler(read_pack(config.pack), config.chips, seed=config.seed)
    batch_size = config.schedule.batch_size
    batches = ChipBatches(sampler, batch_size=batch_size, num_steps=num_steps)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=config.precision,
        max_steps=num_steps,
        gradient_clip_val=config.schedule.clip_norm,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    finder = Tuner(trainer).lr_find(
        SegmenterTraining(config),
        train_dataloaders=batches.loader(num_workers=config.num_loaders),
        min_lr=LOWEST,
        max_lr=HIGHEST,
        num_training=num_steps,
        update_attr=False,
    )
    suggestion = None if finder is None else finder.suggestion()
    if finder is None or suggestion is None:
        raise TrainingError(
            f"the loss falls at none of {num_steps} rates; are the labels right (`everyroof pack` "
            "draws them)?"
        )
    rates, losses = finder.results["lr"], finder.results["loss"]
    path = folder / "learning_rates.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["learning_rate", "loss"])
        writer.writerows(zip(rates, losses, strict=False))
    return TriedRates(suggestion=suggestion, num_rates=len(rates), last=rates[-1], csv=path)
