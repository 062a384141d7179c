"""Tiles of the ledger as the map shows them."""

from pathlib import Path

import pyarrow.parquet as pq
from written_datasets import footprints_of, write_dataset

from geo.grid import Tile
from pipeline.viewer.records import LEDGER_COLUMNS, outlined_tiles, tile_record
from pipeline.viewer.row_groups import open_file


def _ledger(folder: Path) -> Path:
    return write_dataset(folder / "out", footprints_of([], []), statuses={2: "failed"}) / (
        "tiles.parquet"
    )


def test_a_tile_says_how_many_windows_were_left_out(tmp_path: Path) -> None:
    path = _ledger(tmp_path)
    table = pq.read_table(path)
    place = table.schema.get_field_index("num_windows_left_out")
    counts = table["num_instances"].to_numpy() + range(3, 3 + table.num_rows)
    pq.write_table(table.set_column(place, table.schema.field(place), [counts]), path)
    groups = open_file(path)
    assert tile_record(groups, 2)["num_windows_left_out"] == 5
    assert [row["num_windows_left_out"] for row, _ in outlined_tiles(groups, 0)] == list(counts)


def test_a_ledger_of_an_earlier_version_leaves_nothing_out(tmp_path: Path) -> None:
    path = _ledger(tmp_path)
    now = tile_record(open_file(path), 2)
    pq.write_table(pq.read_table(path).drop_columns("num_windows_left_out"), path)
    groups = open_file(path)
    assert tile_record(groups, 2) == now
    assert (now["status"], now["num_windows_left_out"]) == ("failed", 0)
    for row, outline in outlined_tiles(groups, 0):
        assert set(row) == set(LEDGER_COLUMNS)
        assert outline.contains(outline.centroid)
        assert Tile.parse(row["tile"]).name == row["tile"]
