"""A real Flink cluster: the bytes of a local run, and the faults that clusters have.

`make test-flink` fetches Flink and Beam's job server and runs these; plain pytest leaves them out.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest
from flink_cluster import JARS, FlinkCluster, wait_for
from running import (
    EVERYROOF,
    ledger,
    make_config,
    manifest,
    run_here,
    shard_hashes,
    with_options,
    write_config,
)
from synthetic import draw_town, write_town

from model.shipped import shipped_bundle_path
from pipeline.flink_jobs import ENDED

pytestmark = [
    pytest.mark.flink,
    pytest.mark.skipif(not JARS.is_dir(), reason="no Flink here; `make test-flink` fetches it"),
    # Some of them run a job, wait for something in it, and run it again.
    pytest.mark.timeout(1500),
]
SCENES = Path(__file__).parents[3] / "shared" / "data" / "scenes"
# A minute where the machine is ours; virtual ones are held up by others, now and then for minutes.
RUN_S = 600


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with FlinkCluster(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _healthy(cluster):
    """Every test begins and ends with two TaskManagers, no job and no fault."""
    yield
    cluster.set_faults()
    cluster.mend()


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A config of a dozen and more tiles, and the shards of its local run."""
    tmp_path = tmp_path_factory.mktemp("town")
    image = write_town(tmp_path / "town.tif", draw_town(1400, 1300, seed=11))
    config = make_config(tmp_path, [image], grid={"tile_px": 256, "max_building_m": 100.0})
    whole = run_here(with_options(config, output=str(tmp_path / "whole")))
    return config, shard_hashes(whole.out_path), manifest(whole.out_path)["tiles"]["num_tiles"]


class Launcher:
    """`everyroof run` on the cluster, as a process."""

    def __init__(self, cluster: FlinkCluster, config, tmp_path: Path, *options: str) -> None:
        self.out = Path(config.output)
        self._cluster = cluster
        self._log = tmp_path / "launcher.log"
        command = [str(EVERYROOF), "run", str(write_config(config, tmp_path / "run.yaml"))]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *options, "--", *cluster.beam_flags],
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
                # A shell's background jobs ignore it, and what they start does, too.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self) -> int:
        return self.process.wait(RUN_S)

    def wait_for_tiles(self, number: int) -> None:
        """Until that many tiles are stored, with the run still going on."""

        def has_tiles() -> bool:
            assert self.process.poll() is None, self.said
            return len(stored_tiles(self.out)) >= number

        wait_for(has_tiles, f"{number} stored tiles", RUN_S)

    def wait_for_workers_beside(self, index: int) -> list[psutil.Process]:
        """Those of one TaskManager that have finished a tile, as soon as there are some.

        The first tiles of a run may all be the other one's: one starts later by as much as a model
        takes to load.
        """

        def busy() -> list[psutil.Process]:
            assert self.process.poll() is None, self.said
            pids = busy_workers(self.out)
            return [worker for worker in self._cluster.workers_beside(index) if worker.pid in pids]

        wait_for(lambda: bool(busy()), f"a tile of TaskManager {index}", RUN_S)
        return busy()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def stored_tiles(out: Path) -> set[str]:
    files = (out / ".tiles" / "tiles").glob("*/*.arrow")
    return {path.stem for path in files if ".open" not in path.name and path.name[0] != "."}


def journal(out: Path) -> list[dict]:
    """All events of all runs, each with the process that wrote it."""
    events = []
    for path in (out / ".tiles" / "journal").glob("*/*.jsonl"):
        pid = int(path.name.split("-")[0])
        events += [{"pid": pid, **json.loads(line)} for line in path.read_text().splitlines()]
    return events


def busy_workers(out: Path) -> set[int]:
    """Processes that finished a tile of the first try, and are at the next."""
    return {event["pid"] for event in journal(out) if "segment_s" in event}


def num_plans(out: Path) -> int:
    """How often the tiles were listed: once for each try of the job."""
    return sum(event["event"] == "planned" for event in journal(out))


def segmented(out: Path) -> Counter[str]:
    """How often each tile went through the network to its end."""
    return Counter(e["tile"] for e in journal(out) if "segment_s" in e)


def test_drawn_town_has_the_bytes_of_a_local_run(cluster, town, tmp_path):
    config, expected, num_tiles = town
    run = Launcher(cluster, with_options(config, output=str(tmp_path / "out")), tmp_path)
    assert run.wait() == 0, run.said
    assert shard_hashes(run.out) == expected
    assert manifest(run.out)["tiles"]["num_by_status"].keys() <= {"ok", "empty", "nodata"}
    assert set(segmented(run.out).values()) == {1}
    assert len(segmented(run.out)) == num_tiles


@pytest.mark.parametrize("scene", ["kampala_a", "banepa"])
def test_real_scene_has_the_bytes_of_a_local_run(cluster, tmp_path, scene):
    image = SCENES / f"{scene}.tif"
    if not image.exists():
        pytest.skip(f"{image.name}: no real imagery here")
    config = make_config(
        tmp_path,
        [image],
        model=str(shipped_bundle_path()),
        grid={"gsd_m": 0.5, "tile_px": 1024},
        segment={"window_px": 512},
    )
    local = run_here(with_options(config, output=str(tmp_path / "local")))
    run = Launcher(cluster, with_options(config, output=str(tmp_path / "out")), tmp_path)
    assert run.wait() == 0, run.said
    assert shard_hashes(run.out) == shard_hashes(local.out_path)
    assert manifest(run.out)["counts"]["footprints"] > 0


def test_tiles_spread_over_both_task_managers(cluster, tmp_path):
    image = write_town(tmp_path / "town.tif", draw_town(1900, 1900, seed=3))
    config = make_config(
        tmp_path,
        [image],
        grid={"tile_px": 128, "max_building_m": 30.0},
        segment={"window_px": 128},
    )
    run = Launcher(cluster, config, tmp_path)
    assert run.wait() == 0, run.said
    shares = Counter(event["pid"] for event in journal(run.out) if "segment_s" in event)
    assert sum(shares.values()) >= 200
    assert len(shares) == 2
    assert min(shares.values()) >= 0.4 * sum(shares.values())


def test_killed_worker_costs_a_restart_and_nothing_else(cluster, town, tmp_path):
    config, expected, num_tiles = town
    cluster.set_faults(sleep_s=0.3)
    run = Launcher(cluster, with_options(config, output=str(tmp_path / "out")), tmp_path)
    run.wait_for_tiles(4)
    os.kill(busy_workers(run.out).pop(), signal.SIGKILL)
    assert run.wait() == 0, run.said
    assert num_plans(run.out) == 2
    assert shard_hashes(run.out) == expected
    assert_nothing_twice(run.out, num_tiles)


def test_killed_task_manager_is_replaced_and_the_job_goes_on(cluster, town, tmp_path):
    config, expected, num_tiles = town
    cluster.set_faults(sleep_s=0.3)
    run = Launcher(cluster, with_options(config, output=str(tmp_path / "out")), tmp_path)
    run.wait_for_tiles(4)
    orphans = run.wait_for_workers_beside(1)
    cluster.kill("task-manager-1")
    cluster.start_task_manager(1)
    assert run.wait() == 0, run.said
    assert num_plans(run.out) == 2
    assert shard_hashes(run.out) == expected
    assert_nothing_twice(run.out, num_tiles)
    # Ended, though the pool that started it has not asked for its exit status.
    wait_for(lambda: all(map(has_ended, orphans)), "the end of the workers", 30)


def test_killed_job_manager_is_named_and_the_same_command_resumes(cluster, town, tmp_path):
    config, expected, num_tiles = town
    cluster.set_faults(sleep_s=0.3)
    config = with_options(config, output=str(tmp_path / "out"))
    run = Launcher(cluster, config, tmp_path)
    run.wait_for_tiles(4)
    cluster.kill("job-manager")
    assert run.wait() != 0
    assert "JobManager" in run.said
    assert not (run.out / "manifest.json").exists()
    before = stored_tiles(run.out)
    cluster.set_faults()
    cluster.mend()
    again = Launcher(cluster, config, tmp_path)
    assert again.wait() == 0, again.said
    assert shard_hashes(run.out) == expected
    assert before <= stored_tiles(run.out)
    assert_nothing_twice(run.out, num_tiles)


def test_killed_launcher_leaves_a_job_that_the_same_command_follows(cluster, town, tmp_path):
    config, expected, num_tiles = town
    cluster.set_faults(sleep_s=0.5)
    config = with_options(config, output=str(tmp_path / "out"))
    run = Launcher(cluster, config, tmp_path)
    run.wait_for_tiles(2)
    family = run.family()
    run.process.kill()
    run.process.wait()
    assert not psutil.wait_procs(family, timeout=30)[1], "processes outlive the launcher"
    num_jobs = len(cluster.jobs())
    cluster.set_faults(sleep_s=2.0)
    again = Launcher(cluster, config, tmp_path)
    wait_for(lambda: "runs already" in again.said, "following the job", 60)
    cluster.set_faults()
    assert again.wait() == 0, again.said
    assert len(cluster.jobs()) == num_jobs
    assert shard_hashes(run.out) == expected
    assert_nothing_twice(run.out, num_tiles)


def test_interrupt_stops_the_job_on_the_cluster(cluster, town, tmp_path):
    config, _, _ = town
    cluster.set_faults(sleep_s=0.5)
    run = Launcher(cluster, with_options(config, output=str(tmp_path / "out")), tmp_path)
    run.wait_for_tiles(2)
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 130, run.said
    assert cluster.jobs()[0]["state"] in ENDED | {"CANCELLING"}
    wait_for(lambda: not cluster.active_jobs(), "the job's end", 30)
    assert "resumes" in run.said


def test_interrupt_on_a_terminal_asks_before_it_stops_the_job(cluster, town, tmp_path):
    config, expected, _ = town
    cluster.set_faults(sleep_s=0.5)
    config = with_options(config, output=str(tmp_path / "out"))
    path = write_config(config, tmp_path / "run.yaml")
    person, terminal = os.openpty()
    process = subprocess.Popen(
        [str(EVERYROOF), "run", str(path), "--", *cluster.beam_flags],
        stdin=terminal,
        stderr=terminal,
        stdout=terminal,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(terminal)
    said = []
    reader = threading.Thread(target=_read_all, args=(person, said), daemon=True)
    reader.start()
    wait_for(lambda: len(stored_tiles(tmp_path / "out")) >= 2, "two tiles", RUN_S)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: "on the engine, too?" in b"".join(said).decode(), "the question", 30)
    os.write(person, b"n\n")
    assert process.wait(60) == 130
    assert len(cluster.active_jobs()) == 1
    cluster.set_faults(sleep_s=2.0)
    again = Launcher(cluster, config, tmp_path)
    wait_for(lambda: "runs already" in again.said, "following the job", 60)
    cluster.set_faults()
    assert again.wait() == 0, again.said
    assert shard_hashes(again.out) == expected


def _read_all(terminal: int, said: list[bytes]) -> None:
    # Reading fails once the other end of a terminal is closed.
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 4096):
            said.append(chunk)


def test_poisoned_tile_fails_after_a_few_tries_and_the_rest_is_delivered(cluster, town, tmp_path):
    config, _, num_tiles = town
    config = with_options(config, output=str(tmp_path / "out"))
    poisoned = sorted(segmented(Path(town[0].output).parent / "whole"))[num_tiles // 2]
    cluster.set_faults(kill_at=poisoned)
    run = Launcher(cluster, config, tmp_path)
    assert run.wait() == 1, run.said
    rows = {row["tile"]: row for row in ledger(run.out)}
    failed = [row for row in rows.values() if row["status"] == "failed"]
    assert [row["tile"] for row in failed] == [poisoned]
    assert "worker died" in failed[0]["reason"]
    assert len(rows) == num_tiles
    assert manifest(run.out)["counts"]["footprints"] > 0


def assert_nothing_twice(out: Path, num_tiles: int) -> None:
    """Every tile is stored once; only tiles under way at the fault may have been begun again."""
    assert len(stored_tiles(out)) == num_tiles
    again = [tile for tile, number in segmented(out).items() if number > 1]
    assert not again


def test_unreachable_cluster_is_named_at_once(town, tmp_path, cluster):
    config, _, _ = town
    config = with_options(config, output=str(tmp_path / "out"))
    path = write_config(config, tmp_path / "run.yaml")
    flags = [flag for flag in cluster.beam_flags if "flink_master" not in flag]
    result = subprocess.run(
        [str(EVERYROOF), "run", str(path), "--", *flags, "--flink_master=127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    assert result.returncode == 2
    assert "127.0.0.1:1 does not answer" in result.stderr
    with contextlib.suppress(FileNotFoundError):
        assert not list(tmp_path.joinpath("out").iterdir())
