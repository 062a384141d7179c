"""Open Buildings' own files: gzip of CSV, one for each S2 cell of level 4.

    polygons_s2_level_4_gzip/025_buildings.csv.gz   latitude,longitude,area_in_meters,confidence,
                                                    geometry,full_plus_code
    points_s2_level_4_gzip/025_buildings.csv.gz     the same without geometry
    tiles.geojson                                   outline, file and size of each cell

Names, columns, decimals and the way numbers are printed are those of the published files, so that
what was made for them reads these. A copy of tiles.geojson lies beside the polygons, where
TorchGeo looks for it. The same rows give the same bytes.
"""

import contextlib
import gzip
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from geo.number_text import fixed_text, ring_text
from geo.s2cells import cell_from_token, cell_parent, cell_polygon, cell_token, s2_leaf_cells
from geo.wkb import polygons_from_wkb

S2_LEVEL = 4
POLYGON_FOLDER = "polygons_s2_level_4_gzip"
POINT_FOLDER = "points_s2_level_4_gzip"
POINT_COLUMNS = ("latitude", "longitude", "area_in_meters", "confidence", "full_plus_code")
POLYGON_COLUMNS = (*POINT_COLUMNS[:4], "geometry", "full_plus_code")
TILES_NAME = "tiles.geojson"

_DECIMALS = {"latitude": 8, "longitude": 8, "area_in_meters": 4, "confidence": 4}
# Level 9 takes three times as long for 2 % less.
_GZIP_LEVEL = 6


def csv_rows(rows: pa.RecordBatch, *, with_geometry: bool) -> pa.Buffer:
    """Lines of CSV, without a header.

    Args:
        rows: with `POLYGON_COLUMNS`, the geometry as WKB.
        with_geometry: `POLYGON_COLUMNS`, else `POINT_COLUMNS`.
    """
    parts = [fixed_text(rows[name], decimals) for name, decimals in _DECIMALS.items()]
    if with_geometry:
        outlines = ring_text(polygons_from_wkb(rows["geometry"]), "wkt")
        parts.append(pc.binary_join_element_wise('"', outlines, '"', ""))
    parts.append(rows["full_plus_code"])
    lines = pc.binary_join_element_wise(*parts, ",")
    ended = pc.binary_join_element_wise(lines, "\n", "")
    _, offsets, data = ended.buffers()
    ends = np.frombuffer(offsets, np.int32)
    return data.slice(int(ends[ended.offset]), int(ends[ended.offset + len(ended)]))


def write_open_buildings(folder: Path, batches: Iterable[pa.RecordBatch]) -> dict[str, int]:
    """Write polygons, points and tiles.geojson.

    A file takes the rows of its cell in the order they come. Rows that are in the order of S2's
    curve, as those of a dataset are, leave one pair of files open at a time; others are written,
    too, as further members of the gzip file.

    Args:
        folder: an empty folder.
        batches: rows with `POLYGON_COLUMNS`, the geometry as WKB.

    Returns:
        Rows of each file, by the token of its cell.
    """
    for name in (POLYGON_FOLDER, POINT_FOLDER):
        (folder / name).mkdir(parents=True)
    num_rows: dict[str, int] = {}
    for token, runs in _runs_of_cells(batches):
        with contextlib.ExitStack() as stack:
            polygons, points = (
                stack.enter_context(_opened(folder / name / _file_name(token), columns))
                for name, columns in (
                    (POLYGON_FOLDER, POLYGON_COLUMNS),
                    (POINT_FOLDER, POINT_COLUMNS),
                )
            )
            for rows in runs:
                polygons.write(csv_rows(rows, with_geometry=True))
                points.write(csv_rows(rows, with_geometry=False))
                num_rows[token] = num_rows.get(token, 0) + rows.num_rows
    index = json.dumps(_tiles(folder, sorted(num_rows)), separators=(",", ":"))
    for place in (folder, folder / POLYGON_FOLDER):
        (place / TILES_NAME).write_text(index + "\n")
    return num_rows


def _file_name(token: str) -> str:
    return f"{token}_buildings.csv.gz"


def _runs_of_cells(
    batches: Iterable[pa.RecordBatch],
) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Rows that follow each other in one cell, as its token and their batches.

    Like itertools.groupby: a cell's batches are to be taken before the next cell is asked for.
    """
    pieces = (piece for batch in batches for piece in _by_cell(batch))
    for token, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
        yield token, (rows for _, rows in group)


def _by_cell(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """A batch cut where the cell changes."""
    latitude, longitude = (batch[name].to_numpy() for name in ("latitude", "longitude"))
    cells = cell_parent(s2_leaf_cells(latitude, longitude), S2_LEVEL)
    cuts = [0, *(np.flatnonzero(cells[1:] != cells[:-1]) + 1).tolist(), len(cells)]
    for start, end in itertools.pairwise(cuts):
        if end > start:
            yield cell_token(int(cells[start])), batch.slice(start, end - start)


@contextlib.contextmanager
def _opened(path: Path, columns: tuple[str, ...]) -> Iterator[BinaryIO]:
    """A file to write lines of CSV to; a new one begins with its header.

    Neither name nor time of the file are in its bytes.
    """
    is_new = not path.exists()
    with (
        path.open("ab") as file,
        gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed,
    ):
        if is_new:
            packed.write(f"{','.join(columns)}\n".encode())
        yield packed  # type: ignore[misc]


def _tiles(folder: Path, tokens: list[str]) -> dict[str, Any]:
    """The index of the files: the properties of Google's, the address relative to the index."""
    features = []
    for token in tokens:
        path = f"{POLYGON_FOLDER}/{_file_name(token)}"
        outline = cell_polygon(cell_from_token(token))
        features.append(
            {
                "type": "Feature",
                "properties": {
                    "tile_id": token,
                    "tile_url": path,
                    "size_mb": round((folder / path).stat().st_size / 1e6, 3),
                },
                "geometry": shapely.geometry.mapping(outline),
            }
        )
    return {"type": "FeatureCollection", "name": "tiles", "features": features}
