"""Exports: some of a dataset's footprints as a file, or files, of another format.

Every format is written from a stream of record batches into a place beside the target, which is
renamed to it at the end (or uploaded, in a bucket): a target is whole or not there.
"""

import contextlib
import dataclasses
import itertools
import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from geo.atomic_files import atomic_path
from geo.dataset import Dataset
from geo.errors import DatasetError, StorageError
from geo.places import Place, as_place
from geo.query import Query, read_batches, result_schema, touched_shards
from pipeline.export_progress import ExportProgress

_ENDINGS = {
    ".gpkg": "gpkg",
    ".fgb": "fgb",
    ".geojsonl": "geojsonseq",
    ".geojsons": "geojsonseq",
    ".ndjson": "geojsonseq",
    ".geojson": "geojson",
    ".parquet": "parquet",
    ".pmtiles": "pmtiles",
}
_RECORD_SEPARATED = ".geojsons"
_FOLDER_FORMATS = ("open-buildings",)
_STYLED_BESIDE = ("fgb",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        num_rows: footprints.
        num_bytes: size of all files.
        num_files: number of files.
        notes: what a user should know of the result.
    """

    num_rows: int
    num_bytes: int
    num_files: int = 1
    notes: tuple[str, ...] = ()


def find_format(target: str, kind: str | None = None) -> str:
    """The format of an export by the target's ending, or the one that is given.

    Raises:
        ValueError: for an ending that no format has, or one that is another format's.
    """
    ending = os.path.splitext(target.rstrip("/"))[1].lower()
    if kind is None:
        if ending not in _ENDINGS:
            raise ValueError(
                f"{target}: expected a name that ends in {', '.join(_ENDINGS)}, or --format"
            )
        return _ENDINGS[ending]
    meant = {"overture": "parquet"}.get(kind, kind)
    if ending in _ENDINGS and _ENDINGS[ending] != meant:
        raise ValueError(f"{target} with --format {kind}: that ending is of {_ENDINGS[ending]}")
    if kind == "overture" and ending != ".parquet":
        raise ValueError(f"{target} with --format overture: expected a name that ends in .parquet")
    return kind


def export_dataset(
    dataset: Dataset,
    query: Query,
    target: str,
    format_: str,
    *,
    overwrite: bool = False,
    progress: ExportProgress | None = None,
) -> Exported | None:
    """Write the footprints that fit a query.

    Args:
        dataset: an open dataset.
        query: what is wanted. `columns` holds for gpkg, fgb, geojson, geojsonseq and parquet.
        target: a path or an object's URL; for `open-buildings` a folder on a disk.
        format_: see `find_format`.
        overwrite: replace a target that exists.
        progress: is told how far it is.

    Returns:
        What was written; None if no footprint fits: then nothing is.

    Raises:
        DatasetError: if the target exists, or the dataset cannot be read.
        StorageError: for a target that the format cannot be written to.
        OSError: if the target cannot be written.
    """
    place = as_place(target)
    _check_target(place, format_, overwrite)
    batches = _batches(dataset, _with_columns(query, format_), progress)
    first = next(batches, None)
    if first is None:
        return None
    stream = itertools.chain([first], batches)
    if format_ in _FOLDER_FORMATS:
        assert isinstance(place, Path)
        return _write_folder(place, stream)
    counted = _Counted(stream)
    with _staged(place) as path:
        notes = _WRITERS[format_](path, counted, dataset, progress)
        size = path.stat().st_size
    has_confidence = "confidence" in first.schema.names
    if format_ in _STYLED_BESIDE and isinstance(place, Path) and has_confidence:
        notes += _style_beside(place)
    return Exported(num_rows=counted.num_rows, num_bytes=size, notes=notes)


def _style_beside(place: Path) -> "_Notes":
    """A style for QGIS beside a file that cannot hold one; a user's own is left alone."""
    from pipeline.gis_style import write_style_beside

    if place.with_suffix(".qml").exists():
        return ()
    return (f"QGIS colours it by confidence with {write_style_beside(place).name} beside it",)


class _Counted:
    """Batches, and how many rows they had so far."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.num_rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.num_rows += batch.num_rows
            yield batch


def _check_target(place: Place, format_: str, overwrite: bool) -> None:
    if format_ in _FOLDER_FORMATS:
        if not isinstance(place, Path):
            raise StorageError(
                f"{place}: --format {format_} is a folder of files and is written to a disk only; "
                "export to a folder and copy that"
            )
        _check_folder(place, overwrite)
    elif place.exists():
        if isinstance(place, Path) and place.is_dir():
            raise DatasetError(f"{place} is a folder; name a file")
        if not overwrite:
            raise DatasetError(f"{place} exists; choose another name or add --overwrite")
    if isinstance(place, Path) and not place.absolute().parent.is_dir():
        raise DatasetError(f"{place.parent} is no folder; make it first")


def _check_folder(place: Path, overwrite: bool) -> None:
    from geo.open_buildings_csv import POINT_FOLDER, POLYGON_FOLDER, TILES_NAME

    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not overwrite:
        raise DatasetError(f"{place} exists; choose another name or add --overwrite")
    # Whatever else lies there is not ours to remove.
    others = {entry.name for entry in place.iterdir()} - {POLYGON_FOLDER, POINT_FOLDER, TILES_NAME}
    if others or not (place / POLYGON_FOLDER).is_dir():
        what = f"it holds {sorted(others)[0]}" if others else f"no {POLYGON_FOLDER} in it"
        raise DatasetError(
            f"{place} is no export of Open Buildings files alone ({what}); choose another name"
        )


def _with_columns(query: Query, format_: str) -> Query:
    """The query with the columns that a format of fixed columns takes."""
    from geo.open_buildings_csv import POLYGON_COLUMNS
    from geo.web_map import WEB_COLUMNS

    fixed = {
        "open-buildings": POLYGON_COLUMNS,
        "overture": ("id", "confidence", "image_date", "geometry", "bbox"),
        "pmtiles": WEB_COLUMNS,
    }
    if format_ in fixed:
        if query.columns is not None:
            raise DatasetError(f"--format {format_} has columns of its own; leave out --columns")
        return dataclasses.replace(query, columns=fixed[format_])
    wanted = result_schema(query).names
    needed = ["geometry", *(["bbox"] if format_.startswith("geojson") else [])]
    if "geometry" not in wanted:
        raise DatasetError(f"{format_} needs the column geometry; add it to --columns")
    added = [name for name in needed if name not in wanted]
    return dataclasses.replace(query, columns=(*wanted, *added))


def _batches(
    dataset: Dataset, query: Query, progress: ExportProgress | None
) -> Iterator[pa.RecordBatch]:
    if progress is None:
        yield from read_batches(dataset, query)
        return
    total = sum(shard.num_rows for shard in touched_shards(dataset, query))
    progress.begin("writing footprints", total)
    yield from read_batches(dataset, query, on_progress=progress.reach)
    progress.begin("finishing the file", None)


@contextlib.contextmanager
def _staged(place: Place) -> Iterator[Path]:
    """A path with the target's own name, in a folder for it alone; moved to the target at the end.

    GDAL goes by the ending of a name, and puts files of its own beside it.
    """
    with atomic_path(place) as temporary:
        prefix = f"{temporary.name}." if temporary.name.startswith(".") else ".everyroof-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=temporary.parent) as folder:
            path = Path(folder) / place.name
            yield path
            path.replace(temporary)


def _write_folder(place: Path, batches: Iterator[pa.RecordBatch]) -> Exported:
    from geo.open_buildings_csv import write_open_buildings

    final = place.absolute()
    staging = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
    try:
        staging.mkdir()
        num_rows = write_open_buildings(staging, batches)
        files = [path for path in staging.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        if final.exists():
            old = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
            final.rename(old)
            staging.rename(final)
            shutil.rmtree(old)
        else:
            staging.rename(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Exported(num_rows=sum(num_rows.values()), num_bytes=size, num_files=len(files))


_Notes = tuple[str, ...]
_Writer = Callable[[Path, _Counted, Dataset, ExportProgress | None], _Notes]


def _write_geopackage(path: Path, batches: _Counted, _: Dataset, __: object) -> _Notes:
    from geo.vector_files import LAYER_NAME
    from pipeline.gis_style import style_geopackage

    first, stream = _peeked(batches)
    notes = _write_with_gdal(path, stream, "GPKG")
    # The style goes by confidence: without it nothing at all would be drawn.
    if "confidence" in first.schema.names:
        try:
            style_geopackage(path, LAYER_NAME)
        except sqlite3.Error as error:
            raise OSError(f"{path.name} cannot be styled: {error}") from error
    return notes


def _write_flatgeobuf(path: Path, batches: _Counted, _: Dataset, __: object) -> _Notes:
    return _write_with_gdal(path, batches, "FlatGeobuf")


def _write_with_gdal(path: Path, batches: Iterable[pa.RecordBatch], driver: str) -> _Notes:
    from geo.vector_files import write_vector_file

    first, stream = _peeked(batches)
    write_vector_file(path, stream, driver, first.schema)  # type: ignore[arg-type]
    return ()


def _write_geojsonseq(path: Path, batches: _Counted, _: Dataset, __: object) -> _Notes:
    from geo.geojson_text import sequence_pieces

    with_separator = path.suffix.lower() == _RECORD_SEPARATED
    with path.open("wb") as file:
        for piece in sequence_pieces(batches, with_separator=with_separator):
            file.write(piece)
    return ()


def _write_geojson(path: Path, batches: _Counted, _: Dataset, __: object) -> _Notes:
    from geo.geojson_text import collection_pieces

    with path.open("wb") as file:
        for piece in collection_pieces(batches):
            file.write(piece)
    return ()


def _write_parquet(path: Path, batches: _Counted, _: Dataset, __: object) -> _Notes:
    from geo.geoparquet import write_stream

    first, stream = _peeked(batches)
    write_stream(path, stream, schema=first.schema)
    return ()


def _write_overture(path: Path, batches: _Counted, dataset: Dataset, _: object) -> _Notes:
    from geo.geoparquet import write_stream
    from geo.overture import OVERTURE_SCHEMA, overture_rows

    rows = (overture_rows(batch, dataset=dataset.name) for batch in batches)
    write_stream(path, rows, schema=OVERTURE_SCHEMA, geometry_types=("Polygon", "MultiPolygon"))
    return ()


def _write_pmtiles(
    path: Path, batches: _Counted, dataset: Dataset, progress: ExportProgress | None
) -> _Notes:
    from geo.web_map import write_web_map

    summary = write_web_map(
        path,
        batches,
        name=dataset.name,
        on_tiles=None if progress is None else lambda n, of: _reach_tiles(progress, n, of),
    )
    return summary.notes


def _reach_tiles(progress: ExportProgress, num: int, total: int) -> None:
    if num == 0:
        progress.begin("drawing tiles", total)
    progress.reach(num)


def _peeked(batches: Iterable[pa.RecordBatch]) -> tuple[pa.RecordBatch, Iterator[pa.RecordBatch]]:
    """The first batch, and all of them."""
    stream = iter(batches)
    first = next(stream)
    return first, itertools.chain([first], stream)


_WRITERS: dict[str, _Writer] = {
    "gpkg": _write_geopackage,
    "fgb": _write_flatgeobuf,
    "geojsonseq": _write_geojsonseq,
    "geojson": _write_geojson,
    "parquet": _write_parquet,
    "overture": _write_overture,
    "pmtiles": _write_pmtiles,
}
