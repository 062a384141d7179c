"""Killed runs, dead workers and poisoned tiles: the same result or a named failure."""

import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from running import (
    EVERYROOF,
    ledger,
    make_config,
    manifest,
    run_command,
    run_here,
    shard_hashes,
    with_options,
    write_config,
)
from synthetic import draw_town, write_cog, write_town

from pipeline.config import LimitConfig


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A config of a dozen tiles, as a file, and the shards of its undisturbed run."""
    tmp_path = tmp_path_factory.mktemp("job")
    image = write_town(tmp_path / "town.tif", draw_town(1400, 1300, seed=11))
    config = make_config(tmp_path, [image], grid={"tile_px": 512, "max_building_m": 1000.0})
    whole = run_here(with_options(config, output=str(tmp_path / "whole")))
    return tmp_path, config, shard_hashes(whole.out_path)


def _start(path: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [str(EVERYROOF), "run", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _stored(out: Path) -> set[str]:
    files = (out / ".tiles" / "tiles").glob("*/*.arrow")
    return {path.stem for path in files if ".open" not in path.name and path.name[0] != "."}


def _kill_tree(process: "subprocess.Popen[bytes]") -> None:
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in tree:
        _kill(member)
    process.wait()


def _kill(member: psutil.Process) -> None:
    try:
        member.kill()
    except psutil.NoSuchProcess:
        return


@pytest.mark.parametrize("num_stored", [0, 1, 5])
def test_killed_run_is_finished_by_the_same_command(job, tmp_path, num_stored):
    _, config, expected = job
    config = with_options(config, output=str(tmp_path / "out"))
    path = write_config(config, tmp_path / "run.yaml")
    process = _start(path)
    deadline = time.monotonic() + 120
    while len(_stored(tmp_path / "out")) < num_stored and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    _kill_tree(process)
    before = _stored(tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    result = run_command("run", str(path))
    assert result.returncode == 0, result.stderr
    assert shard_hashes(tmp_path / "out") == expected
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["tiles_stored"] == len(before)
    assert (
        run["tiles_stored"] + run["tiles_segmented"]
        == manifest(tmp_path / "out")["tiles"]["num_tiles"]
    )


def test_two_workers_give_the_same_bytes(job, tmp_path):
    _, config, expected = job
    path = write_config(with_options(config, output=str(tmp_path / "out")), tmp_path / "run.yaml")
    result = run_command("run", str(path), "--workers", "2")
    assert result.returncode == 0, result.stderr
    assert shard_hashes(tmp_path / "out") == expected


def test_two_workers_on_a_warped_image_give_the_same_bytes(tmp_path):
    town = draw_town(900, 800, seed=4, crs="EPSG:3857")
    image = write_cog(tmp_path / "town.tif", town)
    config = make_config(tmp_path, [image], output=str(tmp_path / "one"))
    expected = shard_hashes(run_here(config).out_path)
    path = write_config(with_options(config, output=str(tmp_path / "two")), tmp_path / "run.yaml")
    result = run_command("run", str(path), "--workers", "2")
    assert result.returncode == 0, result.stderr
    assert shard_hashes(tmp_path / "two") == expected
    assert expected


def test_dead_worker_ends_or_restarts_the_run_and_never_hangs(job, tmp_path):
    _, config, expected = job
    path = write_config(with_options(config, output=str(tmp_path / "out")), tmp_path / "run.yaml")
    process = subprocess.Popen(
        [str(EVERYROOF), "run", str(path), "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    worker = _wait_for_worker(process.pid)
    os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "a worker died" in errors
    assert shard_hashes(tmp_path / "out") == expected


def _wait_for_worker(pid: int) -> int:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for child in psutil.Process(pid).children(recursive=True):
            try:
                command = " ".join(child.cmdline())
            except psutil.NoSuchProcess:
                continue
            if "sdk_worker_main" in command and "sh" not in child.name():
                time.sleep(1.0)
                return child.pid
        time.sleep(0.05)
    raise AssertionError("no worker process was started")


def test_no_process_outlives_a_killed_supervisor(job, tmp_path):
    _, config, _ = job
    path = write_config(with_options(config, output=str(tmp_path / "out")), tmp_path / "run.yaml")
    process = _start(path)
    deadline = time.monotonic() + 60
    children: list[psutil.Process] = []
    while not children and time.monotonic() < deadline:
        children = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.05)
    time.sleep(2.0)
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert gone


def test_a_tile_that_always_kills_its_worker_ends_as_failed(job, tmp_path):
    _, config, _ = job
    config = with_options(config, output=str(tmp_path / "out"))
    path = write_config(config, tmp_path / "run.yaml")
    poisoned = sorted(_stored(job[0] / "whole"))[0]
    # A segfault in the middle of the work, as a broken image or driver would cause it.
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(POISON.format(tile=poisoned))
    result = run_command("run", str(path), PYTHONPATH=str(site))
    assert result.returncode == 1, result.stderr
    failed = [row for row in ledger(tmp_path / "out") if row["status"] == "failed"]
    assert len(failed) == 1
    assert "worker died" in failed[0]["reason"]
    assert manifest(tmp_path / "out")["counts"]["footprints"] > 0


POISON = """
import os, pathlib
_touch = pathlib.Path.touch
def _poisoned(self, *args, **kwargs):
    _touch(self, *args, **kwargs)
    if {tile!r} in str(self):
        os.kill(os.getpid(), 11)
pathlib.Path.touch = _poisoned
"""


def test_changed_image_recomputes_only_its_tiles(tmp_path):
    left = draw_town(600, 600, seed=1)
    right = draw_town(600, 600, seed=2, lon_deg=32.61)
    images = [write_town(tmp_path / "left.tif", left), write_town(tmp_path / "right.tif", right)]
    config = make_config(tmp_path, images)
    run_here(config)
    write_town(images[1], draw_town(600, 600, seed=9, lon_deg=32.61))
    again = run_here(config)
    run = json.loads((again.out_path / "run.json").read_text())
    assert run["tiles_stored"] > 0
    assert run["tiles_segmented"] > 0
    alone = run_here(
        dataclasses.replace(config, images=(str(images[0]),), output=str(tmp_path / "alone"))
    )
    assert run["tiles_stored"] == manifest(alone.out_path)["tiles"]["num_tiles"]


def test_a_tile_that_others_deaths_marked_is_tried_alone_and_delivered(job, tmp_path):
    folder, config, expected = job
    config = with_options(config, output=str(tmp_path / "out"), limits=LimitConfig(max_attempts=2))
    marks = tmp_path / "out" / ".tiles" / "attempts" / sorted(_stored(folder / "whole"))[0]
    marks.mkdir(parents=True)
    (tmp_path / "out" / ".everyroof").touch()
    for number in range(5):
        (marks / f"1-{number}").touch()
    result = run_command("run", str(write_config(config, tmp_path / "run.yaml")))
    assert result.returncode == 0, result.stderr
    assert shard_hashes(tmp_path / "out") == expected
    assert not marks.exists()


def test_outputs_that_share_a_store_leave_each_other_alone(job, tmp_path):
    _, config, expected = job
    store = str(tmp_path / "store")
    first = with_options(config, output=str(tmp_path / "a"), tile_store=store)
    second = with_options(config, output=str(tmp_path / "b"), tile_store=store)
    for number, options in enumerate((first, second, first)):
        run_here(options)
        assert len(list((tmp_path / "store" / "journal").iterdir())) == min(number + 1, 2)
        assert shard_hashes(Path(options.output)) == expected
    assert not (tmp_path / "store" / "work").exists()
