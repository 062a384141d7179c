"""The command line: plan, inspect and explain on a drawn scene; help without imports."""

import subprocess
import sys

import pytest
from click.testing import CliRunner
from running import ledger, make_config, run_here, write_config
from synthetic import draw_town, write_town

from pipeline.cli.main import cli


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("commands")
    image = write_town(tmp_path / "town.tif", draw_town(500, 500, seed=1))
    config = make_config(tmp_path, [image])
    write_config(config, tmp_path / "run.yaml")
    run_here(config)
    return tmp_path


def _call(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_plan_counts_and_draws(result):
    outcome = _call("plan", result / "run.yaml", "--picture", result / "plan.png")
    assert outcome.exit_code == 0, outcome.output
    assert "windows" in outcome.output
    assert "measured" in outcome.output
    assert (result / "plan.png").read_bytes()[:4] == b"\x89PNG"


def test_dry_run_does_nothing(result, tmp_path):
    image = result / "town.tif"
    outcome = _call(
        "run", "--dry-run", "--image", image, "--out", tmp_path / "o",
        "--model", result / "colour.safetensors",
    )  # fmt: skip
    # The packaged config has tiles of 4096 px, a whole number of the bundle's windows.
    assert outcome.exit_code == 0, outcome.output
    assert "tiles" in outcome.output
    assert not (tmp_path / "o").exists()


def test_inspect_counts_and_checks(result):
    outcome = _call("inspect", result / "out", "--check")
    assert outcome.exit_code == 0, outcome.output
    assert "match their checksums" in outcome.output
    shard = next((result / "out" / "footprints").glob("*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + b"x")
    try:
        outcome = _call("inspect", result / "out", "--check")
        assert outcome.exit_code != 0
        assert "does not match its checksum" in str(outcome.exception)
    finally:
        shard.write_bytes(data)


def test_inspect_of_an_unfinished_run_says_so(tmp_path):
    outcome = _call("inspect", tmp_path)
    assert "has not finished" in str(outcome.exception)


def test_explain_draws_every_stage(result):
    name = next(row["tile"] for row in ledger(result / "out") if row["status"] == "ok")
    outcome = _call("explain", result / "out", name, "--picture", result / "tile.png")
    assert outcome.exit_code == 0, outcome.output
    assert "footprints here" in outcome.output
    assert (result / "tile.png").stat().st_size > 20_000


def test_explain_names_tiles_that_exist(result):
    outcome = _call("explain", result / "out", "z01_g300mm_s512_r0_c0")
    assert "has no tile" in str(outcome.exception)
    outcome = _call("explain", result / "out", "tile")
    assert "no tile name" in str(outcome.exception)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from pipeline.cli.main import cli; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'apache_beam', 'numpy', 'rasterio')))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
