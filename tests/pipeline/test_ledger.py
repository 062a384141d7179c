"""The ledger's parts make the same file as all rows at once."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from simulated_runs import make_simulated_spec

from geo.geoparquet import WriteConfig, write_ordered, write_shard
from pipeline import ledger
from pipeline.failures import TileNote, TileRecord
from pipeline.image_index import FailedImage
from pipeline.ledger import LEDGER_SCHEMA, join_ledger, part_of, write_part

STATUSES = ("ok", "empty", "nodata", "failed")


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    failed = [FailedImage(path="gone.tif", reason="gone.tif: no such file")]
    area = shapely.box(30, 0, 30.3, 0.3)
    spec = make_simulated_spec(tmp_path_factory.mktemp("job"), area, failed=failed)
    spec.out_path.mkdir()
    return spec


def _records(num, seed):
    """Tiles of two zones and both hemispheres, in random order."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(np.arange(num))
    keys = [(35 + int(p % 2), int(p // 40) - 30, int(p % 40)) for p in places]
    return [
        TileRecord(
            key=key, status=STATUSES[i % 4], reason="why" if i % 4 == 3 else "", num_instances=i
        )
        for i, key in enumerate(keys)
    ]


def _write(spec, records, notes):
    parts = [
        write_part(
            spec,
            key,
            [record for record in records if part_of(record.key) == key],
            [note for note in notes if part_of(note.key) == key],
        )
        for key in {part_of(record.key) for record in records}
    ]
    return join_ledger(spec, parts), (spec.out_path / "tiles.parquet").read_bytes()


@pytest.mark.parametrize("rows_per_part", [1, 16, 10_000])
def test_parts_make_the_same_file_whatever_their_size(spec, monkeypatch, rows_per_part):
    records = _records(3000, seed=1)
    notes = [TileNote(key=records[5].key, note=n) for n in ("b", "a")]
    _, expected = _write(spec, records, notes)
    monkeypatch.setattr(ledger, "ROWS_PER_PART", rows_per_part)
    summary, data = _write(spec, records[::-1], notes[::-1])
    assert data == expected
    assert summary.num_tiles == 3000
    assert summary.num_by_status == dict.fromkeys(sorted(STATUSES), 750)
    rows = pq.read_table(spec.out_path / "tiles.parquet", columns=["tile", "reason", "image"])
    assert len(rows) == 3001
    noted = [row for row in rows.to_pylist() if "a; b" in row["reason"]]
    zone, row, col = records[5].key
    assert [n["tile"] for n in noted] == [f"z{zone:02d}_g500mm_s4096_r{row}_c{col}"]


def test_a_job_without_tiles_has_a_ledger_too(spec):
    summary = join_ledger(spec, [])
    assert (summary.num_tiles, summary.num_by_status) == (0, {})
    assert pq.read_table(spec.out_path / "tiles.parquet")["image"].to_pylist() == ["gone.tif"]


@pytest.mark.parametrize("row_group_rows", [7, 100, 10_000])
def test_ordered_tables_give_the_bytes_of_one_table(tmp_path, spec, row_group_rows):
    table = ledger._tile_rows(spec, sorted(_records(1000, 2), key=lambda r: r.key), {})
    config = WriteConfig(row_group_rows=row_group_rows)
    whole = write_shard(tmp_path / "whole", [table], schema=LEDGER_SCHEMA, config=config)
    cuts = np.sort(np.random.default_rng(0).integers(0, 1001, 12)).tolist()
    parts = [table.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, 1000], strict=True)]
    made = write_ordered(
        tmp_path / "parts",
        [lambda part=part: pa.concat_tables([part]) for part in parts],
        schema=LEDGER_SCHEMA,
        config=config,
    )
    assert made == whole
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
