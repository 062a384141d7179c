"""`everyroof view` as a command: starting, ending, exporting, and what it refuses."""

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from drawn_footprints import draw_footprints
from running import run_command
from small_datasets import write_dataset

from pipeline.cli.view import view_command
from pipeline.viewer import exported_page


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("viewed") / "out", draw_footprints(300))


def test_it_starts_says_where_and_ends_when_interrupted(out):
    code = "from pipeline.cli.main import main; main()"
    command = [sys.executable, "-c", code, "view", str(out), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = re.match(r"(http://127\.0\.0\.1:\d+/) shows the result", server.stdout.readline())
            with urllib.request.urlopen(f"{url[1]}api/progress", timeout=30) as answer:
                assert answer.status == 200
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(30) in (0, 130)


def test_an_unfinished_run_is_refused(tmp_path):
    (tmp_path / "footprints").mkdir()
    result = run_command("view", str(tmp_path), "--no-browser")
    assert result.returncode == 2
    assert "the run has not finished" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_page_is_written_and_holds_its_area(out, tmp_path):
    page = tmp_path / "page.html"
    result = CliRunner().invoke(
        view_command, [str(out), "--export", str(page), "--bbox", "32.5,0.3,32.58,0.4"]
    )
    assert result.exit_code == 0, result.output
    table = draw_footprints(300)
    lon, lat = table["longitude"].to_numpy(), table["latitude"].to_numpy()
    inside = (lon >= 32.5) & (lon <= 32.58) & (lat >= 0.3) & (lat <= 0.4)
    assert 0 < inside.sum() < 300
    assert f"{inside.sum()} footprints" in result.output
    text = page.read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"'](?!data:)", text)


def test_too_many_footprints_for_a_page_are_refused(out, tmp_path, monkeypatch):
    monkeypatch.setattr(exported_page, "MAX_FOOTPRINTS", 299)
    page = tmp_path / "page.html"
    result = CliRunner().invoke(view_command, [str(out), "--export", str(page)])
    assert "holds 300 footprints; one page takes 299" in str(result.exception)
    assert "--bbox" in str(result.exception)
    assert not page.exists()


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--bbox", "1,2,3,4"], "--bbox narrows --export"),
        (["--export", "x.html", "--bbox", "1,2,3"], "expected four numbers"),
        (["--port", "70000"], "70000"),
        (["--host", "203.0.113.7"], "cannot answer on 203.0.113.7"),
    ],
)
def test_wrong_options_are_explained(out, arguments, answer):
    result = CliRunner().invoke(view_command, [str(out), "--no-browser", *arguments])
    assert result.exit_code != 0
    assert answer in result.output
