"""Training, small and on the CPU: to the bit again, after a kill too, and it learns."""

import dataclasses
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import safetensors.torch
import torch
from place_drawings import checkered_place
from small_trainings import LIGHTNING_WARNINGS, same, small, weights_of

from model.bundle import load_bundle
from model.chip_pack import write_pack
from model.chips import ChipConfig
from model.errors import TrainingError
from model.mixup import MixupConfig
from model.training import train

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


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / "last.ckpt", weights_only=False)
    return checkpoint["state_dict"]


def test_a_seed_repeats_to_the_bit_and_gives_a_bundle(pack: Path, tmp_path: Path) -> None:
    first = train(small(pack, tmp_path / "a"))
    second = train(small(pack, tmp_path / "b"))
    assert same(first.bundle, second.bundle)
    other = train(dataclasses.replace(small(pack, tmp_path / "c"), seed=1))
    assert not same(first.bundle, other.bundle)
    meta = load_bundle(first.bundle).meta
    assert meta.erosion_px == 1
    assert meta.valley_depth == 0.35
    assert meta.provenance["best_step"] == first.best_step
    scores = (tmp_path / "a" / "scores.csv").read_text()
    assert "held_out" in scores
    assert "taught" not in scores


def test_without_numba_nothing_is_cut_and_the_bundle_says_so(
    pack: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("model.training.importlib.util.find_spec", lambda name: None)
    # A second import would fail: numba is taken for missing.
    monkeypatch.setitem(sys.modules, "geo.watershed", None)
    result = train(small(pack, tmp_path, steps=1, validate_every=1))
    assert load_bundle(result.bundle).meta.valley_depth == 0.0
    assert "numba is not installed" in caplog.text


KILLED = """
    import os, signal, sys
    sys.path[:0] = {paths!r}
    from pathlib import Path
    import test_training as t
    import model.training as training
    update = training.SegmenterTraining.on_train_batch_end
    def die(self, outputs, batch, batch_idx):
        update(self, outputs, batch, batch_idx)
        if int(batch["step"]) == {step}:
            os.kill(os.getpid(), signal.SIGKILL)
    training.SegmenterTraining.on_train_batch_end = die
    t.torch.set_num_threads(2)
    training.train(t.small(Path({pack!r}), Path({out!r})), resume=True)
"""


def kill_training(pack: Path, out: Path, *, step: int) -> None:
    """Train, or go on, in a process of its own that is killed after a step."""
    here = Path(__file__).parent
    script = textwrap.dedent(KILLED).format(
        paths=[str(here), str(here.parent), str(here.parent.parent)],
        pack=str(pack),
        out=str(out),
        step=step,
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]


@pytest.mark.parametrize("steps", [(2,), (2, 4)], ids=["early", "twice"])
def test_going_on_after_kills_equals_the_unbroken_training(
    pack: Path, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    """Checkpoints after 2 and 4 of 6 steps; killed soon after them."""
    train(small(pack, tmp_path / "whole"))
    for step in steps:
        kill_training(pack, tmp_path / "broken", step=step)
    result = train(small(pack, tmp_path / "broken"), resume=True)
    assert result.num_steps == 6
    whole, broken = last_weights(tmp_path / "whole"), last_weights(tmp_path / "broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert same(tmp_path / "whole" / "everyroof.safetensors", result.bundle)


def test_only_the_same_training_goes_on(pack: Path, tmp_path: Path) -> None:
    config = small(pack, tmp_path, steps=2)
    train(config)
    longer = dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, steps=4))
    with pytest.raises(TrainingError, match=r"another training: schedule\.steps differ"):
        train(longer, resume=True)
    again = train(config, resume=True)  # nothing is left to do
    assert again.num_steps == 2
    assert train(longer).num_steps == 4  # afresh


def test_it_learns_a_drawn_place(pack: Path, tmp_path: Path) -> None:
    config = small(pack, tmp_path, steps=30, validate_every=30, learning_rate=3e-3, ema_decay=0.9)
    config = dataclasses.replace(
        config,
        mixup=MixupConfig(alpha=0.0),
        chips=ChipConfig(size_px=96, gsd_m=(0.3, 0.3001)),
    )
    untrained = train(
        dataclasses.replace(
            config,
            output=str(tmp_path / "no"),
            schedule=dataclasses.replace(config.schedule, steps=1, validate_every=1),
        )
    )
    trained = train(config)
    assert trained.best_ap50 > untrained.best_ap50 + 0.2


def test_initial_weights_are_used_and_checked(pack: Path, tmp_path: Path) -> None:
    first = train(small(pack, tmp_path / "a", steps=1, validate_every=1))
    tiny = small(pack, tmp_path / "b", steps=1, validate_every=1, learning_rate=1e-8)
    second = train(dataclasses.replace(tiny, init=str(first.bundle), seed=3))
    name = "encoder.conv1.weight"
    torch.testing.assert_close(
        weights_of(first.bundle)[name], weights_of(second.bundle)[name], atol=1e-3, rtol=0
    )
    with pytest.raises(TrainingError, match="there is no such file"):
        train(dataclasses.replace(tiny, init=str(tmp_path / "absent.safetensors")))
    four = safetensors.torch.load_file(first.bundle)
    four["encoder.conv1.weight"] = torch.zeros(64, 4, 7, 7)
    safetensors.torch.save_file(four, tmp_path / "four.safetensors")
    with pytest.raises(TrainingError, match=r"\(64, 4, 7, 7\), expected \(64, 3, 7, 7\)"):
        train(dataclasses.replace(tiny, init=str(tmp_path / "four.safetensors")))
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(TrainingError, match="made for another network"):
        train(dataclasses.replace(tiny, init=str(tmp_path / "other.safetensors")))


def test_importing_it_needs_nothing_geospatial() -> None:
    heavy = ("rasterio", "geopandas", "shapely", "pyproj", "numba")
    script = f"import sys, model.training; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"
