"""Footprints as a web map: one PMTiles file of vector tiles, from the earth to a building.

    density      zoom 0 to 13: square cells, 64 along a tile, with `count` and `mean_confidence`
    footprints   zoom 14 to the greatest: the outlines with `confidence`, `area_in_meters`,
                 `full_plus_code`, `id` and `image_date`

At low zoom single buildings are smaller than a pixel: dropping some would show less than there is,
and cells with counts tell the truth. The greatest zoom is 15 (steps of 15 cm at the equator), or 16
where the fullest tile of zoom 15 would be too heavy for a browser; there every footprint has all
its properties. A tile of a lower zoom that is too heavy is written without names.

Rows come once, in any order. They are put into a file for each tile of zoom 12 that they touch, and
drawn file by file: memory is that of the fullest such tile (6 to 10 km wide).
"""

import contextlib
import gzip
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from geo.errors import DatasetError
from geo.polygons import PolygonArray
from geo.vector_tiles import Column, TileFrame, encode_layer
from geo.wkb import polygons_from_wkb

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

WEB_COLUMNS = (
    *("latitude", "longitude", "area_in_meters", "confidence", "geometry", "full_plus_code"),
    *("id", "bbox", "image_date"),
)
DENSITY_LAYER, FOOTPRINT_LAYER = "density", "footprints"
MIN_FOOTPRINT_ZOOM = 14
MAX_LATITUDE_DEG = math.degrees(2 * math.atan(math.exp(math.pi)) - math.pi / 2)
"""85.05 degrees: web maps end there."""
MAX_TILE_BYTES = 500_000

_BUCKET_ZOOM = 12
_MAX_DENSITY_ZOOM = MIN_FOOTPRINT_ZOOM - 1
_CELL_LEVELS = 6  # a tile has 2^6 cells along a side
_KEPT_LEVEL = _BUCKET_ZOOM - 1 + _CELL_LEVELS  # cells of the zooms above a bucket are made of these
_FINEST_ZOOM = 16
# With all properties a footprint takes some 60 bytes of a compressed tile.
_MAX_FOOTPRINTS_PER_TILE = 8_000
# Polygons this near to a tile are in it, too, so that their outlines are not cut: 8 of 4096 steps.
_MARGIN = 8 / 4096
_EXTENT, _FINE_EXTENT = 4096, 8192
_ROWS_IN_MEMORY = 400_000
_GZIP_LEVEL = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WebMap:
    """What was written.

    Attributes:
        num_footprints: footprints drawn, each counted once.
        num_tiles: tiles.
        max_zoom: the greatest zoom.
        largest_tile_bytes: size of the largest tile, compressed.
        notes: what a user should know.
    """

    num_footprints: int
    num_tiles: int
    max_zoom: int
    largest_tile_bytes: int
    notes: tuple[str, ...]


def write_web_map(
    path: Path,
    batches: Iterable[pa.RecordBatch],
    *,
    name: str,
    on_tiles: Callable[[int, int], None] | None = None,
) -> WebMap:
    """Write a PMTiles file.

    The same rows in the same order give the same bytes.

    Args:
        path: a file that does not exist yet, in a folder where more may be put for a while: about
            as much again as the file, and the rows once.
        batches: footprints with `WEB_COLUMNS`.
        name: name of the map.
        on_tiles: is told how many footprints are drawn, of how many.

    Raises:
        OSError: if the file cannot be written.
        DatasetError: if there is no footprint that a web map can show.
    """
    folder = path.parent / f"{path.name}.parts"
    folder.mkdir()
    rows = _Buckets(folder)
    for batch in batches:
        rows.add(batch)
    rows.flush()
    if rows.num_rows == 0:
        raise DatasetError(
            f"no footprint lies within {MAX_LATITUDE_DEG:.2f} degrees of latitude, where web maps "
            "end; choose another format"
        )
    tiles = _TileFiles(folder)
    drawing = _Drawing(rows.max_zoom(), tiles)
    with ThreadPoolExecutor(os.cpu_count() or 1, "tiles") as pool:
        done = 0
        if on_tiles is not None:
            on_tiles(0, rows.num_rows)
        for x, y, turn_rows in rows.read():
            done += drawing.draw_bucket(pool, x, y, turn_rows)
            if on_tiles is not None:
                on_tiles(done, rows.num_rows)
        drawing.draw_low_zooms(pool)
    tiles.join(path, _header(rows.bounds), _metadata(name, drawing.max_zoom))
    notes = [*drawing.notes(), *rows.notes()]
    return WebMap(
        num_footprints=done,
        num_tiles=tiles.num_tiles,
        max_zoom=drawing.max_zoom,
        largest_tile_bytes=tiles.largest,
        notes=tuple(notes),
    )


def to_web_units(lon_deg: Float64Array, lat_deg: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Web Mercator as shares of the map: x from 0 (180 W) to 1 (180 E), y from 0 (85 N) to 1."""
    x = lon_deg / 360.0 + 0.5
    y = 0.5 - np.arcsinh(np.tan(np.radians(lat_deg))) / (2.0 * math.pi)
    return x, y


class _Buckets:
    """Rows by the tile of zoom 12 that they touch, in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[tuple[int, int], list[pa.RecordBatch]] = {}
        self._num_waiting = 0
        self._counts: list[tuple[Int64Array, Int64Array]] = []
        self.num_rows = self._num_beyond = 0
        self.bounds = (np.inf, np.inf, -np.inf, -np.inf)

    def add(self, batch: pa.RecordBatch) -> None:
        """Sort the rows of a batch into their buckets."""
        batch = self._on_map(batch)
        if batch.num_rows == 0:
            return
        self.num_rows += batch.num_rows
        self._count(batch)
        row, x, y = _touched_tiles(_box_in_web_units(batch["bbox"]), _BUCKET_ZOOM)
        order = np.lexsort((x, y))
        row, x, y = row[order], x[order], y[order]
        starts = np.flatnonzero(np.r_[True, (x[1:] != x[:-1]) | (y[1:] != y[:-1])])
        for start, end in zip(starts, np.r_[starts[1:], len(row)], strict=True):
            part = batch.take(pa.array(np.sort(row[start:end])))
            self._waiting.setdefault((int(x[start]), int(y[start])), []).append(part)
            self._num_waiting += part.num_rows
        if self._num_waiting > _ROWS_IN_MEMORY:
            self.flush()

    def _on_map(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that a web map can show."""
        south, north = (
            batch["bbox"].field(name).to_numpy(zero_copy_only=False) for name in ("ymin", "ymax")
        )
        is_beyond = (south < -MAX_LATITUDE_DEG) | (north > MAX_LATITUDE_DEG)
        self._num_beyond += int(is_beyond.sum())
        return batch.filter(pa.array(~is_beyond)) if is_beyond.any() else batch

    def _count(self, batch: pa.RecordBatch) -> None:
        """Count centroids by tile of the finest zoom, and widen the bounds."""
        lon, lat = batch["longitude"].to_numpy(), batch["latitude"].to_numpy()
        west, south, east, north = self.bounds
        self.bounds = (
            *(min(west, lon.min()), min(south, lat.min())),
            *(max(east, lon.max()), max(north, lat.max())),
        )
        self._counts.append(np.unique(_cells(lon, lat, _FINEST_ZOOM), return_counts=True))
        if len(self._counts) > 200:
            self._counts = [_added(self._counts)]

    def max_zoom(self) -> int:
        """15, or 16 if a tile of zoom 15 would hold too many footprints."""
        cells, counts = _added(self._counts)
        coarser, sums = _added([(_coarser(cells, 1), counts)])
        return 15 if len(coarser) and sums.max() <= _MAX_FOOTPRINTS_PER_TILE else _FINEST_ZOOM

    def flush(self) -> None:
        """Append what waits to the files."""
        for (x, y), parts in self._waiting.items():
            with self._file(x, y).open("ab") as file:
                table = pa.Table.from_batches(parts).combine_chunks()
                with pa.ipc.new_stream(file, table.schema) as stream:
                    stream.write_table(table)
        self._waiting, self._num_waiting = {}, 0

    def _file(self, x: int, y: int) -> Path:
        return self._folder / f"{x}_{y}.rows"

    def read(self) -> Iterator[tuple[int, int, list[tuple[int, pa.Table]]]]:
        """Buckets in the order of their tiles, with their rows, which are removed from the disk.

        Yields:
            (x, y, rows): rows from beyond the antimeridian are apart, with the turns they are off.
        """
        from pmtiles.tile import zxy_to_tileid

        side = 1 << _BUCKET_ZOOM
        found: dict[tuple[int, int], list[tuple[int, Path]]] = {}
        for path in self._folder.glob("*.rows"):
            x, y = map(int, path.stem.split("_"))
            found.setdefault((x % side, y), []).append((x // side, path))
        for x, y in sorted(found, key=lambda at: zxy_to_tileid(_BUCKET_ZOOM, *at)):
            yield x, y, [(turn, _read_streams(path)) for turn, path in sorted(found[x, y])]
            for _, path in found[x, y]:
                path.unlink()

    def notes(self) -> list[str]:
        """What a user should know."""
        if not self._num_beyond:
            return []
        return [
            f"{self._num_beyond:,} footprints lie beyond {MAX_LATITUDE_DEG:.2f} degrees of "
            "latitude, where web maps end, and are left out"
        ]


def _read_streams(path: Path) -> pa.Table:
    """All rows of a file of Arrow streams after each other."""
    tables = []
    with path.open("rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            with pa.ipc.open_stream(file) as stream:
                tables.append(stream.read_all())
    return pa.concat_tables(tables).combine_chunks()


def _box_in_web_units(bbox: pa.StructArray) -> Float64Array:
    """(west, north, east, south) of each row, shape (4, n)."""
    west, south, east, north = (
        bbox.field(name).to_numpy(zero_copy_only=False).astype(np.float64)
        for name in ("xmin", "ymin", "xmax", "ymax")
    )
    x0, y1 = to_web_units(west, south)
    x1, y0 = to_web_units(east, north)
    return np.stack([x0, y0, x1, y1])


def _touched_tiles(boxes: Float64Array, zoom: int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Pairs of a row and a tile that its box, widened by the margin, touches: rows, x and y.

    Columns beyond the antimeridian are below 0 or above the last one.
    """
    side = 1 << zoom
    low = np.floor(boxes[:2] * side - _MARGIN).astype(np.int64)
    high = np.floor(boxes[2:] * side + _MARGIN).astype(np.int64)
    low[1], high[1] = np.clip(low[1], 0, side - 1), np.clip(high[1], 0, side - 1)
    widths, heights = high - low + 1
    repeats = widths * heights
    row = np.repeat(np.arange(boxes.shape[1]), repeats)
    place = np.arange(len(row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return row, low[0][row] + place % widths[row], low[1][row] + place // widths[row]


def _cells(lon_deg: Float64Array, lat_deg: Float64Array, level: int) -> Int64Array:
    """The web map's tiles of a level that points lie in: y * 2^32 + x."""
    x, y = to_web_units(lon_deg, lat_deg)
    side = 1 << level
    column = np.clip(np.floor(x * side).astype(np.int64), 0, side - 1)
    row = np.clip(np.floor(y * side).astype(np.int64), 0, side - 1)
    return (row << 32) | column


def _split(cells: Int64Array) -> tuple[Int64Array, Int64Array]:
    """X and y of cells."""
    return cells & 0xFFFFFFFF, cells >> 32


def _coarser(cells: Int64Array, levels: int) -> Int64Array:
    """The cells so many levels above."""
    x, y = _split(cells)
    return ((y >> levels) << 32) | (x >> levels)


def _added(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Cells each once, ascending, and the sums of what belongs to them."""
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    cells, places = np.unique(columns[0], return_inverse=True)
    sums = (np.bincount(places, column, len(cells)).astype(column.dtype) for column in columns[1:])
    return cells, *sums


@dataclass(slots=True)
class _Rows:
    """The footprints of a bucket, in web map units."""

    polygons: PolygonArray
    boxes: Float64Array
    area_m2: Float64Array
    confidence: Float64Array
    plus_code: pa.StringArray
    id: pa.StringArray
    date: pa.StringArray

    def columns(self, index: Int64Array, *, is_lean: bool) -> dict[str, Column]:
        """Properties of some of them; lean ones are coarser and have no names."""
        if is_lean:
            return {
                "confidence": np.round(self.confidence[index], 2),
                "area_in_meters": np.rint(self.area_m2[index]),
            }
        places = pa.array(index)
        return {
            "confidence": np.round(self.confidence[index], 4),
            "area_in_meters": np.round(self.area_m2[index], 1),
            "full_plus_code": self.plus_code.take(places),
            "id": self.id.take(places),
            "image_date": self.date.take(places),
        }


def _rows_of(tables: list[tuple[int, pa.Table]]) -> _Rows:
    """The rows of a bucket, brought into its turn of the earth; large outlines in pieces."""
    table = pa.concat_tables([table for _, table in tables]).combine_chunks()
    turns = np.repeat([turn for turn, _ in tables], [len(table) for _, table in tables])
    polygons = polygons_from_wkb(table["geometry"])
    points = np.diff(polygons.ring_offsets[polygons.polygon_offsets])
    x, y = to_web_units(polygons.coords[:, 0], polygons.coords[:, 1])
    polygons = PolygonArray(
        coords=np.stack([x - np.repeat(turns, points), y], axis=1),
        ring_offsets=polygons.ring_offsets,
        polygon_offsets=polygons.polygon_offsets,
    )
    boxes = _box_in_web_units(table["bbox"].combine_chunks())
    boxes[[0, 2]] -= turns
    chunk = {name: table[name].combine_chunks() for name in table.column_names}
    return _Rows(
        polygons=polygons,
        boxes=boxes,
        area_m2=chunk["area_in_meters"].to_numpy(),
        confidence=chunk["confidence"].to_numpy(),
        plus_code=chunk["full_plus_code"],
        id=chunk["id"],
        date=chunk["image_date"].cast(pa.string()),
    )


@dataclass(slots=True)
class _Drawing:
    """Draws tiles into files."""

    max_zoom: int
    tiles: "_TileFiles"
    lean: set[tuple[int, int, int]] = field(default_factory=set)
    thinned: set[tuple[int, int, int]] = field(default_factory=set)
    _kept: list[tuple[Any, ...]] = field(default_factory=list)

    def draw_bucket(
        self, pool: ThreadPoolExecutor, x: int, y: int, tables: list[tuple[int, pa.Table]]
    ) -> int:
        """Draw all tiles of a bucket; returns the number of footprints whose centroid it holds."""
        table = pa.concat_tables([table for _, table in tables])
        lon, lat = table["longitude"].to_numpy(), table["latitude"].to_numpy()
        is_own = _cells(lon, lat, _BUCKET_ZOOM) == ((y << 32) | x)
        if is_own.any():
            self._count(pool, lon[is_own], lat[is_own], table["confidence"].to_numpy()[is_own])
        rows = _rows_of(tables)
        for zoom in range(MIN_FOOTPRINT_ZOOM, self.max_zoom + 1):
            self._draw_zoom(pool, rows, zoom, x, y)
        return int(is_own.sum())

    def _count(
        self, pool: ThreadPoolExecutor, lon: Float64Array, lat: Float64Array, score: Float64Array
    ) -> None:
        """Draw the cells of the bucket's own zooms, and keep coarser ones for those above."""
        cells = _cells(lon, lat, _MAX_DENSITY_ZOOM + _CELL_LEVELS)
        counted = _added([(cells, np.ones(len(cells), np.int64), score)])
        for zoom in range(_MAX_DENSITY_ZOOM, _BUCKET_ZOOM - 1, -1):
            self._draw_density(pool, zoom, counted)
            counted = _added([(_coarser(counted[0], 1), *counted[1:])])
        self._kept.append(counted)

    def draw_low_zooms(self, pool: ThreadPoolExecutor) -> None:
        """Draw the cells of the zooms above the buckets."""
        counted = _added(self._kept)
        for zoom in range(_KEPT_LEVEL - _CELL_LEVELS, -1, -1):
            self._draw_density(pool, zoom, counted)
            counted = _added([(_coarser(counted[0], 1), *counted[1:])])

    def _draw_density(self, pool: ThreadPoolExecutor, zoom: int, counted: tuple[Any, ...]) -> None:
        cells, counts, scores = counted
        polygons = _squares(cells, zoom + _CELL_LEVELS)
        means = np.round(scores / counts, 3)

        def draw(task: tuple[int, int, Int64Array]) -> bytes:
            x, y, index = task
            columns: dict[str, Column] = {"count": counts[index], "mean_confidence": means[index]}
            frame = TileFrame(zoom=zoom, x=x, y=y, extent=_EXTENT)
            return _packed(encode_layer(DENSITY_LAYER, frame, polygons, index, columns))

        x, y = _split(_coarser(cells, _CELL_LEVELS))
        self._write(pool, zoom, draw, list(_by_tile(np.arange(len(cells)), x, y, zoom)))

    def _draw_zoom(
        self, pool: ThreadPoolExecutor, rows: _Rows, zoom: int, bucket_x: int, bucket_y: int
    ) -> None:
        """Draw the footprints of one zoom within the bucket."""
        row, x, y = _touched_tiles(rows.boxes, zoom)
        levels = zoom - _BUCKET_ZOOM
        is_inside = (x >> levels == bucket_x) & (y >> levels == bucket_y)
        tasks = list(_by_tile(row[is_inside], x[is_inside], y[is_inside], zoom))

        def draw(task: tuple[int, int, Int64Array]) -> bytes:
            return self._footprint_tile(rows, zoom, *task)

        self._write(pool, zoom, draw, tasks)

    def _footprint_tile(self, rows: _Rows, zoom: int, x: int, y: int, index: Int64Array) -> bytes:
        """A tile with everything, or, below the finest zoom, with less where it is too large."""
        is_finest = zoom == self.max_zoom
        frame = TileFrame(zoom=zoom, x=x, y=y, extent=_FINE_EXTENT if is_finest else _EXTENT)
        polygons, index = _without_giants(rows.polygons, rows.boxes, index, frame)
        places = index

        def packed(chosen: npt.NDArray[np.int64], *, is_lean: bool) -> bytes:
            columns = rows.columns(places[chosen], is_lean=is_lean)
            drawn = chosen if polygons is not rows.polygons else places[chosen]
            return _packed(encode_layer(FOOTPRINT_LAYER, frame, polygons, drawn, columns))

        everything = np.arange(len(index))
        tile = packed(everything, is_lean=False)
        if is_finest or len(tile) <= MAX_TILE_BYTES:
            return tile
        # Sets: several threads draw at a time.
        self.lean.add((zoom, x, y))
        tile, chosen = packed(everything, is_lean=True), everything
        while len(tile) > MAX_TILE_BYTES:
            # The largest footprints are what can be seen at this zoom.
            keep = int(len(chosen) * min(0.95, 0.98 * MAX_TILE_BYTES / len(tile)))
            largest = np.argsort(-rows.area_m2[places[everything]], kind="stable")[:keep]
            chosen = np.sort(largest)
            tile = packed(chosen, is_lean=True)
            self.thinned.add((zoom, x, y))
        return tile

    def _write(
        self,
        pool: ThreadPoolExecutor,
        zoom: int,
        draw: Callable[[tuple[int, int, Int64Array]], bytes],
        tasks: list[tuple[int, int, Int64Array]],
    ) -> None:
        for (x, y, _), tile in zip(tasks, pool.map(draw, tasks), strict=True):
            self.tiles.add(zoom, x, y, tile)

    def notes(self) -> list[str]:
        """What a user should know."""
        found = []
        if self.lean:
            found.append(
                f"{len(self.lean):,} tiles below zoom {self.max_zoom} are too full for Plus Codes "
                "and ids, and show area and confidence only"
            )
        if self.thinned:
            found.append(
                f"{len(self.thinned):,} of them show only the largest footprints; zoom "
                f"{self.max_zoom} shows all"
            )
        return found


def _without_giants(
    polygons: PolygonArray, boxes: Float64Array, index: Int64Array, frame: TileFrame
) -> tuple[PolygonArray, Int64Array]:
    """The outlines of a tile; those that reach more than a tile beyond it are cut.

    Browsers keep coordinates in 16 bits, so that more than that would be drawn wrongly.

    Returns:
        Outlines and the rows they are of: the input's, or, if some were cut, new ones, one for
        each entry of the second array.
    """
    x0, y0, x1, y1 = boxes[:, index] * 2.0**frame.zoom
    is_giant = (x0 < frame.x - 1) | (x1 > frame.x + 2) | (y0 < frame.y - 1) | (y1 > frame.y + 2)
    if not is_giant.any():
        return polygons, index
    side = 2.0**-frame.zoom
    room = shapely.box(
        *((frame.x - 0.5) * side, (frame.y - 0.5) * side),
        *((frame.x + 1.5) * side, (frame.y + 1.5) * side),
    )
    shapes, rows = [], []
    for row, outline, giant in zip(
        index.tolist(), polygons.take(index).to_shapely(), is_giant.tolist(), strict=True
    ):
        parts = shapely.get_parts(shapely.intersection(outline, room)) if giant else [outline]
        areas = [part for part in parts if part.area > 0.0]
        # Cutting may turn a ring round: the encoder takes any shell for a shell.
        shapes += areas
        rows += [row] * len(areas)
    return PolygonArray.from_shapely(np.array(shapes, object)), np.array(rows, np.int64)


def _squares(cells: Int64Array, level: int) -> PolygonArray:
    """The squares of cells, in web map units."""
    x, y = _split(cells)
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]])
    coords = (np.stack([x, y], axis=1)[:, np.newaxis] + corners).reshape(-1, 2) / float(1 << level)
    return PolygonArray(
        coords=np.ascontiguousarray(coords),
        ring_offsets=np.arange(len(cells) + 1) * 5,
        polygon_offsets=np.arange(len(cells) + 1),
    )


def _by_tile(
    row: Int64Array, x: Int64Array, y: Int64Array, zoom: int
) -> Iterator[tuple[int, int, Int64Array]]:
    """Rows by their tile, tiles in the order of a PMTiles file."""
    from pmtiles.tile import zxy_to_tileid

    key = (y << 32) | x
    order = np.argsort(key, kind="stable")
    if len(key) == 0:
        return
    starts = np.flatnonzero(np.r_[True, np.diff(key[order]) != 0])
    groups = [(int(x[part[0]]), int(y[part[0]]), row[part]) for part in np.split(order, starts)[1:]]
    yield from sorted(groups, key=lambda group: zxy_to_tileid(zoom, group[0], group[1]))


def _packed(tile: bytes) -> bytes:
    return gzip.compress(tile, _GZIP_LEVEL, mtime=0)


class _TileFiles:
    """Tiles as they are drawn: a file for each zoom, joined at the end in the order of PMTiles."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = contextlib.ExitStack()
        self._by_zoom: dict[int, tuple[Any, list[tuple[int, int]]]] = {}
        self.num_tiles = self.largest = 0

    def add(self, zoom: int, x: int, y: int, tile: bytes) -> None:
        """Add a tile; within a zoom they come in the order of their ids."""
        from pmtiles.tile import zxy_to_tileid

        if zoom not in self._by_zoom:
            file = self._files.enter_context((self._folder / f"zoom{zoom}.tiles").open("w+b"))
            self._by_zoom[zoom] = (file, [])
        file, entries = self._by_zoom[zoom]
        file.write(tile)
        entries.append((zxy_to_tileid(zoom, x, y), len(tile)))
        self.num_tiles += 1
        self.largest = max(self.largest, len(tile))

    def join(self, path: Path, header: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Write the archive and remove the files."""
        import shutil

        from pmtiles.tile import Entry
        from pmtiles.writer import finalize_header

        entries, offset = [], 0
        for zoom in sorted(self._by_zoom):
            for tile_id, length in self._by_zoom[zoom][1]:
                entries.append(Entry(tile_id, offset, length, 1))
                offset += length
        num = len(entries)
        head = finalize_header(header, num, entries, num, metadata, True, offset)
        with path.open("wb") as out, self._files:
            for piece in head:
                out.write(piece)
            for zoom in sorted(self._by_zoom):
                file = self._by_zoom[zoom][0]
                file.seek(0)
                shutil.copyfileobj(file, out, 1 << 20)
        shutil.rmtree(self._folder)


def _header(bounds: tuple[float, float, float, float]) -> dict[str, Any]:
    from pmtiles.tile import Compression, TileType

    west, south, east, north = bounds
    sides = {"min_lon": west, "min_lat": south, "max_lon": east, "max_lat": north}
    sides |= {"center_lon": (west + east) / 2, "center_lat": (south + north) / 2}
    return {
        "version": 3,
        "tile_type": TileType.MVT,
        "tile_compression": Compression.GZIP,
        "center_zoom": 10,
        **{f"{side}_e7": round(value * 1e7) for side, value in sides.items()},
    }


def _metadata(name: str, max_zoom: int) -> dict[str, Any]:
    layers = {
        DENSITY_LAYER: (0, _MAX_DENSITY_ZOOM, ("count", "mean_confidence"), ()),
        FOOTPRINT_LAYER: (
            *(MIN_FOOTPRINT_ZOOM, max_zoom, ("confidence", "area_in_meters")),
            ("full_plus_code", "id", "image_date"),
        ),
    }
    return {
        "name": name,
        "type": "overlay",
        "generator": "everyroof",
        "description": "building footprints, and cells with their number at low zoom",
        "vector_layers": [
            {
                "id": layer,
                "minzoom": lowest,
                "maxzoom": highest,
                "fields": dict.fromkeys(numbers, "Number") | dict.fromkeys(texts, "String"),
            }
            for layer, (lowest, highest, numbers, texts) in layers.items()
        ],
    }
