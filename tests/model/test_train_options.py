"""Ends, memory, several devices and the learning rate of a training."""

import csv
import dataclasses
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from place_drawings import checkered_place
from small_trainings import LIGHTNING_WARNINGS, NETWORK, small, weights_of

from model.bundle import load_bundle
from model.chip_losses import chip_losses
from model.chip_pack import write_pack
from model.errors import TrainingError
from model.learner import SegmenterTraining, make_edge_weights, warmed_up_average
from model.loss_sheet import draw_loss_sheet
from model.train_config import EdgeConfig
from model.training import train
from model.try_learning_rates import try_learning_rates
from model.validation import SourceScore, best_mean

pytestmark = LIGHTNING_WARNINGS


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "drawn.pack.zip"
    write_pack(
        path,
        [checkered_place("taught/one"), checkered_place("held_out/two", split="validation")],
    )
    return path


@pytest.fixture(autouse=True)
def _restore_threads() -> None:
    torch.set_num_threads(2)


def test_it_ends_when_nothing_gets_better(pack: Path, tmp_path: Path) -> None:
    config = small(
        pack, tmp_path, steps=40, validate_every=2, patience=2, learning_rate=1e-12, ema_decay=0.0
    )
    result = train(config)
    assert result.best_step == 2
    assert result.num_steps == 6


def test_a_training_that_has_ended_stays_ended(pack: Path, tmp_path: Path) -> None:
    config = small(
        pack, tmp_path, steps=40, validate_every=2, patience=1, learning_rate=1e-12, ema_decay=0.0
    )
    first = train(config)
    again = train(config, resume=True)
    assert first.num_steps == 4
    assert again.num_steps <= 5  # Lightning looks after a batch
    assert again.best_step == first.best_step


def test_what_time_ends_is_scored(pack: Path, tmp_path: Path) -> None:
    result = train(small(pack, tmp_path, steps=10_000, validate_every=10_000, max_minutes=0.02))
    assert 0 < result.best_step == result.num_steps < 10_000
    assert load_bundle(result.bundle).meta.provenance["best_step"] == result.best_step


class _Hungry(torch.nn.Module):
    """A network that runs out of memory from some batch size on."""

    def __init__(self, network: torch.nn.Module, limit: int) -> None:
        super().__init__()
        self.network, self.limit = network, limit

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.network(images)


@pytest.mark.parametrize("limit", [2, 0])
def test_the_batch_is_halved_when_memory_runs_out(
    pack: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: int,
) -> None:
    build = SegmenterTraining.__init__

    def build_hungry(self: SegmenterTraining, config: object) -> None:
        build(self, config)
        hungry = _Hungry(self.network, limit)
        self.training_step_network = hungry
        forward = self.network.forward
        self.network.forward = lambda images: (
            hungry(images) if self.network.training and len(images) > limit else forward(images)
        )

    monkeypatch.setattr(SegmenterTraining, "__init__", build_hungry)
    config = small(pack, tmp_path, steps=2, batch_size=8)
    if limit == 0:
        with pytest.raises(TrainingError, match="does not hold a batch of one chip of 64 px"):
            train(config)
        return
    result = train(config)
    assert load_bundle(result.bundle).meta.provenance["batch_size"] == 2
    told = [record.getMessage() for record in caplog.records if "out of memory" in record.message]
    assert [message.split(" from")[0] for message in told] == [
        "out of memory: batches of 4 chips",
        "out of memory: batches of 2 chips",
    ]


TWO = """
    import dataclasses, sys
    sys.path[:0] = {paths!r}
    from pathlib import Path
    import torch
    from small_trainings import small
    from model.training import train
    torch.set_num_threads(1)
    config = small(Path({pack!r}), Path({out!r}), steps=2, batch_size=1)
    train(dataclasses.replace(config, num_devices=2))
"""


def test_two_processes_learn_from_the_batch_of_one(pack: Path, tmp_path: Path) -> None:
    """DDP with one chip each: the same indices of a step as one process with two."""
    here = Path(__file__).parent
    script = tmp_path / "two.py"
    paths = [str(here), str(here.parent), str(here.parent.parent)]
    script.write_text(
        textwrap.dedent(TWO).format(paths=paths, pack=str(pack), out=str(tmp_path / "two"))
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = list(csv.DictReader((tmp_path / "two" / "scores.csv").read_text().splitlines()))
    num_thresholds = len(small(pack, tmp_path).validation_thresholds)
    assert [row["source"] for row in rows] == ["held_out"] * num_thresholds  # one process scores
    together = weights_of(tmp_path / "two" / "everyroof.safetensors")
    untrained = SegmenterTraining(small(pack, tmp_path)).network.state_dict()
    name = "encoder.conv1.weight"
    assert not torch.equal(together[name].float(), untrained[name].half().float())


def test_a_rate_is_suggested_and_nothing_is_kept(pack: Path, tmp_path: Path) -> None:
    tried = try_learning_rates(small(pack, tmp_path / "out"), num_steps=40)
    assert 1e-6 < tried.suggestion < 0.1
    rows = list(csv.DictReader(tried.csv.read_text().splitlines()))
    assert len(rows) == tried.num_rates > 10
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == sorted(rates)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["learning_rates.csv"]


def test_the_average_forgets_its_start() -> None:
    average = warmed_up_average(0.998)
    old = [torch.full((2,), 100.0), torch.tensor([1])]
    for step in range(1, 101):
        average(old, [torch.zeros(2), torch.tensor([step])], torch.tensor(step))
    # Slowly would leave 100 * 0.998 ** 100 = 82; here it is the product of (1 + n) / (10 + n).
    expected = 100.0 * math.prod((1 + n) / (10 + n) for n in range(1, 101))
    torch.testing.assert_close(old[0], torch.full((2,), expected), rtol=1e-3, atol=1e-9)
    assert old[1] == 100
    late = [torch.ones(1)]
    average(late, [torch.zeros(1)], torch.tensor(10**6))
    assert late[0] == pytest.approx(0.998)


def test_the_best_threshold_is_found_and_shipped(pack: Path, tmp_path: Path) -> None:
    scores = [
        SourceScore(threshold, source, 0.3, ap50, 0, 0, count)
        for threshold, source, ap50, count in (
            (0.3, "a", 0.5, 10),
            (0.3, "b", 0.3, 10),
            (0.6, "a", 0.4, 10),
            (0.6, "b", 0.45, 10),
            (0.6, "c", float("nan"), 0),
        )
    ]
    best = best_mean(scores, (0.3, 0.6))
    assert best.threshold == 0.6
    assert best.ap50 == pytest.approx(0.425)
    assert math.isnan(best_mean([], (0.3, 0.6, 0.7)).ap50)
    assert best_mean([], (0.3, 0.6, 0.7)).threshold == 0.5
    assert best_mean([], (0.35,)).threshold == 0.35
    config = dataclasses.replace(
        small(pack, tmp_path, steps=1, validate_every=1), validation_thresholds=(0.35,)
    )
    assert load_bundle(train(config).bundle).meta.threshold == 0.35


def test_frozen_norms_keep_their_statistics_and_learn_their_factors(
    pack: Path, tmp_path: Path
) -> None:
    first = train(small(pack, tmp_path / "a", steps=1, validate_every=1))
    config = dataclasses.replace(
        small(pack, tmp_path / "b", steps=2, validate_every=2, ema_decay=0.0, learning_rate=1e-2),
        init=str(first.bundle),
        has_frozen_norms=True,
    )
    before, after = weights_of(first.bundle), weights_of(train(config).bundle)
    statistics = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) > 20
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not torch.equal(before["encoder.bn1.weight"], after["encoder.bn1.weight"])


def test_both_kinds_of_edge_weights() -> None:
    ids = torch.zeros((1, 32, 32), dtype=torch.int32)
    ids[0, 8:24, 4:14] = 1
    ids[0, 8:24, 18:28] = 2
    gaussian = make_edge_weights(ids, EdgeConfig())
    unet = make_edge_weights(ids, EdgeConfig(kind="unet", sigma_px=5.0, amplitude=10.0))
    assert gaussian.shape == unet.shape == (1, 32, 32)
    for weights in (gaussian, unet):
        assert weights[0, 16, 16] > 2 * weights[0, 2, 2]  # the gap weighs more than open ground
    assert unet[0, 16, 8] == 0.0


def test_a_wrong_label_has_the_highest_loss(tmp_path: Path) -> None:
    """A trained network on a place where one window's labels are gone."""
    place = checkered_place("taught/one")
    pack = tmp_path / "pack.zip"
    write_pack(pack, [place])
    config = small(pack, tmp_path, steps=40, validate_every=40, learning_rate=3e-3, ema_decay=0.8)
    bundle = load_bundle(train(config).bundle)
    wrong = place.ids.copy()
    wrong[64:128, 128:192] = 0
    place = dataclasses.replace(place, ids=wrong)
    losses = list(
        chip_losses(bundle.build(), bundle.meta, [place], gsd_m=0.3, size_px=64, has_bf16=False)
    )
    assert len(losses) == 12
    worst = max(losses, key=lambda one: one.loss)
    assert worst.chip.corner == (64, 128)
    assert worst.loss > 2 * np.median([one.loss for one in losses])
    assert worst.missed_m2 == 0.0
    sheet = draw_loss_sheet([worst, losses[0], losses[1]])
    assert sheet.shape == (2 * 320, 2 * 900, 3)


def test_training_without_validation_keeps_the_last_step(tmp_path: Path) -> None:
    pack = tmp_path / "pack.zip"
    write_pack(pack, [checkered_place("taught/one")])
    result = train(small(pack, tmp_path / "out", steps=4))
    assert result.best_step == 4
    assert not (tmp_path / "out" / "scores.csv").exists()
    assert load_bundle(result.bundle).meta.network == NETWORK
