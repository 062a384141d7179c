"""Means of weights."""

import dataclasses

import pytest
import torch
from small_trainings import NETWORK

from model.bundle import Bundle, BundleMeta
from model.errors import BundleError
from model.unet import build_network
from model.weight_average import average_bundles, average_states


def bundle(seed: int, **changes: object) -> Bundle:
    torch.manual_seed(seed)
    meta = BundleMeta(
        name=f"seed {seed}",
        network=NETWORK,
        bands=("red", "green", "blue"),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        gsd_m=0.3,
        threshold=0.3,
        calibration=((0.0, 0.1), (1.0, 0.9)),
        provenance={"seed": seed},
    )
    state = build_network(NETWORK).state_dict()
    return Bundle(dataclasses.replace(meta, **changes), state, f"{seed:064}")  # type: ignore[arg-type]


def test_states_by_hand() -> None:
    one = {"weight": torch.tensor([1.0, -2.0]), "count": torch.tensor(7)}
    two = {"weight": torch.tensor([3.0, 2.0]), "count": torch.tensor(9)}
    mean = average_states([one, two], (0.25, 0.75))
    assert mean["weight"].tolist() == [2.5, 1.0]
    assert mean["count"] == 7
    half = average_states([{"weight": one["weight"].half()}, two], (0.5, 0.5))
    assert half["weight"].dtype == torch.float16
    assert half["weight"].tolist() == [2.0, 0.0]


def test_equal_weights_stay_as_they_are() -> None:
    one = bundle(1)
    two = dataclasses.replace(one, meta=dataclasses.replace(one.meta, provenance={"seed": 2}))
    assert "seed" not in average_bundles([one, two], (0.5, 0.5))[0].provenance
    meta, state = average_bundles([one, one, one], (0.2, 0.3, 0.5))
    assert meta.provenance["seed"] == 1
    for name, tensor in one.state_dict.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-6, atol=0)
    assert meta.calibration == ()
    assert [part["share"] for part in meta.provenance["mean_of"]] == [0.2, 0.3, 0.5]
    assert meta.provenance["mean_of"][0]["provenance"] == {"seed": 1}
    kept = {"calibration": one.meta.calibration, "provenance": one.meta.provenance}
    assert dataclasses.replace(meta, **kept) == one.meta  # type: ignore[arg-type]


def test_one_share_of_1_gives_that_bundle() -> None:
    one, two = bundle(1), bundle(2)
    _, state = average_bundles([one, two], (0.0, 1.0))
    assert all(torch.equal(state[name], tensor) for name, tensor in two.state_dict.items())


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.5,), "expected 2 numbers"),
        ((1.5, -0.5), "expected 2 numbers from 0 on"),
        ((0.5, 0.6), "add up to 1.1; expected 1"),
    ],
)
def test_shares_that_do_not_fit(shares: tuple[float, ...], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        average_bundles([bundle(1), bundle(2)], shares)


@pytest.mark.parametrize(
    "changes", [{"erosion_px": 2}, {"mean": (0.4, 0.5, 0.5)}, {"valley_depth": 0.2}]
)
def test_bundles_that_do_not_fit(changes: dict[str, object]) -> None:
    with pytest.raises(BundleError, match=rf"'seed 2' has {next(iter(changes))} = .*'seed 1' has"):
        average_bundles([bundle(1), bundle(2, **changes)], (0.5, 0.5))
