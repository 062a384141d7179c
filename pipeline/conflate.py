"""Marking the footprints of a dataset that an existing map has: reading, counting, writing."""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geo.atomic_files import atomic_path
from geo.conflate import MAPPED_SCHEMA, ConflateConfig, ConflatedBlock, conflate
from geo.dataset import Dataset
from geo.errors import DatasetError
from geo.feature_batches import feature_batches
from geo.footprints import PUBLIC_SCHEMA
from geo.geoparquet import Bounds
from geo.map_rows import MAP_SCHEMA, MAX_EXTENT_DEG, MapCounts, sort_map
from geo.query import Query
from geo.sorted_rows import SortedRows
from geo.streamed_tables import write_streamed
from pipeline.compare import open_side
from pipeline.fetch import local_copy

Which = Literal["all", "new", "mapped"]
# Around the footprints: features this near are read.
_MARGIN_DEG = 0.01
_PARQUET_SUFFIXES = (".parquet", ".geoparquet", ".pq")


@dataclass(kw_only=True)
class ConflateTotals:
    """How many footprints and features were found to be what.

    Attributes:
        num_footprints: footprints looked at.
        num_mapped: of these, those that the map has.
        num_by_point: of these, by a point alone.
        area_m2: built area of all.
        area_mapped_m2: of those that the map has.
        num_found: polygons and points of the map that footprints show.
        num_missing: of the map, without a footprint on ground that the run has seen.
        num_not_covered: of the map, on ground that the run has not seen.
    """

    num_footprints: int = 0
    num_mapped: int = 0
    num_by_point: int = 0
    area_m2: float = 0.0
    area_mapped_m2: float = 0.0
    num_found: int = 0
    num_missing: int = 0
    num_not_covered: int = 0

    def add(self, block: ConflatedBlock) -> None:
        """Add what was found in one place."""
        table = block.footprints
        is_mapped = table["is_mapped"].to_numpy()
        area = table["area_in_meters"].to_numpy()
        self.num_footprints += len(table)
        self.num_mapped += int(is_mapped.sum())
        self.num_by_point += block.num_by_point
        self.area_m2 += float(area.sum())
        self.area_mapped_m2 += float(area[is_mapped].sum())
        self.num_found += block.num_found
        self.num_missing += len(block.missing)
        self.num_not_covered += block.num_not_covered


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflation:
    """A dataset beside a map.

    Attributes:
        dataset: the footprints.
        counts: what the map held.
        totals: what was found.
        notes: what a reader must know, in words.
    """

    dataset: Dataset
    counts: MapCounts
    totals: ConflateTotals
    notes: tuple[str, ...]


def conflate_dataset(
    out: str,
    existing: str,
    *,
    path: Path | None,
    missing_path: Path | None,
    which: Which = "all",
    layer: str | None = None,
    id_column: str | None = None,
    config: ConflateConfig,
    on_rows: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Conflation:
    """Mark the footprints that a map has and write them.

    Args:
        out: output folder of a run.
        existing: the map: any vector file that GDAL reads, or GeoParquet; a path or URL.
        path: file of the footprints, any format by its ending; None for none.
        missing_path: file of what the map has and no footprint shows; None for none.
        which: whether all footprints are written, or only new or only mapped ones.
        layer: layer of the map.
        id_column: what names the map's features.
        config: when a footprint counts as mapped.
        on_rows: called as it goes with what is being done, the rows done and all rows.

    Raises:
        DatasetError: if either cannot be read, or they lie apart.
    """
    for target in (path, missing_path):
        check_format(target)
    side = open_side(out, Query())
    sources = [side.dataset.place_of(shard) for shard in side.dataset.shards]
    footprints = SortedRows(sources, PUBLIC_SCHEMA)
    with tempfile.TemporaryDirectory(prefix="everyroof-") as folder:
        batches = feature_batches(
            local_copy(existing), layer=layer, id_column=id_column, near=_near(side.dataset)
        )
        mapped = sort_map(batches, Path(folder), lambda num: on_rows("reading the map", num, num))
        _check_place(side.dataset, existing, mapped.counts, mapped.rows)
        totals = ConflateTotals()
        blocks = conflate(
            footprints,
            mapped.rows,
            side.ground,
            config=config,
            on_rows=functools.partial(on_rows, "comparing"),
        )
        with _waiting_rows(missing_path, MAP_SCHEMA) as missing:
            marked = _marked(blocks, totals, missing, which)
            if path is None:
                for _ in marked:
                    pass
            else:
                write_tables(path, marked, MAPPED_SCHEMA, ("Polygon",))
        return Conflation(
            dataset=side.dataset,
            counts=mapped.counts,
            totals=totals,
            notes=(*side.notes, *_notes(mapped.counts, totals)),
        )


def check_format(path: Path | None) -> None:
    """Refuse a file of a format that cannot be written, before any work.

    Raises:
        DatasetError: if its ending names no such format, or its folder does not exist.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise DatasetError(f"{path}: there is no folder {path.parent}; make it first")
    if path.suffix not in _PARQUET_SUFFIXES:
        _driver_of(path)


def write_tables(
    path: Path, tables: Iterator[pa.Table], schema: pa.Schema, geometry_types: tuple[str, ...]
) -> None:
    """Write tables as they come, in the format that the file's ending names.

    Args:
        path: the file; it appears whole.
        tables: rows with the columns of `schema`.
        schema: columns.
        geometry_types: what the geometries are, in GeoParquet's words.

    Raises:
        DatasetError: if the ending names no format that can be written.
    """
    if path.suffix in _PARQUET_SUFFIXES:
        write_streamed(path, tables, schema=schema, geometry_types=geometry_types)
        return
    import pyogrio
    from pyogrio.errors import DataSourceError

    from geo.vector_files import remembering

    driver = _driver_of(path)
    names = [name for name in schema.names if name != "bbox"]
    plain = pa.schema([schema.field(name) for name in names])
    batches = (batch for table in tables for batch in table.select(names).to_batches())
    kind = geometry_types[0] if len(geometry_types) == 1 else "Unknown"
    with tempfile.TemporaryDirectory(prefix=".everyroof-", dir=path.parent) as folder:
        # Some formats look at the name, so the file has its own until it is whole.
        waiting = Path(folder) / path.name
        raised: list[BaseException] = []
        stream = remembering(batches, raised)
        try:
            pyogrio.write_arrow(
                pa.RecordBatchReader.from_batches(plain, stream),
                waiting,
                driver=driver,
                geometry_name="geometry",
                geometry_type=kind,
                crs="EPSG:4326",
            )
        except (DataSourceError, RuntimeError) as error:
            if raised:
                raise raised[0] from None
            raise OSError(f"{path.name} cannot be written: {error}") from error
        with atomic_path(path) as temporary:
            waiting.rename(temporary)


_DRIVERS = {
    ".gpkg": "GPKG",
    ".fgb": "FlatGeobuf",
    ".geojson": "GeoJSON",
    ".geojsonl": "GeoJSONSeq",
    ".geojsons": "GeoJSONSeq",
}
"""Formats of one file each that hold all columns and outlines."""


def _driver_of(path: Path) -> str:
    driver = _DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise DatasetError(
            f"{path}: {path.suffix or 'a name without an ending'} names no format that is written "
            "here; take .parquet, .gpkg, .fgb, .geojson or .geojsonl"
        )
    return driver


@contextlib.contextmanager
def _waiting_rows(path: Path | None, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """A function that takes rows; they are written to a file when the block ends well."""
    if path is None:
        yield lambda table: None
        return
    with tempfile.TemporaryDirectory(prefix=".everyroof-", dir=path.parent) as folder:
        parts: list[Path] = []
        has_points = [False, False]

        def take(table: pa.Table) -> None:
            is_point = table["area_in_meters"].to_numpy() == 0
            has_points[0] |= bool((~is_point).any())
            has_points[1] |= bool(is_point.any())
            parts.append(Path(folder) / f"{len(parts)}.parquet")
            pq.write_table(table, parts[-1])

        yield take
        kinds = tuple(
            k for k, is_there in zip(("Polygon", "Point"), has_points, strict=True) if is_there
        )
        tables = (pq.read_table(part).cast(schema) for part in parts)
        write_tables(path, tables, schema, kinds or ("Polygon",))


def _marked(
    blocks: Iterator[ConflatedBlock],
    totals: ConflateTotals,
    missing: Callable[[pa.Table], None],
    which: Which,
) -> Iterator[pa.Table]:
    """The footprints to write; what is found is added up on the way."""
    for block in blocks:
        totals.add(block)
        missing(block.missing)
        if which == "all":
            yield block.footprints
        else:
            yield block.footprints.filter(
                pc.equal(block.footprints["is_mapped"], which == "mapped")
            )


def _near(dataset: Dataset) -> Bounds | None:
    """Where features may meet a footprint; None for everywhere."""
    bounds = dataset.bounds
    if bounds is None:
        return None
    west, south, east, north = bounds
    if east - west > 180.0 or west < -179.9 or east > 179.9:
        return None
    return (
        west - _MARGIN_DEG,
        max(south - _MARGIN_DEG, -90.0),
        east + _MARGIN_DEG,
        min(north + _MARGIN_DEG, 90.0),
    )


def _check_place(dataset: Dataset, existing: str, counts: MapCounts, rows: SortedRows) -> None:
    """Refuse a map that has nothing near the footprints."""
    bounds = dataset.bounds
    where = "" if bounds is None else " (" + ", ".join(f"{side:.4f}" for side in bounds) + ")"
    if counts.num_features == 0:
        raise DatasetError(
            f"{existing} has no feature near the footprints of {dataset.name}{where}: it is empty, "
            "lies elsewhere, or its CRS is not what it says"
        )
    if rows.num_rows == 0:
        raise DatasetError(
            f"{existing} holds neither polygons of a building's size nor points among its "
            f"{counts.num_features:,} features"
        )
    if bounds is None or bounds[2] - bounds[0] > 180.0:
        return
    boxes = rows.bounds
    meets = np.zeros(len(boxes), bool)
    for turn in (-360.0, 0.0, 360.0):
        meets |= (boxes[:, 0] + turn <= bounds[2]) & (boxes[:, 2] + turn >= bounds[0])
    meets &= (boxes[:, 1] <= bounds[3]) & (boxes[:, 3] >= bounds[1])
    if not meets.any():
        found = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
        place = ", ".join(f"{side:.4f}" for side in found)
        raise DatasetError(
            f"{existing} lies at {place} and {dataset.name} at{where} (west, south, east, north): "
            "they have no place in common. Is the map's CRS what it says?"
        )


def _notes(counts: MapCounts, totals: ConflateTotals) -> Iterator[str]:
    if counts.num_polygons == 0:
        yield "the map holds points only: a footprint counts as mapped when a point lies in it"
    if counts.num_repaired:
        yield f"{counts.num_repaired:,} features of the map crossed themselves and were repaired"
    if counts.num_left_out:
        yield (
            f"{counts.num_left_out:,} features of the map have neither an area nor a point and "
            "were left out"
        )
    if counts.num_too_large:
        yield (
            f"{counts.num_too_large:,} polygons of the map are longer than {MAX_EXTENT_DEG} "
            "degrees and were left out: they are no buildings"
        )
    if counts.num_nowhere:
        yield (
            f"{counts.num_nowhere:,} features of the map have coordinates that do not exist in "
            f"{counts.crs} and were left out"
        )
    if totals.num_found == 0 and totals.num_missing == 0:
        yield "nothing of the map lies on ground that the run has seen"


def as_record(conflation: Conflation) -> dict[str, Any]:
    """The numbers as plain values, such as for JSON."""
    return {
        "out": str(conflation.dataset.place),
        "map": vars(conflation.counts),
        "found": vars(conflation.totals),
        "notes": list(conflation.notes),
    }
