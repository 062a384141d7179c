"""Training: a Lightning module, validation by instance AP50, checkpoints, and the bundle.

Every draw is a function of the seed, the step and the chip's index, and the checkpoint holds the
optimiser, the schedule and the averaged weights: a training that was killed goes on as if nothing
had happened. Nothing geospatial is imported, so that a machine with torch, Lightning and OpenCV
alone can train.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model.bundle import BundleMeta, save_bundle
from model.chip_batches import ChipBatch, ChipBatches
from model.chip_pack import read_pack
from model.chips import ChipSampler
from model.edge_weights import gaussian_edge_weights, unet_distance_weights
from model.encoder_weights import build_with_encoder
from model.freezing import freeze_stages
from model.init_weights import load_initial_weights
from model.losses import segmentation_loss, soft_loss
from model.mixup import draw_mixing, mix
from model.places import Place
from model.predict_chip import normalise
from model.regularisation import add_regularisation
from model.targets import make_targets
from model.train_config import EdgeConfig, TrainConfig
from model.unet import build_network
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
        best_ap50: mean instance AP50 there over the validation sources and pixel sizes.
        num_steps: steps done.
    """

    bundle: Path
    best_step: int
    best_ap50: float
    num_steps: int


class SegmenterTraining(pl.LightningModule):
    """Loss and optimiser; the averaged weights follow the network.

    Args:
        config: the training.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        network = build_initial_network(config)
        frozen = freeze_stages(network, config.frozen_stages)
        add_regularisation(network, config.regularisation)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # A plain tuple, so that no layer is registered (and saved) twice.
        self.frozen = tuple(frozen)
        decay = config.schedule.ema_decay
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        self.averaged.requires_grad_(False)

    def train(self, mode: bool = True) -> "SegmenterTraining":
        """Frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in self.frozen:
            layer.eval()
        return self

    def normalise(self, batch: ChipBatch) -> Tensor:
        """What the network takes, float32, (N, 3, h, w)."""
        return normalise(batch["image"], batch["valid"], self.config.mean, self.config.std)

    def training_step(self, batch: ChipBatch, batch_idx: int) -> Tensor:
        """Loss of one batch; its draws depend on the batch's own step."""
        config, ids = self.config, batch["ids"]
        step = int(batch["step"])
        # Dropout and stochastic depth, too, are functions of the seed and the step.
        torch.manual_seed(int(np.random.SeedSequence((config.seed, step)).generate_state(1)[0]))
        targets = make_targets(ids, config.network.separation, **asdict(config.targets))
        weights = torch.full_like(targets[:, 0], config.loss.base_weight)
        if config.edges.amplitude > 0.0:
            weights = weights + make_edge_weights(ids, config.edges)
        weights = weights * batch["known"]
        images = self.normalise(batch)
        mixing = draw_mixing(config.mixup, seed=config.seed, step=step, batch_size=len(ids))
        if mixing is not None:
            images, targets, weights = (mix(part, mixing) for part in (images, targets, weights))
        loss = segmentation_loss(self.network(images), targets, weights, config.loss)
        self.log("loss", loss, prog_bar=True)
        if "pool" in batch:
            pool_loss = self._pool_loss(batch["pool"])
            self.log("pool_loss", pool_loss, prog_bar=True)
            loss = loss + config.pool.weight * pool_loss
        return loss

    def _pool_loss(self, batch: ChipBatch) -> Tensor:
        """How far the network is from the teacher on unlabelled ground, over all channels."""
        logits = self.network(self.normalise(batch))
        known = batch["known"]
        losses = [
            soft_loss(logits[:, channel], batch["soft"][:, channel] / 255.0, known)
            for channel in range(logits.shape[1])
        ]
        return torch.stack(losses).sum()

    def configure_optimizers(self) -> Any:
        """AdamW with a one-cycle schedule, by step."""
        schedule = self.config.schedule
        optimizer = torch.optim.AdamW(
            (part for part in self.network.parameters() if part.requires_grad),
            lr=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=schedule.learning_rate,
            # One more, since Lightning steps the schedule once after the last batch.
            total_steps=schedule.steps + 1,
            pct_start=schedule.warmup_share,
            cycle_momentum=False,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": cycle, "interval": "step"},
        }


def make_edge_weights(ids: Tensor, edges: EdgeConfig) -> Tensor:
    """Weights of edges of either kind, float32, (N, h, w), on the device of the ids."""
    values = {"sigma_px": edges.sigma_px, "amplitude": edges.amplitude}
    if edges.kind == "gaussian":
        return gaussian_edge_weights(ids, **values)
    chips = [unet_distance_weights(chip, **values) for chip in ids.cpu().numpy()]
    return torch.from_numpy(np.stack(chips)).to(ids.device)


def build_initial_network(config: TrainConfig) -> nn.Module:
    """The network that a training starts from.

    Raises:
        TrainingError: if its weights cannot be had or do not fit.
    """
    if config.init is None:
        return build_with_encoder(config.network, config.encoder_weights)
    network = build_network(config.network)
    load_initial_weights(network, config.init)
    return network


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
        TrainingError: if it has nothing to train on, or the initial weights do not fit.
    """
    begin = time.time()
    pl.seed_everything(config.seed, verbose=False)
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=2, default=str))
    places = read_pack(config.pack)
    validation = [place for place in places if place.split == "validation"]
    module = SegmenterTraining(config)
    last = folder / "last.ckpt"
    start = _step_of(last) if resume and last.exists() else 0
    scorer = PlaceValidation(config, validation, folder)
    trainer = _make_trainer(config, folder, scorer)
    batches = ChipBatches(
        ChipSampler(places, config.chips, seed=config.seed, strength=config.strength),
        batch_size=config.schedule.batch_size,
        num_steps=config.schedule.steps,
        start_step=start,
        pool=_pool_sampler(config, pool),
        pool_batch_size=config.pool.batch_size,
    )
    loader = batches.loader(num_workers=config.num_loaders)
    trainer.fit(module, loader, ckpt_path=str(last) if start else None, weights_only=False)
    if scorer.best_step == 0:
        scorer.validate(module, trainer.global_step)
    facts = {
        **_facts(config, scorer, trainer.global_step),
        "seconds": round(time.time() - begin),
        **(provenance or {}),
    }
    bundle = _export(config, folder, facts)
    return TrainResult(
        bundle=bundle,
        best_step=scorer.best_step,
        best_ap50=scorer.best_ap50,
        num_steps=trainer.global_step,
    )


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
            every_n_train_steps=schedule.validate_every,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        ),
    ]
    if schedule.max_minutes is not None:
        callbacks.append(Timer(timedelta(minutes=schedule.max_minutes), verbose=False))
    return pl.Trainer(
        accelerator="auto",
        devices=1,
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
        "validation_ap50": round(scorer.best_ap50, 4),
        "validation_gsd_m": list(config.validation_gsd_m),
        "seed": config.seed,
    }


def _export(config: TrainConfig, folder: Path, facts: Mapping[str, Any]) -> Path:
    """The best averaged weights as a bundle."""
    meta = BundleMeta(
        name=config.name,
        network=config.network,
        bands=("red", "green", "blue"),
        mean=config.mean,
        std=config.std,
        gsd_m=config.gsd_m,
        erosion_px=config.targets.erosion_px,
        provenance=dict(facts),
    )
    path = folder / f"{config.name}.safetensors"
    save_bundle(path, meta, torch.load(folder / "best.pt", weights_only=True))
    return path
