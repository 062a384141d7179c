"""Losses on numbers worked out by hand."""

import math

import pytest
import torch

from model.losses import (
    LossConfig,
    focal_tversky,
    segmentation_loss,
    soft_loss,
    weighted_cross_entropy,
)

LN2 = math.log(2.0)


def logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))


def test_cross_entropy_is_a_weighted_mean() -> None:
    logits = torch.tensor([[[0.0, logit(0.8)]]])
    targets = torch.tensor([[[1.0, 0.0]]])
    weights = torch.tensor([[[3.0, 1.0]]])
    expected = (3.0 * LN2 + 1.0 * -math.log(0.2)) / 4.0
    assert float(weighted_cross_entropy(logits, targets, weights)) == pytest.approx(expected)


def test_focal_tversky_by_hand() -> None:
    logits = torch.tensor([[[logit(0.8), logit(0.4), 9.0]]])
    targets = torch.tensor([[[1.0, 0.0, 0.0]]])
    known = torch.tensor([[[1.0, 1.0, 0.0]]])  # the third pixel does not count
    config = LossConfig(false_positive_weight=0.7, false_negative_weight=0.3, tversky_exponent=0.5)
    bad = 0.7 * 0.4 + 0.3 * 0.2
    expected = (bad / (0.8 + bad)) ** 0.5
    assert float(focal_tversky(logits, targets, known, config)) == pytest.approx(expected, rel=1e-5)


def test_a_perfect_answer_costs_nothing() -> None:
    targets = torch.zeros(1, 1, 4, 4)
    targets[..., :2] = 1.0
    logits = (targets * 2 - 1) * 40
    loss = segmentation_loss(logits, targets, torch.ones(1, 4, 4), LossConfig(tversky_exponent=1.0))
    assert float(loss) < 1e-5


@pytest.mark.parametrize("channels", [1, 2])
def test_unknown_and_empty_chips_have_finite_gradients(channels: int) -> None:
    for weights in (torch.zeros(2, 8, 8), torch.ones(2, 8, 8)):
        logits = torch.full((2, channels, 8, 8), -30.0, requires_grad=True)
        loss = segmentation_loss(logits, torch.zeros(2, channels, 8, 8), weights, LossConfig())
        loss.backward()
        assert torch.isfinite(loss)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
    # Where nothing is known nothing pulls.
    logits = torch.randn(1, channels, 8, 8, requires_grad=True)
    segmentation_loss(
        logits, torch.ones(1, channels, 8, 8), torch.zeros(1, 8, 8), LossConfig(tversky_weight=0.0)
    ).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_border_inside_a_roof_costs_more() -> None:
    """Two pixels of ground, two of a roof, one of them unknown; logits 0 cost log 2 each."""
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1, 0, 2] = 2.0  # a border is seen on the known pixel of the roof
    targets = torch.zeros(1, 2, 1, 4)
    targets[0, 0, 0, 2:] = 1.0
    weights = torch.tensor([[[1.0, 1.0, 1.0, 0.0]]])
    first, wrong = math.log(2.0), math.log(1.0 + math.exp(2.0))
    for inside, expected in ((0.0, (2 * first + wrong) / 3), (3.0, (2 * first + 4 * wrong) / 6)):
        config = LossConfig(tversky_weight=0.0, inside_weight=inside)
        loss = segmentation_loss(logits, targets, weights, config)
        assert loss.item() == pytest.approx(first + expected)


def test_the_soft_loss_is_a_divergence() -> None:
    teacher = torch.tensor([[[0.3, 0.0, 1.0]]])
    same = torch.tensor([[[logit(0.3), -40.0, 40.0]]])
    ones = torch.ones(1, 1, 3)
    assert float(soft_loss(same, teacher, ones)) == pytest.approx(0.0, abs=1e-6)
    other = torch.tensor([[[0.0, -40.0, 40.0]]])
    expected = (0.3 * math.log(0.3 / 0.5) + 0.7 * math.log(0.7 / 0.5)) / 3.0
    assert float(soft_loss(other, teacher, ones)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tversky_exponent", 0.0), ("false_positive_weight", -1.0), ("base_weight", -0.1)],
)
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        LossConfig(**{name: value})
