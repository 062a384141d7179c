"""WriteShards and WriteLedger: final tables -> GeoParquet by S2 cell, and the ledger of tiles."""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.footprints import FOOTPRINT_SCHEMA
from geo.geoparquet import SORT_COLUMN, write_shard
from geo.s2cells import cell_from_token, cell_range
from geo.shards import ShardPlan, merge_counts, plan_shards
from pipeline.counters import count, note_element
from pipeline.failures import TileNote, TileRecord
from pipeline.finish import work_name
from pipeline.ledger import LedgerPart, join_ledger, part_of, write_part
from pipeline.packing import (
    as_kind,
    of_kind,
    pack_key,
    pack_note,
    pack_record,
    unpack_key,
    unpack_note,
    unpack_record,
)
from pipeline.resolve import CellCounts
from pipeline.spec import JobSpec, TileKey
from pipeline.tile_store import TileStore, read_table

Counts = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]
"""S2 cells, each once, and the number of footprints in each."""
MAX_PARTS = 64
"""Counts of tiles that wait until they are added up."""
# Kinds of what a part of the ledger is made of (`packing.as_kind`).
_RECORD, _NOTE = b"r", b"n"
PUBLIC_SCHEMA = FOOTPRINT_SCHEMA.remove(FOOTPRINT_SCHEMA.get_field_index(SORT_COLUMN))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrittenShard:
    """One file of the output.

    Attributes:
        token: S2 cell token.
        path: relative to the output folder.
        num_rows: footprints.
        num_bytes: size of the file.
        bounds: (xmin, ymin, xmax, ymax) in degrees.
        sha256: hash of the file.
        area_m2: sum of the footprints' areas.
    """

    token: str
    path: str
    num_rows: int
    num_bytes: int
    bounds: tuple[float, float, float, float]
    sha256: str
    area_m2: float


class WriteShards(beam.PTransform):
    """Final tables to balanced shards.

    Element in: (tile key, counts per S2 cell). Element out: `WrittenShard`. Keyed by shard.
    Counted: shards, footprints. Retries are safe: a shard appears whole or not at all, under the
    same name.
    """

    def __init__(self, spec: JobSpec) -> None:
        super().__init__()
        self._spec = spec

    def expand(self, resolved: Any) -> Any:
        """Wire the transform."""
        plan = beam.pvalue.AsSingleton(
            resolved
            | "CellCounts" >> beam.Values()
            # Without footprints nobody asks for a plan, and a default would be a stage of its own.
            | "SumCounts" >> beam.CombineGlobally(_SumCountsFn()).without_defaults()
            | "PlanShards" >> beam.Map(_plan, self._spec.config.shards.max_rows_per_shard)
        )
        return (
            resolved
            | "KeyByShard" >> beam.FlatMap(_key_by_shard, plan=plan)
            | "GroupShard" >> beam.GroupByKey()
            | "WriteShard" >> beam.ParDo(_WriteShardDoFn(self._spec))
        )


class _SumCountsFn(beam.CombineFn):
    """Adds counts per S2 cell.

    The accumulator is a list of parts. When there are many, the last ones are added up: each that
    is at most twice as long as all behind it. Adding every tile to one long sum would take time by
    the square of the tiles, adding each to the one before it a call for every tile.
    """

    def create_accumulator(self) -> list[Counts]:
        return []

    def add_input(self, parts: list[Counts], counts: CellCounts) -> list[Counts]:
        cells = np.array([cell for cell, _ in counts], np.uint64)
        parts.append((cells, np.array([n for _, n in counts], np.int64)))
        if len(parts) >= MAX_PARTS:
            last = [parts.pop()]
            length = len(last[0][0])
            while parts and len(parts[-1][0]) <= 2 * length:
                last.append(parts.pop())
                length += len(last[-1][0])
            parts.append(merge_counts(last))
        return parts

    def merge_accumulators(self, accumulators: Iterable[list[Counts]]) -> list[Counts]:
        return [merge_counts(part for parts in accumulators for part in parts)]

    def compact(self, parts: list[Counts]) -> list[Counts]:
        return [merge_counts(parts)]

    def extract_output(self, parts: list[Counts]) -> Counts:
        return merge_counts(parts)


def _plan(counts: Counts, max_rows: int) -> ShardPlan:
    cells, num_rows = counts
    return ShardPlan(plan_shards(cells, num_rows, max_rows))


def _key_by_shard(element: Any, plan: ShardPlan) -> Iterable[tuple[str, bytes]]:
    key, counts = element
    cells = np.array([cell for cell, _ in counts], np.uint64)
    for index in sorted(set(plan.assign(cells).tolist())):
        yield plan.shards[index].token, pack_key(key)


class _WriteShardDoFn(beam.DoFn):
    """Writes one shard."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._store = TileStore(self._spec.store_path)
        self._journal = self._store.journal(self._spec.run_token)

    def process(self, element: Any) -> Iterable[WrittenShard]:
        begin = time.perf_counter()
        token, keys = element
        table = self._rows(token, sorted(map(unpack_key, keys)))
        path = f"footprints/s2={token}.parquet"
        (self._spec.out_path / path).parent.mkdir(parents=True, exist_ok=True)
        info = write_shard(
            self._spec.out_path / path,
            [table],
            schema=PUBLIC_SCHEMA,
            config=self._spec.config.write,
        )
        count("WriteShards", "shards")
        count("WriteShards", "footprints", info.num_rows)
        note_element(self._journal, "WriteShards", begin)
        yield WrittenShard(
            token=token,
            path=path,
            num_rows=info.num_rows,
            num_bytes=info.num_bytes,
            bounds=info.bounds or (0.0, 0.0, 0.0, 0.0),
            sha256=info.sha256,
            area_m2=round(float(np.sum(table["area_in_meters"].to_numpy())), 1),
        )

    def finish_bundle(self) -> None:
        self._journal.flush()

    def _rows(self, token: str, keys: Sequence[TileKey]) -> pa.Table:
        """The shard's rows: of all tiles that have some, those in the shard's cell."""
        first, last = cell_range(cell_from_token(token))
        parts = []
        for key in keys:
            path = self._store.work_path(self._spec.run_token, "resolved", work_name(key))
            table, _ = read_table(path)
            cells = table["s2_cell"].to_numpy()
            mine = (cells >= first) & (cells <= last)
            parts.append(table if mine.all() else table.filter(pa.array(mine)))
        return pa.concat_tables(parts)


class WriteLedger(beam.PTransform):
    """Tile records to tiles.parquet: every planned tile, its status and why.

    Element in: `TileRecord`; also `TileNote`s of later stages. Element out: one `LedgerSummary`.
    Keyed by some rows of tiles, whose part of the ledger goes to the store; one worker then copies
    the parts into one file. Retries are safe: files are rewritten whole.
    """

    def __init__(self, spec: JobSpec, notes: Any) -> None:
        super().__init__()
        self._spec = spec
        self._notes = notes

    def expand(self, records: Any) -> Any:
        """Wire the transform."""
        keyed = (
            records | "KeyRecords" >> beam.Map(_key_record),
            self._notes | "KeyNotes" >> beam.Map(_key_note),
        )
        return (
            keyed
            | "OfLedger" >> beam.Flatten()
            | "GroupLedger" >> beam.GroupByKey()
            | "WriteParts" >> beam.FlatMap(_write_part, self._spec)
            | "GroupParts" >> beam.GroupByKey()
            | "JoinLedger" >> beam.Map(lambda parts, spec: join_ledger(spec, parts[1]), self._spec)
        )


def _key_record(record: TileRecord) -> tuple[tuple[int, int], bytes]:
    return part_of(record.key), as_kind(_RECORD, pack_record(record))


def _key_note(note: TileNote) -> tuple[tuple[int, int], bytes]:
    return part_of(note.key), as_kind(_NOTE, pack_note(note))


def _write_part(
    element: tuple[tuple[int, int], Iterable[bytes]], spec: JobSpec
) -> Iterable[tuple[int, LedgerPart]]:
    """Write a part of the ledger; all parts have one key, as they become one ledger."""
    key, packed = element[0], list(element[1])
    records = list(map(unpack_record, of_kind(_RECORD, packed)))
    if records:
        yield 0, write_part(spec, key, records, map(unpack_note, of_kind(_NOTE, packed)))
