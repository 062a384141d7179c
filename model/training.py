"""Training: a Lightning module, validation by instance AP50, checkpoints, and the bundle.

Every draw is a function of the seed, the step and the chip's index, and the checkpoint holds the
optimiser, the schedule and the averaged weights: a training that was killed goes on as if nothing
had happened. Nothing geospatial is imported, so that a machine with torch, Lightning and OpenCV
alone can train.
"""

import csv
import json
import logging
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model.chip_batches import ChipBatch, ChipBatches
from model.chip_pack import read_pack
from model.chips import ChipSampler, resample_place
from model.edge_weights import gaussian_edge_weights
from model.init_weights import load_initial_weights
from model.losses import segmentation_loss
from model.mask_scores import mask_ap50
from model.mixup import draw_mixing, mix
from model.places import Place
from model.separation import building_probability
from model.targets import make_targets
from model.train_config import TrainConfig
from model.unet import build_network

logger = logging.getLogger(__name__)

_VALIDATION_MULTIPLE_PX = 32
_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training gave.

    Attributes:
        bundle: the bundle's path.
        best_step: step of its weights.
        best_ap50: mean instance AP50 there over the validation places and pixel sizes.
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
        weights = "imagenet" if config.encoder_weights == "imagenet" else None
        network = build_network(config.network, encoder_weights=weights)
        if config.init is not None:
            load_initial_weights(network, config.init)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decay = config.schedule.ema_decay
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        self.averaged.requires_grad_(False)

    def normalise(self, image: Tensor, valid: Tensor) -> Tensor:
        """uint8 (N, 3, h, w) to what the network takes; the mean colour where not valid."""
        mean = torch.tensor(self.config.mean, device=image.device).view(1, 3, 1, 1)
        std = torch.tensor(self.config.std, device=image.device).view(1, 3, 1, 1)
        values = (image.float() / 255.0 - mean) / std
        values = values.masked_fill(~valid[:, None], 0.0)
        return values.contiguous(memory_format=torch.channels_last)

    def training_step(self, batch: ChipBatch, batch_idx: int) -> Tensor:
        """Loss of one batch; its draws depend on the batch's own step."""
        config, ids = self.config, batch["ids"]
        targets = make_targets(ids, config.network.separation, **asdict(config.targets))
        weights = torch.full_like(targets[:, 0], config.loss.base_weight)
        if config.edges.amplitude > 0.0:
            weights = weights + gaussian_edge_weights(ids, **asdict(config.edges))
        weights = weights * batch["known"]
        images = self.normalise(batch["image"], batch["valid"])
        mixing = draw_mixing(
            config.mixup, seed=config.seed, step=int(batch["step"]), batch_size=len(ids)
        )
        if mixing is not None:
            images, targets, weights = (mix(part, mixing) for part in (images, targets, weights))
        loss = segmentation_loss(self.network(images), targets, weights, config.loss)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW with a one-cycle schedule, by step."""
        schedule = self.config.schedule
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
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


class _Averaging(Callback):
    """Lets the averaged weights follow, before anything else sees the step.

    A callback and not the module's own hook, which Lightning calls after the callbacks, and so
    after the checkpoint.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module.averaged.update_parameters(module.network)


class PlaceValidation(Callback):
    """Scores the averaged weights on whole validation places, and keeps the best ones.

    Args:
        config: the training.
        places: those of the split `validation`.
        folder: scores.csv and best.pt are written there.
    """

    def __init__(self, config: TrainConfig, places: list[Place], folder: Path) -> None:
        self._config = config
        self._places = places
        self._folder = folder
        self.best_ap50 = -1.0
        self.best_step = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best_ap50": self.best_ap50, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best_ap50 = float(state_dict["best_ap50"])
        self.best_step = int(state_dict["best_step"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate every so many steps, and after the last one."""
        step = trainer.global_step
        if step % self._config.schedule.validate_every == 0 or step == trainer.max_steps:
            self.validate(module, step)

    def validate(self, module: SegmenterTraining, step: int) -> float:
        """Score all places; the mean over pixel sizes and places."""
        scores = {
            (place.name, gsd_m): score_place(module, place, gsd_m)
            for gsd_m in self._config.validation_gsd_m
            for place in self._places
        }
        mean = float(np.nanmean(list(scores.values()))) if scores else float("nan")
        self._write_scores(step, scores, mean)
        for gsd_m in self._config.validation_gsd_m:
            part = [score for (_, gsd), score in scores.items() if gsd == gsd_m]
            logger.info("step %d: AP50 %.3f at %g m", step, np.nanmean(part), gsd_m)
        module.log("ap50", mean, prog_bar=True)
        if not mean <= self.best_ap50:
            self.best_ap50, self.best_step = mean, step
            weights = module.averaged.module.state_dict()
            averaged = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
            part_file = self._folder / "best.part"
            torch.save(averaged, part_file)
            part_file.replace(self._folder / "best.pt")
        return mean

    def _write_scores(self, step: int, scores: dict[tuple[str, float], float], mean: float) -> None:
        with (self._folder / "scores.csv").open("a", newline="") as file:
            writer = csv.writer(file)
            for (name, gsd_m), score in scores.items():
                writer.writerow([step, name, gsd_m, f"{score:.4f}"])
            writer.writerow([step, "mean", "", f"{mean:.4f}"])


@torch.inference_mode()
def score_place(module: SegmenterTraining, place: Place, gsd_m: float) -> float:
    """Instance AP50 of the averaged weights on one whole place at a pixel size."""
    config = module.config
    chip = resample_place(place, gsd_m, multiple_px=_VALIDATION_MULTIPLE_PX)
    image = torch.from_numpy(chip.image)[None].to(module.device)
    valid = torch.from_numpy(chip.valid)[None].to(module.device)
    network = module.averaged.module.eval()
    kind = module.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=config.precision == "bf16-mixed"):
        logits = network(module.normalise(image, valid))
    probability = building_probability(logits, config.network.separation)[0].cpu().numpy()
    return mask_ap50(
        np.where(chip.valid, probability, 0.0).astype(np.float32),
        chip.ids,
        chip.known,
        grow_px=config.targets.erosion_px,
        threshold=_THRESHOLD,
    )


def train(config: TrainConfig, *, resume: bool = False) -> TrainResult:
    """Train a network on a chip pack.

    Args:
        config: the training.
        resume: go on from the last checkpoint in the output folder, if there is one.

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
        ChipSampler(places, config.chips, seed=config.seed),
        batch_size=config.schedule.batch_size,
        num_steps=config.schedule.steps,
        start_step=start,
    )
    loader = batches.loader(num_workers=config.num_loaders)
    trainer.fit(module, loader, ckpt_path=str(last) if start else None, weights_only=False)
    if scorer.best_step == 0:
        scorer.validate(module, trainer.global_step)
    bundle = _export(config, folder, scorer, trainer.global_step, time.time() - begin)
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


def _export(
    config: TrainConfig, folder: Path, scorer: PlaceValidation, num_steps: int, seconds: float
) -> Path:
    """The best averaged weights as a bundle."""
    # Here, since a bundle's checks know of the grid.
    from model.bundle import BundleMeta, save_bundle

    meta = BundleMeta(
        name=config.name,
        network=config.network,
        bands=("red", "green", "blue"),
        mean=config.mean,
        std=config.std,
        gsd_m=config.gsd_m,
        erosion_px=config.targets.erosion_px,
        provenance={
            "pack": Path(config.pack).name,
            "init": Path(config.init).name if config.init else "",
            "steps": num_steps,
            "best_step": scorer.best_step,
            "validation_ap50": round(scorer.best_ap50, 4),
            "validation_gsd_m": list(config.validation_gsd_m),
            "seconds": round(seconds),
            "seed": config.seed,
        },
    )
    path = folder / f"{config.name}.safetensors"
    save_bundle(path, meta, torch.load(folder / "best.pt", weights_only=True))
    return path
