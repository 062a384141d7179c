"""Validation: instance AP50 of the averaged weights on whole places, as a callback of training."""

import csv
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from model.bundle import Bundle
from model.chips import resample_place
from model.devices import is_out_of_memory, pick_device
from model.errors import TrainingError
from model.mask_scores import MaskMatches, match_masks, pooled_ap50
from model.places import Place
from model.predict_chip import predict_chip
from model.train_config import VALIDATION_THRESHOLDS, TargetConfig, TrainConfig
from model.training_state import BEST_FILE, SCORES_FILE

logger = logging.getLogger(__name__)

_VALIDATION_MULTIPLE_PX = 32
_NO_CHOICE = 0.5
_NUM_BANDS = 3
# Below this many references a source's AP50 moves by several points with one of them.
_MIN_REFERENCES = 20


@dataclass(frozen=True)
class SourceScore:
    """How the places of one source are segmented at one pixel size.

    Attributes:
        threshold: probability from which a pixel is building.
        source: its name.
        gsd_m: pixel size in metres.
        ap50: instance AP50, 0 to 1.
        num_splits: references covered by several components.
        num_merges: components that cover several references.
        num_references: references.
    """

    threshold: float
    source: str
    gsd_m: float
    ap50: float
    num_splits: int
    num_merges: int
    num_references: int

    @classmethod
    def pooled(
        cls, threshold: float, source: str, gsd_m: float, matches: Sequence[MaskMatches]
    ) -> "SourceScore":
        """Of the matches of its places, ranked together."""
        return cls(
            threshold,
            source,
            gsd_m,
            round(pooled_ap50(matches), 4),
            sum(part.num_splits for part in matches),
            sum(part.num_merges for part in matches),
            sum(part.num_references for part in matches),
        )


def score_sources(
    network: nn.Module, config: TrainConfig, places: Sequence[Place]
) -> list[SourceScore]:
    """Instance AP50 by source, pixel size and threshold, a source's places ranked together.

    Places whose neighbours share an id are left out, and a source with a handful of references
    where there are others: its score would be noise.

    Args:
        network: gives logits; put into evaluation mode.
        config: of its training.
        places: those of the split `validation`.
    """
    scored = [place for place in places if place.has_instances and place.num_instances > 0]
    counts = Counter[str]()
    for place in scored:
        counts[place.source] += place.num_instances
    enough = [name for name, count in counts.items() if count >= _MIN_REFERENCES] or list(counts)
    scores = []
    for gsd_m in config.validation_gsd_m:
        for name in enough:
            matches = [
                match_place(network, config, place, gsd_m)
                for place in scored
                if place.source == name
            ]
            scores += [
                SourceScore.pooled(threshold, name, gsd_m, of_places)
                for threshold, *of_places in zip(
                    config.validation_thresholds, *matches, strict=True
                )
            ]
    return scores


def match_place(
    network: nn.Module, config: TrainConfig, place: Place, gsd_m: float
) -> list[MaskMatches]:
    """What a network finds on one whole place at a pixel size, for each threshold."""
    chip = resample_place(place, gsd_m, multiple_px=_VALIDATION_MULTIPLE_PX)
    logits = predict_chip(
        network, chip, mean=config.mean, std=config.std, has_bf16=config.precision == "bf16-mixed"
    )
    probability = config.network.probability(logits[None])[0].cpu().numpy()
    probability = np.where(chip.valid, probability, 0.0).astype(np.float32)
    grow_px = config.targets.erosion_px
    return [
        match_masks(
            probability,
            chip.ids,
            chip.known,
            grow_px=grow_px,
            threshold=threshold,
            valley_depth=config.valley_depth,
            confidence=config.confidence,
        )
        for threshold in config.validation_thresholds
    ]


@dataclass(frozen=True)
class MeanScore:
    """The best threshold of a step.

    Attributes:
        ap50: mean over sources and pixel sizes; NaN where nothing is counted.
        threshold: the one that gives it.
    """

    ap50: float
    threshold: float


def best_mean(scores: Sequence[SourceScore], thresholds: Sequence[float]) -> MeanScore:
    """The threshold with the highest mean AP50; where nothing is counted, 0.5 or the one given."""
    best = MeanScore(float("nan"), thresholds[0] if len(thresholds) == 1 else _NO_CHOICE)
    for threshold in thresholds:
        counted = [s.ap50 for s in scores if s.threshold == threshold and s.num_references > 0]
        # NaN loses every comparison.
        if counted and not float(np.mean(counted)) <= best.ap50:
            best = MeanScore(float(np.mean(counted)), threshold)
    return best


def score_bundle(
    bundle: Bundle,
    places: Sequence[Place],
    *,
    gsd_m: Sequence[float] = (0.3, 0.5),
    thresholds: Sequence[float] = VALIDATION_THRESHOLDS,
) -> MeanScore:
    """Mean instance AP50 of a bundle on places, at the best of some thresholds.

    Args:
        bundle: of three bands; its threshold is not used.
        places: held out from its training.
        gsd_m: pixel sizes in metres.
        thresholds: of the probability.

    Raises:
        TrainingError: if the bundle takes other bands than places have.
    """
    meta = bundle.meta
    if len(meta.bands) != _NUM_BANDS:
        raise TrainingError(
            f"{meta.name} takes the bands {', '.join(meta.bands)}; labelled places have red, green "
            "and blue only"
        )
    config = TrainConfig(
        pack="",
        output="",
        network=meta.network,
        mean=meta.mean,  # type: ignore[arg-type] # places have three bands
        std=meta.std,  # type: ignore[arg-type]
        targets=TargetConfig(erosion_px=meta.erosion_px),
        validation_gsd_m=tuple(gsd_m),
        validation_thresholds=tuple(thresholds),
        valley_depth=meta.valley_depth,
        confidence=meta.confidence,
    )
    network = bundle.build().to(pick_device("auto"))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return best_mean(score_sources(network, config, places), config.validation_thresholds)


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
        self.best_threshold = 0.5
        self._last_step = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "best_ap50": self.best_ap50,
            "best_step": self.best_step,
            "best_threshold": self.best_threshold,
            "last_step": self._last_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best_ap50 = float(state_dict["best_ap50"])
        self.best_step = int(state_dict["best_step"])
        self.best_threshold = float(state_dict["best_threshold"])
        self._last_step = int(state_dict["last_step"])

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """A training that had ended for want of progress does not go on."""
        self._end_without_progress(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate every so many steps, and after the last one."""
        step = trainer.global_step
        if step % self._config.schedule.validate_every == 0 or step == trainer.max_steps:
            mean = self.validate(trainer, module, step)
            module.log("ap50", mean, prog_bar=True, rank_zero_only=True)
            self._end_without_progress(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Validate what time ended before its turn."""
        if trainer.global_step != self._last_step:
            self.validate(trainer, module, trainer.global_step)

    def validate(self, trainer: pl.Trainer, module: Any, step: int) -> float:
        """Score all places; keep the weights if the mean over pixel sizes and sources is the best.

        Without validation places the latest weights are kept. Of several processes the first one
        does it, and tells the others.
        """
        self._last_step = step
        mean = self._score(module, step) if trainer.is_global_zero else MeanScore(0.0, 0.0)
        mean = trainer.strategy.broadcast(mean)
        if mean.ap50 <= self.best_ap50:
            return mean.ap50
        self.best_ap50, self.best_step, self.best_threshold = mean.ap50, step, mean.threshold
        if trainer.is_global_zero:
            weights = module.averaged.module.state_dict()
            averaged = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
            part_file = self._folder / "best.part"
            torch.save(averaged, part_file)
            part_file.replace(self._folder / BEST_FILE)
        trainer.strategy.barrier()
        return mean.ap50

    def _end_without_progress(self, trainer: pl.Trainer) -> None:
        schedule = self._config.schedule
        if schedule.patience is None:
            return
        if self._last_step - self.best_step >= schedule.patience * schedule.validate_every:
            logger.info("no better since step %d: ending", self.best_step)
            trainer.should_stop = True

    def _score(self, module: Any, step: int) -> MeanScore:
        try:
            scores = score_sources(module.averaged.module, self._config, self._places)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                "memory does not hold the largest validation place at "
                f"{min(self._config.validation_gsd_m):g} m; cut it in the data set's `cut`, or "
                "raise validation_gsd_m"
            ) from error
        best = best_mean(scores, self._config.validation_thresholds)
        if not math.isnan(best.ap50):
            self._write_scores(step, [score for score in scores if score.num_references > 0])
            self._tell(step, [score for score in scores if score.threshold == best.threshold])
        return best

    def _tell(self, step: int, scores: list[SourceScore]) -> None:
        """Log the mean at each pixel size."""
        for gsd_m in self._config.validation_gsd_m:
            part = [s.ap50 for s in scores if s.gsd_m == gsd_m and s.num_references > 0]
            if part:
                logger.info(
                    "step %d: AP50 %.3f at %g m, threshold %g",
                    step, np.mean(part), gsd_m, scores[0].threshold,
                )  # fmt: skip

    def _write_scores(self, step: int, scores: list[SourceScore]) -> None:
        path = self._folder / SCORES_FILE
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["step", *(field.name for field in fields(SourceScore))])
            writer.writerows([step, *astuple(score)] for score in scores)
