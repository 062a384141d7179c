"""Noisy Student: a teacher labels a pool, a student learns from both and becomes the teacher.

Source: Xie et al., "Self-training with Noisy Student improves ImageNet classification", CVPR 2020,
as Sirko et al. (2021) use it for buildings: soft labels, a student of the same size, a pool that
keeps ground that holds buildings. The teacher sees images as they are; the student sees them
changed, with dropout and stochastic depth.
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import nn

from geo.atomic_files import write_atomically
from model.bundle import BundleMeta, load_bundle
from model.chip_pack import read_pack
from model.chips import Chip
from model.errors import TrainingError
from model.places import BoolArray, Place, UInt8Array
from model.predict_chip import predict_chip
from model.separation import num_channels
from model.student_picture import draw_student_minus_teacher
from model.train_config import TrainConfig
from model.training import TrainResult, train
from model.training_state import clear_training

logger = logging.getLogger(__name__)

_MULTIPLE_PX = 32
_MAX_COMPARED = 24
# A teacher is still right at pixels so much larger or smaller than its own.
_MAX_GSD_RATIO = 1.25


@dataclass(frozen=True, kw_only=True)
class PoolFilterConfig:
    """Which ground of a pool a student learns from."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    cell_px: int = 128
    """The pool is kept or left cell by cell, squares of this side."""
    min_building_share: float = 0.05
    """Share of a cell's pixels that the teacher takes for building, at least: most of the earth
    holds none and would drown the rest (PAPER.md)."""
    max_unsure_share: float = 0.25
    """Share of a cell's pixels between `unsure_from` and `unsure_to`, at most."""
    unsure_from: float = 0.3
    """Probability from which a pixel counts as unsure."""
    unsure_to: float = 0.7
    """Probability up to which it does."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.cell_px < 16:
            raise ValueError(f"cell_px = {self.cell_px}; expected at least 16")
        for name in ("min_building_share", "max_unsure_share", "unsure_from", "unsure_to"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} = {getattr(self, name)}; expected 0 to 1")


@dataclass(frozen=True, kw_only=True)
class SelfTrainConfig:
    """A self-training."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    teacher: str
    """Bundle of the first teacher."""
    pool: str
    """Chip pack of unlabelled places (`everyroof pool`)."""
    student: TrainConfig
    """The student's training; its `strength` and `regularisation` are its noise. Its `output` gets
    a folder for each round."""
    rounds: int = 1
    """How often a student becomes the teacher and another one learns from it."""
    starts_from_teacher: bool = True
    """Whether a student starts from its teacher's weights, or as `student` says."""
    filter: PoolFilterConfig = field(default_factory=PoolFilterConfig)
    """Which ground is kept."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.rounds <= 20:
            raise ValueError(f"rounds = {self.rounds}; expected 1 to 20")


@dataclass(frozen=True, kw_only=True)
class PoolReport:
    """What a filter kept.

    Attributes:
        num_places: places of the pool.
        num_kept_places: those with any ground kept.
        area_m2: ground with image data.
        kept_m2: ground kept.
        few_m2: ground left for holding too few buildings.
        unsure_m2: ground left because the teacher is not sure.
        building_share: share of the kept ground that the teacher takes for building.
    """

    num_places: int
    num_kept_places: int
    area_m2: float
    kept_m2: float
    few_m2: float
    unsure_m2: float
    building_share: float

    def __str__(self) -> str:
        """One line."""
        return (
            f"kept {self.kept_m2 / 1e4:.1f} of {self.area_m2 / 1e4:.1f} ha on "
            f"{self.num_kept_places} of {self.num_places} places, {self.building_share:.0%} of it "
            f"building; left {self.few_m2 / 1e4:.1f} ha with few buildings and "
            f"{self.unsure_m2 / 1e4:.1f} ha where the teacher is not sure"
        )


def self_train(config: SelfTrainConfig, *, resume: bool = False) -> list[TrainResult]:
    """Train a student for each round.

    Args:
        config: the self-training.
        resume: go on where an earlier run stopped.

    Returns:
        One result a round; the last bundle is the last student.

    Raises:
        BundleError: if the teacher is no bundle.
        ChipPackError: if a pack cannot be read.
        TrainingError: if the filter keeps nothing, or teacher and student have other channels.
    """
    if not resume:
        for round_folder in Path(config.student.output).glob("round*"):
            clear_training(round_folder)
    pool = [place for place in read_pack(config.pool) if place.split == "pool"]
    if not pool:
        raise TrainingError(
            f"{config.pool} holds no unlabelled places; make a pool with `everyroof pool IMAGES`"
        )
    teacher, results = Path(config.teacher), []
    for number in range(1, config.rounds + 1):
        # What a run has written is the first teacher's word only.
        unlabelled = pool if number == 1 else [dataclasses.replace(p, soft=None) for p in pool]
        labelled, report = teach(teacher, unlabelled, config.filter, config.student)
        logger.info("round %d: %s", number, report)
        student = _student(config, teacher, number)
        facts = {
            "teacher": teacher.name,
            "teacher_sha256": load_bundle(teacher).sha256,
            "round": number,
            "pool": Path(config.pool).name,
            "pool_kept_ha": round(report.kept_m2 / 1e4, 1),
        }
        results.append(train(student, resume=resume, pool=labelled, provenance=facts))
        _write_picture(results[-1].bundle, labelled, student)
        teacher = results[-1].bundle
    return results


def teach(
    teacher: Path, pool: Sequence[Place], rules: PoolFilterConfig, student: TrainConfig
) -> tuple[list[Place], PoolReport]:
    """Label a pool and keep what a student is to learn from.

    A place that brings a teacher's output (from `everyroof run`) keeps it.

    Args:
        teacher: its bundle.
        pool: unlabelled places at the teacher's pixel size.
        rules: what is kept.
        student: its channels must be the teacher's.

    Returns:
        Places that are known where the student follows the teacher, and what was kept.
    """
    bundle = load_bundle(teacher)
    meta = bundle.meta
    _check_fit(teacher.name, meta, pool, student)
    network = bundle.build().to("cuda" if torch.cuda.is_available() else "cpu")
    has_bf16 = student.precision == "bf16-mixed"
    labelled, masks = [], []
    for place in pool:
        soft = place.soft
        if soft is None:
            soft = soft_labels(network, meta, place, has_bf16=has_bf16)
        masks.append(judge_ground(place, soft, meta, rules))
        if masks[-1].kept.any():
            known = masks[-1].kept
            labelled.append(dataclasses.replace(place, split="train", known=known, soft=soft))
    report = _report(pool, masks)
    if not labelled:
        raise TrainingError(
            f"the filter keeps nothing of the pool ({report}); lower min_building_share or raise "
            "max_unsure_share"
        )
    return labelled, report


def _check_fit(teacher: str, meta: BundleMeta, pool: Sequence[Place], student: TrainConfig) -> None:
    """Refuse a pool or a student that the teacher cannot teach."""
    separation = student.network.separation
    if meta.network.separation != separation:
        raise TrainingError(
            f"the teacher {teacher} has separation = {meta.network.separation!r}, the student "
            f"{separation!r}; a student learns its teacher's channels"
        )
    for place in pool:
        if place.soft is not None and place.soft.shape[2] != num_channels(separation):
            raise TrainingError(
                f"the pool holds probabilities of {place.soft.shape[2]} channel, and separation = "
                f"{separation!r} takes {num_channels(separation)}; make the pool without "
                "--probability, and the teacher labels it itself"
            )
        ratio = place.gsd_m / meta.gsd_m
        if place.soft is None and not 1 / _MAX_GSD_RATIO <= ratio <= _MAX_GSD_RATIO:
            raise TrainingError(
                f"place {place.name} has pixels of {place.gsd_m:g} m and the teacher {teacher} is "
                f"for {meta.gsd_m:g} m; make the pool with `everyroof pool --gsd {meta.gsd_m:g}`"
            )


def soft_labels(
    network: nn.Module, meta: BundleMeta, place: Place, *, has_bf16: bool
) -> UInt8Array:
    """A teacher's output on a place as it is: no augmentation, its own pixels.

    Args:
        network: the teacher.
        meta: of its bundle.
        place: at its pixel size.
        has_bf16: compute in bf16 where that is enough.

    Returns:
        round(255 * sigmoid) by channel, uint8, shape (height, width, channels).
    """
    height, width = place.shape
    rows, cols = (-side % _MULTIPLE_PX for side in place.shape)
    chip = Chip(
        image=np.ascontiguousarray(
            np.pad(place.image, ((0, rows), (0, cols), (0, 0))).transpose(2, 0, 1)
        ),
        ids=np.pad(place.ids, ((0, rows), (0, cols))),
        known=np.pad(place.known, ((0, rows), (0, cols))),
        valid=np.pad(place.valid, ((0, rows), (0, cols))),
        gsd_m=place.gsd_m,
        place=place.name,
    )
    logits = predict_chip(network, chip, mean=meta.mean, std=meta.std, has_bf16=has_bf16)
    levels = torch.round(torch.sigmoid(logits) * 255.0).to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(levels[:, :height, :width].transpose(1, 2, 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedGround:
    """What a filter says of a place's pixels, all bool of its shape, disjoint.

    Attributes:
        kept: the student learns here.
        few: too few buildings.
        unsure: too unsure a teacher.
        is_building: where the teacher sees a building, of any ground.
    """

    kept: BoolArray
    few: BoolArray
    unsure: BoolArray
    is_building: BoolArray


def judge_ground(
    place: Place, soft: UInt8Array, meta: BundleMeta, rules: PoolFilterConfig
) -> JudgedGround:
    """Keep the cells of a place that hold buildings which the teacher is sure of.

    Args:
        place: the place.
        soft: the teacher's output there.
        meta: of the teacher.
        rules: the thresholds.
    """
    probability = _probability(soft, meta)
    is_building = (probability >= 0.5) & place.valid
    is_unsure = (probability > rules.unsure_from) & (probability < rules.unsure_to) & place.valid
    count = np.maximum(_cell_sums(place.valid, rules.cell_px), 1)
    few = _cell_sums(is_building, rules.cell_px) < rules.min_building_share * count
    unsure = ~few & (_cell_sums(is_unsure, rules.cell_px) > rules.max_unsure_share * count)
    few, unsure = (_spread(part, rules.cell_px, place.shape) for part in (few, unsure))
    return JudgedGround(
        kept=place.valid & ~few & ~unsure,
        few=place.valid & few,
        unsure=place.valid & unsure,
        is_building=is_building,
    )


def _probability(soft: UInt8Array, meta: BundleMeta) -> Any:
    """Probability of a building's core, float32, shape (height, width)."""
    if soft.shape[2] == 1:
        # One channel, or what `everyroof run` wrote: probabilities of whatever scheme.
        return soft[:, :, 0].astype(np.float32) / 255.0
    levels = torch.from_numpy(soft).permute(2, 0, 1)[None].float() / 255.0
    logits = torch.logit(levels, eps=1e-4)
    return meta.network.probability(logits)[0].numpy()


def _student(config: SelfTrainConfig, teacher: Path, number: int) -> TrainConfig:
    meta = load_bundle(teacher).meta
    own = config.student.network, config.student.mean, config.student.std
    if config.starts_from_teacher and own != (meta.network, meta.mean, meta.std):
        raise TrainingError(
            f"the student starts from the teacher's weights but has another network, mean or std "
            f"than {teacher.name}; make them equal, or set starts_from_teacher: false"
        )
    output = str(Path(config.student.output) / f"round{number}")
    init = str(teacher) if config.starts_from_teacher else config.student.init
    return dataclasses.replace(
        config.student, output=output, init=init, seed=config.student.seed + number - 1
    )


def _write_picture(bundle_path: Path, labelled: Sequence[Place], config: TrainConfig) -> None:
    """Draw what the student changed on some of the pool, beside its bundle."""
    bundle = load_bundle(bundle_path)
    network = bundle.build()
    shown = labelled[:: max(1, len(labelled) // _MAX_COMPARED)][:_MAX_COMPARED]
    has_bf16 = config.precision == "bf16-mixed"
    students = [soft_labels(network, bundle.meta, place, has_bf16=has_bf16) for place in shown]
    picture = draw_student_minus_teacher(shown, students)
    done, data = cv2.imencode(".png", picture[:, :, ::-1])
    assert done, "OpenCV cannot write PNG"
    write_atomically(Path(config.output) / "student_minus_teacher.png", bytes(data))


def _cell_sums(mask: BoolArray, cell_px: int) -> Any:
    by_row = np.add.reduceat(mask.astype(np.int64), np.arange(0, mask.shape[0], cell_px), axis=0)
    return np.add.reduceat(by_row, np.arange(0, mask.shape[1], cell_px), axis=1)


def _spread(cells: BoolArray, cell_px: int, shape: tuple[int, int]) -> BoolArray:
    return np.repeat(np.repeat(cells, cell_px, 0), cell_px, 1)[: shape[0], : shape[1]]


def _report(pool: Sequence[Place], masks: Sequence[JudgedGround]) -> PoolReport:
    def area_m2(parts: Sequence[BoolArray]) -> float:
        return sum(
            float(part.sum()) * place.gsd_m**2 for part, place in zip(parts, pool, strict=True)
        )

    kept_m2 = area_m2([mask.kept for mask in masks])
    return PoolReport(
        num_places=len(pool),
        num_kept_places=sum(bool(mask.kept.any()) for mask in masks),
        area_m2=area_m2([place.valid for place in pool]),
        kept_m2=kept_m2,
        few_m2=area_m2([mask.few for mask in masks]),
        unsure_m2=area_m2([mask.unsure for mask in masks]),
        building_share=area_m2([mask.kept & mask.is_building for mask in masks])
        / max(kept_m2, 1e-9),
    )
