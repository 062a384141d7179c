"""Edge weights against slow float64 oracles."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve

from model.edge_weights import gaussian_edge_weights, instance_edges, unet_distance_weights


def random_ids(seed: int, height: int = 24, width: int = 30) -> npt.NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    ids = np.zeros((height, width), np.int32)
    for instance in range(1, 7):
        row, col = rng.integers(0, height - 3), rng.integers(0, width - 3)
        ids[row : row + rng.integers(2, 9), col : col + rng.integers(2, 9)] = instance
    return ids


def slow_edges(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    edges = np.zeros(ids.shape, bool)
    for row, col in np.ndindex(*ids.shape):
        for r, c in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
            if 0 <= r < ids.shape[0] and 0 <= c < ids.shape[1] and ids[r, c] != ids[row, col]:
                edges[row, col] |= ids[row, col] > 0
    return edges


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), sigma=st.floats(0.5, 4.0), amplitude=st.floats(0.1, 200.0))
def test_gaussian_weights(seed: int, sigma: float, amplitude: float) -> None:
    ids = random_ids(seed)
    edges = slow_edges(ids)
    np.testing.assert_array_equal(instance_edges(torch.from_numpy(ids)[None])[0].numpy(), edges)
    radius = int(np.ceil(3 * sigma))
    steps = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    expected = amplitude * convolve(edges.astype(np.float64), kernel, mode="constant")
    found = gaussian_edge_weights(torch.from_numpy(ids)[None], sigma_px=sigma, amplitude=amplitude)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-4, atol=1e-4 * amplitude)


def test_a_straight_edge_weighs_what_is_said() -> None:
    ids = torch.zeros(1, 101, 101, dtype=torch.int32)
    ids[:, :, :50] = 1
    weights = gaussian_edge_weights(ids, sigma_px=3.0, amplitude=200.0)
    # PAPER.md derives 26.6 for sigma 3 and c 200.
    assert float(weights[0, 50, 49]) == pytest.approx(26.6, abs=0.1)


def test_narrow_gaps_weigh_more() -> None:
    middles = []
    for gap in range(1, 7):
        ids = torch.zeros(1, 80, 80, dtype=torch.int32)
        ids[:, :, :40], ids[:, :, 40 + gap :] = 1, 2
        weights = gaussian_edge_weights(ids, sigma_px=3.0, amplitude=200.0)
        middles.append(float(weights[0, 40, 40 + gap // 2]))
    assert middles == sorted(middles, reverse=True)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_unet_distance_weights(seed: int) -> None:
    ids = random_ids(seed, 14, 15)
    found = unet_distance_weights(ids, amplitude=10.0, sigma_px=5.0)
    for row, col in np.ndindex(*ids.shape):
        distances = sorted(
            np.hypot(*(np.argwhere(ids == k) - (row, col)).T).min() for k in np.unique(ids[ids > 0])
        )
        expected = 0.0
        if ids[row, col] == 0 and len(distances) > 1:
            expected = 10.0 * np.exp(-((distances[0] + distances[1]) ** 2) / 50.0)
        assert found[row, col] == pytest.approx(expected, rel=1e-5, abs=1e-9)
