"""Whole jobs whose imagery, output, tile store, bundle and area lie in a bucket or on a server."""

import io
import json
import os
import shutil
import subprocess
import time
import urllib.request

import pyarrow.parquet as pq
import pytest
from image_server import serve_images
from running import (
    EVERYROOF,
    ledger,
    make_config,
    run_command,
    run_here,
    shard_hashes,
    with_options,
    write_config,
)
from s3_server import BUCKET, s3_environment, serve_s3, without_aws
from synthetic import draw_town, write_cog

from geo.places import as_place


@pytest.fixture(scope="module")
def service():
    with serve_s3() as url:
        yield url


@pytest.fixture(scope="module")
def aws(service):
    """The environment of a user of the service, for this process and its children."""
    with pytest.MonkeyPatch.context() as patch:
        for name in without_aws(os.environ):
            patch.delenv(name)
        for name, value in s3_environment(service).items():
            patch.setenv(name, value)
        yield service


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A config of a dozen tiles, its image, and the shards of its local run."""
    tmp_path = tmp_path_factory.mktemp("job")
    image = write_cog(tmp_path / "town.tif", draw_town(1400, 1300, seed=11))
    config = make_config(tmp_path, [image])
    whole = run_here(with_options(config, output=str(tmp_path / "whole")))
    return tmp_path, config, shard_hashes(whole.out_path)


def _remote(config, tmp_path, name, **options):
    """The config with everything in the bucket below a name."""
    root = as_place(f"s3://{BUCKET}/{name}")
    (root / "town.tif").upload(tmp_path / "town.tif")
    (root / "colour.safetensors").upload(tmp_path / "colour.safetensors")
    return root, with_options(
        config,
        images=(f"{root}/town.tif",),
        model=f"{root}/colour.safetensors",
        output=f"{root}/out",
        **options,
    )


def _hashes(out):
    import hashlib

    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (out / "footprints").iterdir()
    }


def _run_facts(out):
    return json.loads((out / "run.json").read_text())


def test_a_job_in_a_bucket_gives_the_bytes_of_the_local_one(job, aws, tmp_path):
    folder, config, expected = job
    root, remote = _remote(config, folder, "same", tile_store=f"s3://{BUCKET}/same/store")
    path = write_config(remote, tmp_path / "run.yaml")
    result = run_command("run", str(path), EVERYROOF_CACHE=str(tmp_path / "cache"))
    assert result.returncode == 0, result.stderr
    out = root / "out"
    assert _hashes(out) == expected
    facts = _run_facts(out)
    assert facts["tiles_segmented"] > 8
    assert facts["network_bytes"] >= 1
    assert 0 < facts["requests_per_tile"] < 30
    # Nothing but complete objects, and nothing of the work: what is there can be read.
    names = [str(path).removeprefix(f"{root}/") for path, _ in root.walk()]
    assert not [name for name in names if name.startswith(("store/work", "store/attempts"))]
    assert not [name for name in names if name.endswith(".tmp")]
    assert "very-secret-key" not in "".join(
        (out / name).read_text() for name in ("manifest.json", "run.json", "report.html")
    )
    shown = run_command("inspect", str(out), "--check")
    assert shown.returncode == 0, shown.stderr
    assert "match their checksums" in shown.stdout
    tile = pq.read_table(io.BytesIO((out / "tiles.parquet").read_bytes()))["tile"][0].as_py()
    picture = tmp_path / "tile.png"
    drawn = run_command("explain", str(out), tile, "--picture", str(picture))
    assert drawn.returncode == 0, drawn.stderr
    assert picture.exists()


def test_a_killed_job_in_a_bucket_is_finished_by_the_same_command(job, aws, tmp_path):
    folder, config, expected = job
    root, remote = _remote(config, folder, "killed")
    path = write_config(remote, tmp_path / "run.yaml")
    process = subprocess.Popen(
        [str(EVERYROOF), "run", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    tiles = root / "out" / ".tiles" / "tiles"
    deadline = time.monotonic() + 120
    while len(_tiles(tiles)) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    _kill_tree(process)
    num_before = len(_tiles(tiles))
    assert not (root / "out" / "manifest.json").exists()
    result = run_command("run", str(path))
    assert result.returncode == 0, result.stderr
    assert _hashes(root / "out") == expected
    assert _run_facts(root / "out")["tiles_stored"] >= num_before >= 3
    again = run_command("run", str(path))
    assert again.returncode == 0, again.stderr
    assert _run_facts(root / "out")["tiles_segmented"] == 0
    assert _hashes(root / "out") == expected


def _tiles(folder):
    return [path for path, _ in folder.walk() if ".open" not in path.name]


def _kill_tree(process):
    import psutil

    for member in [*psutil.Process(process.pid).children(recursive=True), process]:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def test_two_workers_share_nothing_but_the_bucket(job, aws, tmp_path):
    folder, config, expected = job
    root, remote = _remote(config, folder, "two")
    # The bundle is a file of the launcher's: workers elsewhere take the copy in the store.
    remote = with_options(remote, model=config.model)
    path = write_config(remote, tmp_path / "run.yaml")
    result = run_command("run", str(path), "--workers", "2")
    assert result.returncode == 0, result.stderr
    assert _hashes(root / "out") == expected
    bundles = [path.name for path, _ in (root / "out" / ".tiles" / "bundles").walk()]
    assert len(bundles) == 1


def test_trouble_with_the_bucket_comes_before_any_work(job, aws, tmp_path):
    _, config, _ = job
    path = write_config(with_options(config, output="s3://nobody/out"), tmp_path / "run.yaml")
    result = run_command("run", str(path))
    assert result.returncode == 2
    assert "s3://nobody does not exist; create it" in result.stderr
    result = run_command("run", str(path), "--dry-run")
    assert result.returncode == 2
    assert "s3://nobody does not exist" in result.stderr
    root = as_place(f"s3://{BUCKET}/foreign")
    (root / "holiday.jpg").write_bytes(b"x")
    path = write_config(with_options(config, output=str(root)), tmp_path / "run.yaml")
    result = run_command("run", str(path))
    assert result.returncode == 2
    assert "holiday.jpg" in result.stderr
    assert [path.name for path in root.iterdir()] == ["holiday.jpg"]


@pytest.fixture
def served(job, tmp_path, monkeypatch):
    """The job's image on a server beside one that does well, and the job's local result."""
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(job[0] / "town.tif", folder / "town.tif")
    write_cog(folder / "other.tif", draw_town(1400, 1300, seed=12))
    write_cog(folder / "far.tif", draw_town(500, 500, seed=5, lon_deg=32.65))
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    with serve_images(folder) as server:
        config = with_options(
            job[1],
            images=(f"{server.url}/town.tif?X-Amz-Signature=topsecret", f"{server.url}/far.tif"),
            output=str(tmp_path / "out"),
        )
        local = with_options(
            config,
            images=(str(folder / "town.tif"), str(folder / "far.tif")),
            output=str(tmp_path / "local"),
        )
        yield server, folder, config, shard_hashes(run_here(local).out_path)


@pytest.mark.parametrize("fault", ["503", "cut", "stall"])
def test_a_server_in_passing_trouble_changes_nothing(served, fault):
    server, _, config, expected = served
    server.misbehave(fault, times=2, after=12, path="/town.tif")
    out = run_here(config).out_path
    assert shard_hashes(out) == expected
    _no_secrets(out)


@pytest.mark.parametrize("fault", ["503", "change"])
def test_lasting_trouble_fails_its_tiles_and_the_rest_is_delivered(served, fault, tmp_path):
    server, folder, config, expected = served
    if fault == "change":
        server.change_after(16, "/town.tif", folder / "other.tif")
    else:
        server.misbehave(fault, after=16, path="/town.tif")
    out = run_here(config).out_path
    rows = ledger(out)
    failed = [row for row in rows if row["status"] == "failed"]
    reason = "changed on its server under the job; run again" if fault == "change" else "503"
    assert failed
    assert all("town.tif" in row["reason"] and reason in row["reason"] for row in failed)
    done = [row for row in rows if row["status"] in ("ok", "empty", "nodata")]
    assert any(row["num_instances"] for row in done)
    _no_secrets(out)
    server.misbehave("")
    again = run_here(config).out_path
    assert not [row for row in ledger(again) if row["status"] == "failed"]
    if fault == "change":
        urllib.request.urlopen(f"{server.url}/town.tif", timeout=10).close()
        sources = (str(folder / "town.tif"), str(folder / "far.tif"))
        fresh = with_options(config, images=sources, output=str(tmp_path / "fresh"))
        expected = shard_hashes(run_here(fresh).out_path)
    assert shard_hashes(again) == expected


def _no_secrets(out):
    for name in ("manifest.json", "run.json", "report.html"):
        assert "topsecret" not in (out / name).read_text()
    for name in ("tiles.parquet", "images.parquet"):
        assert "topsecret" not in str(pq.read_table(out / name).to_pylist())
    for path in (out / ".tiles" / "journal").glob("*/*"):
        assert "topsecret" not in path.read_text()
