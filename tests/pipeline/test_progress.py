"""The journal, what is read from it, and how it is shown."""

import io
import json

import pytest
from rich.console import Console

from pipeline.journal import Journal, JournalReader
from pipeline.progress import BarView, LineView, RunState, format_duration


def test_reader_gives_every_whole_line_once(tmp_path):
    journal, reader = Journal(tmp_path / "a.jsonl"), JournalReader(tmp_path)
    journal.write("planned", cell=[36, 0, 0], tiles=3)
    assert [event["tiles"] for event in reader.new_events()] == [3]
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"event": "tile", "sta')
    assert list(reader.new_events()) == []
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('tus": "ok"}\n')
    assert [event["status"] for event in reader.new_events()] == ["ok"]


def test_reader_skips_a_torn_line_that_nobody_continued(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"event": "ti\n' + json.dumps({"event": "x"}) + "\n")
    assert [event["event"] for event in JournalReader(tmp_path).new_events()] == ["x"]


def _state() -> RunState:
    state = RunState()
    state.update({"event": "planned", "cell": [36, 0, 0], "tiles": 10, "time": 0.0})
    state.update({"event": "tile", "status": "ok", "stored": True, "instances": 5, "time": 1.0})
    for second in (12.0, 14.0):
        state.update(
            {"event": "tile", "status": "ok", "instances": 7, "time": second, "segment_s": 2.0}
        )
    return state


def test_rate_and_eta_count_only_tiles_that_were_worked_on():
    state = _state()
    assert (state.num_done, state.num_stored, state.num_found) == (3, 1, 19)
    assert state.tiles_per_s(14.0) == pytest.approx(0.5)
    assert state.eta_s(14.0) == pytest.approx(14.0)
    assert RunState().eta_s(14.0) is None


def test_a_job_that_its_engine_begins_anew_is_counted_anew():
    state = _state()
    state.update({"event": "planned", "cell": [36, 0, 1], "tiles": 4, "time": 15.0})
    assert state.num_planned == 14
    state.update({"event": "planned", "cell": [36, 0, 0], "tiles": 10, "time": 20.0})
    assert (state.num_planned, state.num_done, state.num_found) == (10, 0, 0)
    state.update({"event": "planned", "cell": [36, 0, 1], "tiles": 4, "time": 21.0})
    state.update({"event": "tile", "status": "ok", "stored": True, "instances": 7, "time": 22.0})
    assert (state.num_planned, state.num_done, state.num_stored) == (14, 1, 1)
    assert state.num_worked == 2


@pytest.mark.parametrize("view_class", [BarView, LineView])
def test_views_show_tiles_and_footprints(view_class):
    text = io.StringIO()
    view = view_class(Console(file=text, force_terminal=view_class is BarView, width=160))
    view.show(_state())
    view.say("a line of the log")
    view.close()
    assert "3/10" in text.getvalue()
    assert "19" in text.getvalue()
    assert "a line of the log" in text.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59, "59s"), (61, "1m01s"), (7320, "2h02m")]
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text
