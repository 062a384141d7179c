"""Sums over a journal."""

from pipeline.run_totals import RunTotals


def test_adds_up_what_happened():
    tile = {"event": "tile", "tile": "c", "status": "ok", "windows": 3, "pixels": 100}
    steps = {"read_s": 1.0, "segment_s": 2.0, "trace_s": 0.5, "wait_read_s": 0, "wait_trace_s": 0}
    totals = RunTotals(
        [
            {"event": "started", "begin": 10.0, "time": 10.0},
            {"event": "planned", "cell": [36, 0, 0], "tiles": 3, "time": 11.0},
            {"event": "model", "fingerprint": {"b": 1, "a": 2}, "time": 11.0},
            {"event": "model", "fingerprint": {"a": 2, "b": 1}, "time": 12.0},
            {**tile, **steps, "tile": "a", "stored": False, "time": 30.0},
            {**tile, **steps, "tile": "b", "stored": False, "time": 20.0},
            {**tile, "windows": 0, "stored": True, "time": 5.0},
            {"event": "tile", "tile": "d", "status": "failed", "time": 6.0},
            {"event": "stage", "name": "MergeSeams", "seconds": 0.25, "time": 31.0},
            {"event": "stage", "name": "MergeSeams", "seconds": 0.5, "time": 32.0},
        ]
    )
    assert (totals.num_segmented, totals.num_stored) == (2, 1)
    assert (totals.num_windows, totals.num_pixels) == (6, 300)
    assert (totals.begin, totals.first_tile_time) == (10.0, 16.5)
    assert totals.stage_s == {
        "Detect.read": 2.0,
        "Detect.segment": 4.0,
        "Detect.trace": 1.0,
        "Detect.wait_read": 0,
        "Detect.wait_trace": 0,
        "MergeSeams": 0.75,
    }
    assert totals.num_models == 2
    assert totals.fingerprint == {"a": 2, "b": 1}
    assert totals.fingerprints == [{"a": 2, "b": 1}]


def test_a_tile_of_an_earlier_try_counts_once():
    steps = dict.fromkeys(("read_s", "segment_s", "trace_s", "wait_read_s", "wait_trace_s"), 1.0)
    tile = {"event": "tile", "status": "ok", "windows": 3, "pixels": 100, "time": 1.0}
    stored = {**tile, "stored": True, "windows": 0}
    first = [{**tile, **steps, "tile": "a"}, {**stored, "tile": "c"}]
    second = [{**stored, "tile": "a"}, {**tile, **steps, "tile": "b"}, {**stored, "tile": "c"}]
    # Journals are read one worker after the other, not in the order of time.
    for events in (first + second, second + first):
        totals = RunTotals(events)
        assert (totals.num_segmented, totals.num_stored, totals.num_pixels) == (2, 1, 300)


def test_a_run_that_did_nothing():
    totals = RunTotals([])
    assert (totals.begin, totals.first_tile_time, totals.num_models) == (None, None, 0)
    assert totals.fingerprints == []
    assert set(totals.stage_s.values()) == {0}
