"""Losses window by window: where network and labels disagree most, one of them is wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.bundle import BundleMeta
from model.chips import Chip, validation_windows
from model.errors import TrainingError
from model.places import Place
from model.predict_chip import predict_chip
from model.targets import make_targets
from model.train_config import TargetConfig

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChipLoss:
    """A window and how well network and labels agree there.

    The arrays take a megabyte a window: keep those that are to be drawn, and `facts` of the others.

    Attributes:
        chip: the window.
        source: name of its place's source.
        split: side of its place.
        loss: mean cross-entropy of the first channel over known ground.
        missed_m2: labelled as building, and the network is sure that there is none.
        invented_m2: not labelled, and the network is sure of a building.
        probability: float32, shape (h, w).
        loss_map: cross-entropy by pixel, 0 where unknown, float32, shape (h, w).
    """

    chip: Chip
    source: str
    split: str
    loss: float
    missed_m2: float
    invented_m2: float
    probability: Float32Array
    loss_map: Float32Array

    @property
    def facts(self) -> tuple[float, str, str, str, int, int, float, float]:
        """Loss, place, source, split, row, column, missed and invented square metres."""
        where = self.chip.place, self.source, self.split, *self.chip.corner
        return self.loss, *where, self.missed_m2, self.invented_m2


# Probabilities beyond which the network is sure.
_SURE = 0.9


def chip_losses(
    network: nn.Module,
    meta: BundleMeta,
    places: Sequence[Place],
    *,
    gsd_m: float,
    size_px: int,
    has_bf16: bool,
) -> Iterator[ChipLoss]:
    """Losses of all windows of places; nothing is drawn and nothing changed.

    Args:
        network: of a bundle.
        meta: its metadata.
        places: labelled ones.
        gsd_m: pixel size of the windows.
        size_px: their side, a multiple of the network's stride.
        has_bf16: compute in bf16 where that is enough.

    Raises:
        TrainingError: if the network cannot take windows of that side.
    """
    stride_px = meta.network.stride_px
    if size_px < 1 or size_px % stride_px:
        raise TrainingError(
            f"size_px = {size_px}; expected a multiple of {stride_px}, the network's stride"
        )
    for place in places:
        for chip in validation_windows(place, gsd_m, size_px):
            logits = predict_chip(network, chip, mean=meta.mean, std=meta.std, has_bf16=has_bf16)
            yield _judge(chip, place, logits.cpu(), meta, gsd_m)


def _judge(chip: Chip, place: Place, logits: Tensor, meta: BundleMeta, gsd_m: float) -> ChipLoss:
    targets = TargetConfig(erosion_px=meta.erosion_px)
    ids = torch.from_numpy(chip.ids)[None]
    target = make_targets(ids, meta.network.separation, **asdict(targets))[0, 0]
    loss = functional.binary_cross_entropy_with_logits(logits[0], target, reduction="none").numpy()
    probability = meta.network.probability(logits[None])[0].numpy()
    first = torch.sigmoid(logits[0]).numpy()
    is_building = target.numpy() > 0.5
    missed = chip.known & is_building & (first < 1.0 - _SURE)
    invented = chip.known & (chip.ids == 0) & (first > _SURE)
    return ChipLoss(
        chip=chip,
        source=place.source,
        split=place.split,
        loss=float(loss[chip.known].mean()),
        missed_m2=float(missed.sum()) * gsd_m**2,
        invented_m2=float(invented.sum()) * gsd_m**2,
        probability=probability.astype(np.float32),
        loss_map=np.where(chip.known, loss, 0.0).astype(np.float32),
    )
