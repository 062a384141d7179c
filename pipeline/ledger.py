"""The ledger, OUT/tiles.parquet: every planned tile, how it ended and why. No silent holes."""

import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import shapely

from geo.geoparquet import write_ordered
from geo.grid import Tile, window_bounds_lonlat
from geo.places import Place
from geo.remote_names import redact
from pipeline.failures import TileNote, TileRecord
from pipeline.spec import JobSpec, TileKey
from pipeline.tile_store import TileStore, read_table, write_table

LEDGER_NAME = "tiles.parquet"
ROWS_PER_PART = 16
"""Rows of tiles in one part: some thousands of tiles, which one worker turns into rows at once."""
LEDGER_SCHEMA = pa.schema(
    [
        pa.field("tile", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("num_instances", pa.int64(), nullable=False),
        pa.field("num_windows_left_out", pa.int64(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("geometry", pa.binary()),
        pa.field(
            "bbox",
            pa.struct([pa.field(name, pa.float32()) for name in ("xmin", "ymin", "xmax", "ymax")]),
        ),
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LedgerSummary:
    """What the ledger says, in short.

    Attributes:
        num_tiles: planned tiles.
        num_by_status: tiles per status.
        num_failed_images: images that could not be opened; each has a row of its own.
        sha256: hash of the file.
        num_bytes: size of the file.
    """

    num_tiles: int
    num_by_status: dict[str, int]
    num_failed_images: int
    sha256: str
    num_bytes: int

    @property
    def failed_share(self) -> float:
        """Share of the planned tiles that failed; an unreadable image counts as one tile more."""
        failed = self.num_by_status.get("failed", 0) + self.num_failed_images
        return failed / max(self.num_tiles + self.num_failed_images, 1)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPart:
    """Some rows of tiles in a zone, in the store.

    Attributes:
        key: (zone, part); parts follow each other from north to south.
        num_by_status: tiles per status.
    """

    key: tuple[int, int]
    num_by_status: dict[str, int]


def part_of(key: TileKey) -> tuple[int, int]:
    """The part of the ledger that a tile belongs to: (zone, tile row / 16)."""
    return key[0], key[1] // ROWS_PER_PART


def write_part(
    spec: JobSpec,
    key: tuple[int, int],
    records: Iterable[TileRecord],
    notes: Iterable[TileNote],
) -> LedgerPart:
    """Write some rows of tiles to the store.

    Args:
        spec: the job.
        key: of the part, as `part_of` says for all its tiles.
        records: one per planned tile, in any order; at least one.
        notes: what later stages left out there.
    """
    ordered = sorted(records, key=lambda record: record.key)
    rows = _tile_rows(spec, ordered, _notes_by_tile(notes))
    write_table(_part_path(spec, key), rows, is_rewritten=True)
    return LedgerPart(key=key, num_by_status=Counter(record.status for record in ordered))


def join_ledger(spec: JobSpec, parts: Iterable[LedgerPart]) -> LedgerSummary:
    """Write OUT/tiles.parquet, whole or not at all; 16 bytes of a tile are held, to order them.

    Args:
        spec: the job.
        parts: all parts, in any order.
    """
    ordered = sorted(parts, key=lambda part: part.key)
    num_by_status: Counter[str] = Counter()
    for part in ordered:
        num_by_status.update(part.num_by_status)
    info = write_ordered(
        spec.out_path / LEDGER_NAME,
        [
            *(functools.partial(_load_part, spec, part.key) for part in ordered),
            functools.partial(_image_rows, spec),
        ],
        schema=LEDGER_SCHEMA,
    )
    return LedgerSummary(
        num_tiles=num_by_status.total(),
        num_by_status=dict(sorted(num_by_status.items())),
        num_failed_images=len(spec.failed_images),
        sha256=info.sha256,
        num_bytes=info.num_bytes,
    )


def _part_path(spec: JobSpec, key: tuple[int, int]) -> Place:
    name = f"z{key[0]}_p{key[1]}"
    return TileStore(spec.store_path).work_path(spec.run_token, "ledger", name)


def _load_part(spec: JobSpec, key: tuple[int, int]) -> pa.Table:
    return read_table(_part_path(spec, key))[0].replace_schema_metadata(None)


def _notes_by_tile(notes: Iterable[TileNote]) -> dict[TileKey, str]:
    found: dict[TileKey, list[str]] = defaultdict(list)
    for note in notes:
        found[note.key].append(note.note)
    return {key: "; ".join(sorted(texts)) for key, texts in found.items()}


def _tile_rows(spec: JobSpec, records: list[TileRecord], noted: dict[TileKey, str]) -> pa.Table:
    tiles = [Tile(r.key[0], spec.gsd_mm, spec.tile_px, r.key[1], r.key[2]) for r in records]
    polygons = shapely.polygons([window_bounds_lonlat(t.grid, t.window) for t in tiles])
    reasons = [redact("; ".join(filter(None, [r.reason, noted.get(r.key, "")]))) for r in records]
    return pa.table(
        [
            pa.array([tile.name for tile in tiles], pa.string()),
            pa.array([record.status for record in records], pa.string()),
            pa.array(reasons, pa.string()),
            pa.array([record.num_instances for record in records], pa.int64()),
            pa.array([record.num_left_out for record in records], pa.int64()),
            pa.nulls(len(records), pa.string()),
            pa.array(shapely.to_wkb(polygons), pa.binary()),
            bbox_column(shapely.bounds(polygons)),
        ],
        schema=LEDGER_SCHEMA,
    )


def _image_rows(spec: JobSpec) -> pa.Table:
    failed = spec.failed_images
    return pa.table(
        [
            pa.nulls(len(failed), pa.string()),
            pa.array(["failed"] * len(failed), pa.string()),
            pa.array([redact(image.reason) for image in failed], pa.string()),
            pa.array([0] * len(failed), pa.int64()),
            pa.array([0] * len(failed), pa.int64()),
            pa.array([redact(image.path) for image in failed], pa.string()),
            pa.nulls(len(failed), pa.binary()),
            pa.nulls(len(failed), LEDGER_SCHEMA.field("bbox").type),
        ],
        schema=LEDGER_SCHEMA,
    )


def bbox_column(bounds: np.ndarray) -> pa.StructArray:
    """The column `bbox` of bounds (n, 4) in degrees: float32, rounded outward."""
    narrow = bounds.astype(np.float32)
    low = np.where(narrow > bounds, np.nextafter(narrow, np.float32(-np.inf)), narrow)
    high = np.where(narrow < bounds, np.nextafter(narrow, np.float32(np.inf)), narrow)
    values = [low[:, 0], low[:, 1], high[:, 2], high[:, 3]]
    return pa.StructArray.from_arrays(
        [pa.array(column, pa.float32()) for column in values],
        fields=list(LEDGER_SCHEMA.field("bbox").type),
    )
