"""Training: a Lightning module, validation by instance AP50, checkpoints, and the bundle.

Every draw is a function of the seed, the step and the chip's index, and the checkpoint holds the
optimiser, the schedule and the averaged weights: a training that was killed goes on as if nothing
had happened. Nothing geospatial is imported, so that a machine with torch, Lightning and OpenCV
alone can train; with numba, too, validation cuts neighbours apart as the main job does.
"""

import dataclasses
import importlib.util
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from model.bundle import BundleMeta, save_bundle
from model.chip_batches import ChipBatches
from model.chip_pack import read_pack
from model.chips import ChipSampler
from model.devices import is_out_of_memory
from model.errors import TrainingError
from model.learner import SegmenterTraining
from model.places import Place
from model.train_config import TrainConfig
from model.training_state import (
    BEST_FILE,
    CHECKPOINT_FILE,
    note_batch_size,
    open_training,
)
from model.validation import PlaceValidation

logger = logging.getLogger(__name__)

# Keeps the draws of the pool's chips apart from those of the labelled ones.
_POOL_SEED = 0x706F6F6C


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training gave.

    Attributes:
        bundle: the bundle's path.
        best_step: step of its weights.
        best_ap50: mean instance AP50 there over the validation sources and pixel sizes; NaN where
            nothing is held out.
        num_steps: steps done.
    """

    bundle: Path
    best_step: int
    best_ap50: float
    num_steps: int


class _Averaging(Callback):
    """Lets the averaged weights follow, before anything else sees the step.

    A callback and not the module's own hook, which Lightning calls after the callbacks, and so
    after the checkpoint.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module.averaged.update_parameters(module.network)


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    pool: Sequence[Place] = (),
    provenance: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train a network on a chip pack.

    Args:
        config: the training.
        resume: go on from the last checkpoint in the output folder, if there is one.
        pool: unlabelled ground with a teacher's output (`model.noisy_student`); it is known where
            the student is to follow the teacher.
        provenance: further facts for the bundle.

    Returns:
        The bundle of the best weights and its score.

    Raises:
        ChipPackError: if the pack cannot be read.
        TrainingError: if it has nothing to train on, the initial weights do not fit, the folder
            holds another training, or memory does not hold a single chip.
    """
    begin = time.time()
    config = _without_missing_numba(config)
    folder = Path(config.output)
    places = read_pack(config.pack)
    batch_size = open_training(folder, config, provenance or {}, resume=resume)
    while True:
        run = _Run(config=config, folder=folder, places=places, pool=pool, batch_size=batch_size)
        scorer, num_steps, reason = _fit(run)
        if reason is None:
            break
        batch_size = _halved(batch_size, config, reason)
        note_batch_size(folder, config, provenance or {}, batch_size)
    facts = {
        **_facts(config, scorer, num_steps),
        "batch_size": batch_size,
        "seconds": round(time.time() - begin),
        **(provenance or {}),
    }
    return TrainResult(
        bundle=_export(config, folder, scorer.best_threshold, facts),
        best_step=scorer.best_step,
        best_ap50=scorer.best_ap50,
        num_steps=num_steps,
    )


def _without_missing_numba(config: TrainConfig) -> TrainConfig:
    """Score without cutting neighbours apart, where that cannot be done; the bundle says so."""
    if config.valley_depth == 0.0 or importlib.util.find_spec("numba") is not None:
        return config
    logger.warning(
        "numba is not installed: validation cannot cut neighbours apart, so valley_depth is 0 and "
        "the threshold is chosen without; `everyroof bundle change` sets both afterwards"
    )
    return dataclasses.replace(config, valley_depth=0.0)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A training as far as memory allows it."""

    config: TrainConfig
    folder: Path
    places: Sequence[Place]
    pool: Sequence[Place]
    batch_size: int


def _fit(run: _Run) -> tuple[PlaceValidation, int, str | None]:
    """Train from the last checkpoint on; the third value says why memory ran out, if it did."""
    config = run.config
    pl.seed_everything(config.seed, verbose=False)
    module = SegmenterTraining(config)
    last = run.folder / CHECKPOINT_FILE
    start = _step_of(last) if last.exists() else 0
    validation = [place for place in run.places if place.split == "validation"]
    scorer = PlaceValidation(config, validation, run.folder)
    trainer = _make_trainer(config, run.folder, scorer)
    batches = ChipBatches(
        ChipSampler(run.places, config.chips, seed=config.seed, strength=config.strength),
        batch_size=run.batch_size,
        num_steps=config.schedule.steps,
        start_step=start,
        rank=trainer.global_rank,
        num_ranks=trainer.world_size,
        pool=_pool_sampler(config, run.pool),
        # In proportion, where memory did not hold the whole batch.
        pool_batch_size=-(-config.pool.batch_size * run.batch_size // config.schedule.batch_size),
    )
    loader = batches.loader(num_workers=config.num_loaders)
    try:
        trainer.fit(module, loader, ckpt_path=str(last) if start else None, weights_only=False)
    except RuntimeError as error:
        if not is_out_of_memory(error) or isinstance(error, TrainingError):
            raise
        # As text, since a live traceback keeps the tensors alive.
        return scorer, trainer.global_step, str(error).splitlines()[0]
    return scorer, trainer.global_step, None


def _halved(batch_size: int, config: TrainConfig, reason: str) -> int:
    """Half a batch, with a warning.

    Raises:
        TrainingError: if there is no half, or other processes wait for this one's whole batch.
    """
    if batch_size == 1 or config.num_devices > 1:
        what = "one chip" if batch_size == 1 else f"{batch_size} chips a device"
        raise TrainingError(
            f"memory does not hold a batch of {what} of {config.chips.size_px} px; lower "
            f"schedule.batch_size or chips.size_px, or free memory ({reason})"
        )
    logger.warning("out of memory: batches of %d chips from now on (%s)", batch_size // 2, reason)
    torch.cuda.empty_cache()
    return batch_size // 2


def _step_of(checkpoint: Path) -> int:
    # Written by this training itself, in its own output folder.
    return int(torch.load(checkpoint, map_location="cpu", weights_only=False)["global_step"])


def _make_trainer(config: TrainConfig, folder: Path, scorer: PlaceValidation) -> pl.Trainer:
    schedule = config.schedule
    callbacks: list[Callback] = [
        _Averaging(),
        scorer,
        ModelCheckpoint(
            dirpath=folder,
            filename="last",
            every_n_train_steps=schedule.checkpoint_every or schedule.validate_every,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        ),
    ]
    if schedule.max_minutes is not None:
        callbacks.append(Timer(timedelta(minutes=schedule.max_minutes), verbose=False))
    return pl.Trainer(
        accelerator="auto",
        devices=config.num_devices,
        # Encoders cut to fewer stages keep parameters that nothing uses.
        strategy="ddp_find_unused_parameters_true" if config.num_devices > 1 else "auto",
        precision=config.precision,
        max_steps=schedule.steps,
        max_epochs=-1,
        gradient_clip_val=schedule.clip_norm,
        callbacks=callbacks,
        logger=[CSVLogger(folder, name="csv"), TensorBoardLogger(folder, name="tensorboard")],
        log_every_n_steps=10,
        use_distributed_sampler=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def _pool_sampler(config: TrainConfig, pool: Sequence[Place]) -> ChipSampler | None:
    """Chips of the pool at full strength, from draws of their own."""
    if not pool:
        return None
    return ChipSampler(pool, config.chips, seed=config.seed + _POOL_SEED, strength="strong")


def _facts(config: TrainConfig, scorer: PlaceValidation, num_steps: int) -> dict[str, Any]:
    """Where the weights come from, for the bundle."""
    return {
        "pack": Path(config.pack).name,
        "init": Path(config.init).name if config.init else "",
        "encoder_weights": Path(config.encoder_weights).name,
        "steps": num_steps,
        "best_step": scorer.best_step,
        # JSON knows no NaN, which is the score where nothing is held out.
        "validation_ap50": None if math.isnan(scorer.best_ap50) else round(scorer.best_ap50, 4),
        "validation_gsd_m": list(config.validation_gsd_m),
        "seed": config.seed,
    }


def _export(config: TrainConfig, folder: Path, threshold: float, facts: Mapping[str, Any]) -> Path:
    """The best averaged weights as a bundle; of several processes the first one writes it."""
    meta = BundleMeta(
        name=config.name,
        network=config.network,
        bands=("red", "green", "blue"),
        mean=config.mean,
        std=config.std,
        gsd_m=config.gsd_m,
        threshold=threshold,
        valley_depth=config.valley_depth,
        confidence=config.confidence,
        erosion_px=config.targets.erosion_px,
        provenance=dict(facts),
    )
    path = folder / f"{config.name}.safetensors"
    rank_zero_only(save_bundle)(path, meta, torch.load(folder / BEST_FILE, weights_only=True))
    return path
