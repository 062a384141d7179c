"""Targets, separation schemes and mixup."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.mixup import Mixing, MixupConfig, draw_mixing, mix
from model.separation import building_probability, num_channels
from model.targets import contact_band, depth_in_buildings, erode_instances, make_targets


def random_ids(seed: int) -> npt.NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    ids = np.zeros((16, 18), np.int32)
    for instance in (1, 2, 3, 70_000):
        row, col = rng.integers(0, 12, 2)
        ids[row : row + rng.integers(2, 8), col : col + rng.integers(2, 8)] = instance
    return ids


def windows(ids: npt.NDArray[np.int32], radius: int) -> dict[tuple[int, int], set[int]]:
    """The ids in the square around each pixel, as far as it lies in the chip."""
    return {
        (row, col): set(
            ids[
                max(row - radius, 0) : row + radius + 1, max(col - radius, 0) : col + radius + 1
            ].ravel()
        )
        for row, col in np.ndindex(*ids.shape)
    }


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), radius=st.integers(0, 3))
def test_erosion_and_contact(seed: int, radius: int) -> None:
    ids = random_ids(seed)
    tensor = torch.from_numpy(ids)[None]
    around = windows(ids, radius)
    eroded, band = erode_instances(tensor, radius)[0].numpy(), contact_band(tensor, radius)[0]
    for place, seen in around.items():
        assert eroded[place] == (ids[place] if len(seen) == 1 else 0)
        assert bool(band[place]) == (len(seen - {0}) > 1)


def test_touching_buildings_come_apart_and_the_border_erodes_nothing() -> None:
    ids = torch.ones(1, 6, 8, dtype=torch.int32)
    ids[:, :, 4:] = 2
    eroded = erode_instances(ids, 1)
    assert eroded[0, 0].tolist() == [1, 1, 1, 0, 0, 2, 2, 2]


def test_depth_counts_squares() -> None:
    ids = torch.zeros(1, 9, 9, dtype=torch.int32)
    ids[:, 1:8, 1:8] = 5
    depth = depth_in_buildings(ids, 4)[0, 4] * 4
    assert depth.tolist() == [0, 1, 2, 3, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("separation", ["eroded", "border", "distance"])
def test_perfect_logits_give_separate_cores(separation: str) -> None:
    import cv2

    ids = torch.zeros(1, 40, 60, dtype=torch.int32)
    ids[:, 5:35, 5:30], ids[:, 5:35, 30:55] = 1, 2
    targets = make_targets(ids, separation, erosion_px=1, border_px=2, distance_px=5)
    assert targets.shape[1] == num_channels(separation)
    probability = building_probability(torch.logit(targets, eps=1e-6), separation)[0].numpy()
    count, labels = cv2.connectedComponents((probability >= 0.5).astype(np.uint8), connectivity=4)
    assert count - 1 == 2
    for label in (1, 2):
        assert len(np.unique(ids[0].numpy()[labels == label])) == 1


def test_a_border_counts_by_a_power_of_its_absence() -> None:
    logits = torch.logit(torch.tensor([[0.8], [0.75]]))[None, :, :, None]
    assert building_probability(logits, "border").item() == pytest.approx(0.8 * 0.25)
    assert building_probability(logits, "border", 0.5).item() == pytest.approx(0.8 * 0.25**0.5)


def test_mixing_is_linear_with_one_share() -> None:
    image, weight = torch.randn(4, 3, 5, 5), torch.rand(4, 5, 5)
    mixing = Mixing(0.3, torch.tensor([1, 2, 3, 0]))
    torch.testing.assert_close(mix(image, mixing)[0], 0.3 * image[0] + 0.7 * image[1])
    torch.testing.assert_close(mix(weight, mixing)[3], 0.3 * weight[3] + 0.7 * weight[0])
    torch.testing.assert_close(mix(weight, mixing).sum(), weight.sum())
    assert torch.equal(mix(image, Mixing(1.0, mixing.partner)), image)


def test_draws_depend_on_seed_and_step_only() -> None:
    config = MixupConfig(alpha=0.4)
    first = draw_mixing(config, seed=1, step=5, batch_size=8)
    again = draw_mixing(config, seed=1, step=5, batch_size=8)
    other = draw_mixing(config, seed=1, step=6, batch_size=8)
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.share == again.share != other.share
    assert torch.equal(first.partner, again.partner)
    assert draw_mixing(MixupConfig(alpha=0.0), seed=1, step=5, batch_size=8) is None
