"""Weighted cross-entropy, focal Tversky, and the soft loss of self-training; all in float32."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The terms of the loss. Values marked M in PAPER.md are recollections, kept as such."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    base_weight: float = 1.0
    """Weight of every known pixel; edge weights are added. Derived (PAPER.md, D): without it a chip
    without buildings has no loss."""
    tversky_weight: float = 0.5
    """Factor of the focal Tversky term (M)."""
    false_positive_weight: float = 0.5
    """Weight of false positives in it. PAPER.md's b = 0.99 (M) punishes them almost alone."""
    false_negative_weight: float = 0.5
    """Weight of false negatives in it."""
    tversky_exponent: float = 0.75
    """Exponent of 1 - Tversky index. PAPER.md has 0.25 (M), whose slope at 0 is infinite."""
    second_channel_weight: float = 1.0
    """Factor of the cross-entropy of the second channel (`border`, `distance`)."""
    inside_weight: float = 0.0
    """Added to the weight of the second channel inside buildings: what a border seen on a ridge
    costs."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("base_weight", "tversky_weight", "second_channel_weight", "inside_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}; expected 0 or more")
        for name in ("false_positive_weight", "false_negative_weight", "tversky_exponent"):
            if not 0.0 < getattr(self, name) <= 10.0:
                raise ValueError(f"{name} = {getattr(self, name)}; expected above 0, at most 10")


def segmentation_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, config: LossConfig
) -> Tensor:
    """The supervised loss of a batch.

    Args:
        logits: shape (N, channels, H, W).
        targets: 0 to 1, soft after mixup, the same shape.
        weights: 0 where nothing is known, shape (N, H, W).
        config: the terms.

    Returns:
        A scalar; 0 where nothing is known at all.
    """
    logits, targets, weights = logits.float(), targets.float(), weights.float()
    loss = weighted_cross_entropy(logits[:, 0], targets[:, 0], weights)
    for channel in range(1, logits.shape[1]):
        inside = (weights > 0) * config.inside_weight * targets[:, 0]
        second = weighted_cross_entropy(logits[:, channel], targets[:, channel], weights + inside)
        loss = loss + config.second_channel_weight * second
    if config.tversky_weight == 0.0:
        return loss
    known = (weights > 0).float()
    tversky = focal_tversky(logits[:, 0], targets[:, 0], known, config)
    return loss + config.tversky_weight * tversky


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy per pixel, averaged with weights; shapes (N, H, W)."""
    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (loss * weights).sum() / weights.sum().clamp(min=_EPS)


def focal_tversky(logits: Tensor, targets: Tensor, known: Tensor, config: LossConfig) -> Tensor:
    """(1 - TP / (TP + fp FP + fn FN)) ** exponent over the known pixels of the whole batch.

    Source: Abraham and Khan, "A Novel Focal Tversky Loss Function", ISBI 2019. Over the batch and
    not per chip, since a chip without buildings has no true positives to speak of.
    """
    probability = torch.sigmoid(logits) * known
    targets = targets * known
    hits = (probability * targets).sum()
    false_positives = (probability * (1.0 - targets)).sum()
    false_negatives = ((known - probability) * targets).sum()
    bad = (
        config.false_positive_weight * false_positives
        + config.false_negative_weight * false_negatives
    )
    # Clamped away from 0, where the slope of an exponent below 1 is infinite.
    return ((bad + _EPS) / (hits + bad + _EPS)).clamp(min=_EPS) ** config.tversky_exponent


def soft_loss(logits: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher's probabilities, per pixel.

    Args:
        logits: of the student, shape (N, H, W).
        teacher: probabilities, the same shape.
        weights: 0 where nothing is known, the same shape.

    Returns:
        A scalar; 0 where both agree.
    """
    logits, teacher, weights = logits.float(), teacher.float(), weights.float()
    cross = functional.binary_cross_entropy_with_logits(logits, teacher, reduction="none")
    entropy = -(torch.xlogy(teacher, teacher) + torch.xlogy(1.0 - teacher, 1.0 - teacher))
    return ((cross - entropy) * weights).sum() / weights.sum().clamp(min=_EPS)
