"""The tile store: whole files, attempts, damaged files told."""

import os

import numpy as np
import pyarrow as pa
import pytest

from geo.components import find_instances
from geo.pixel_window import PixelWindow
from geo.seams import split_cell
from pipeline.tile_store import (
    TileResult,
    TileStore,
    TileStoreError,
    read_batch,
    read_table,
    write_table,
)


def _result() -> TileResult:
    probability = np.zeros((32, 32), np.uint8)
    probability[4:10, 4:10] = 200
    probability[20:30, 25:32] = 180
    window = PixelWindow(-64, 96, 32, 32)
    level = split_cell(find_instances(probability, threshold=128, window=window), window, 1000)
    return TileResult(
        status="ok",
        whole=level.whole,
        pieces=level.open,
        image_versions=("v1",),
        num_pixels_valid=1024,
        num_windows=1,
        oversize=((1, 2, 3, 4),),
    )


def test_what_is_saved_is_loaded(tmp_path):
    store, result = TileStore(tmp_path), _result()
    assert not store.has_tile("ab12")
    store.save_tile("ab12", result)
    assert store.has_tile("ab12")
    loaded = store.load_tile("ab12")
    assert (len(loaded.whole), len(loaded.pieces)) == (1, 1)
    assert loaded.num_instances == 2
    assert loaded.oversize == result.oversize
    assert loaded.image_versions == ("v1",)
    np.testing.assert_array_equal(loaded.whole.run_row, result.whole.run_row)
    np.testing.assert_array_equal(loaded.pieces.bounds, result.pieces.bounds)


def test_attempts_are_counted_until_cleared(tmp_path):
    store = TileStore(tmp_path)
    assert store.num_attempts("ab") == 0
    store.mark_attempt("ab")
    store.mark_attempt("ab")
    assert store.num_attempts("ab") == 2
    store.clear_attempts("ab")
    store.clear_attempts("ab")
    assert store.num_attempts("ab") == 0


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "foreign"])
def test_damaged_files_are_named(tmp_path, damage):
    path = tmp_path / "t.arrow"
    write_table(path, pa.table({"a": list(range(1000))}), {"x": 1})
    assert read_table(path)[1] == {"x": 1}
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        table = pa.table({"a": [1]})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(TileStoreError, match=r"t\.arrow.*delete it"):
        read_table(path)


def test_each_chunk_is_a_batch_that_is_read_alone(tmp_path):
    path, table = tmp_path / "t.arrow", pa.table({"a": [[1], [2, 3], [], [4], [5, 6, 7]]})
    parts = [table.slice(0, 2), table.slice(2, 1), table.slice(3, 2)]
    write_table(path, pa.concat_tables(parts))
    for index, part in enumerate(parts):
        assert read_batch(path, index).equals(part)
    assert read_table(path)[0].equals(table)
    with pytest.raises(TileStoreError, match=r"t\.arrow.*delete it"):
        read_batch(path, 3)


def test_only_what_outlives_a_run_waits_for_the_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    write_table(tmp_path / "work" / "t.arrow", pa.table({"a": [1]}), is_rewritten=True)
    assert not flushed
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["t.arrow"]
    write_table(tmp_path / "tiles" / "t.arrow", pa.table({"a": [1]}))
    assert len(flushed) == 2  # the file and its folder
