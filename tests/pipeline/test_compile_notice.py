import json
from pathlib import Path

import numba
import pytest

from pipeline import compile_notice
from pipeline.compile_notice import tell_of_compiling
from pipeline.journal import Journal
from pipeline.progress import RunState


def _events(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_kernel_that_no_cache_holds_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_notice, "INTERVAL_S", 3600.0)
    tell_of_compiling(Journal(tmp_path / "earlier"))
    tell_of_compiling(Journal(tmp_path / "journal"))

    @numba.njit
    def doubled(value: int) -> int:
        return 2 * value

    assert doubled(4) == 8
    assert [event["event"] for event in _events(tmp_path / "journal")] == ["compiling"]
    # The next kernel, and this one again, follow too soon to be told of.
    assert doubled(4.0) == doubled(4) == 8
    assert len(_events(tmp_path / "journal")) == 1
    assert not _events(tmp_path / "earlier")


def test_what_is_compiled_already_is_not_told_of(tmp_path: Path) -> None:
    @numba.njit
    def tripled(value: int) -> int:
        return 3 * value

    tripled(2)
    tell_of_compiling(Journal(tmp_path / "journal"))
    assert tripled(3) == 9
    assert not _events(tmp_path / "journal")


def test_a_journal_that_cannot_be_written_fails_no_kernel(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    journal = Journal(tmp_path / "folder" / "journal")
    (tmp_path / "folder").rmdir()
    tell_of_compiling(journal)

    @numba.njit
    def quadrupled(value: int) -> int:
        return 4 * value

    assert quadrupled(2) == 8


def test_the_progress_says_so_until_something_else_happens() -> None:
    state = RunState()
    state.update({"event": "compiling", "time": 1.0})
    assert state.stage == "compiling kernels, once on this machine"
    state.update({"event": "stage", "time": 2.0, "name": "FinishFootprints", "footprints": 3})
    assert state.stage == "finishing"
