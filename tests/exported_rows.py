"""Footprints for tests of exports: drawn ones, two published ones, one across the antimeridian."""

import numpy as np
import pyarrow as pa
import shapely
from drawn_footprints import draw_footprints

from geo.footprints import COORDINATE_STEP_DEG, PUBLIC_SCHEMA

# Two rows of Open Buildings v1 (CC BY 4.0, Google).
PUBLISHED = (
    "2.96283507,30.87489292,41.2623,0.8782,"
    '"POLYGON((30.8749202634832 2.96280455119714, 30.874925633046 2.96285967688244, '
    "30.8748655898075 2.96286558849087, 30.874860220248 2.96281046280741, "
    '30.8749202634832 2.96280455119714))",6GJGXV7F+4XJG',
    "0.45898762,32.61744969,25.3538,0.8084,"
    '"POLYGON((32.6174811987239 0.45898121919608, 32.6174506687015 0.459019966803207, '
    "32.6174181844152 0.458994027306467, 32.6174487144376 0.458955279700022, "
    '32.6174811987239 0.45898121919608))",6GGJFJ58+HXWF',
)
AT_ANTIMERIDIAN = (179.9999, -16.8)


def published_rows() -> pa.RecordBatch:
    """The published rows as they would be stored, parsed with Python's own tools."""
    columns: dict[str, list[object]] = {name: [] for name in ("latitude", "longitude")}
    columns |= {name: [] for name in ("area_in_meters", "confidence", "geometry")}
    codes = []
    for line in PUBLISHED:
        before, wkt, code = line.split('"')
        for name, text in zip(columns, before.split(","), strict=False):
            if text:
                columns[name].append(float(text))
        columns["geometry"].append(shapely.to_wkb(shapely.from_wkt(wkt)))
        codes.append(code[1:])
    return pa.RecordBatch.from_pydict(columns | {"full_plus_code": codes})


def drawn_batches(num: int, *, per_batch: int = 300, **where: object) -> list[pa.RecordBatch]:
    """Drawn footprints in the order of S2's curve, as a dataset gives them."""
    table = draw_footprints(num, **where).sort_by("s2_cell").select(PUBLIC_SCHEMA.names)
    return table.combine_chunks().to_batches(max_chunksize=per_batch)


def outlines(batches: list[pa.RecordBatch]) -> np.ndarray:
    """Their polygons."""
    return np.concatenate([shapely.from_wkb(rows["geometry"].to_numpy(False)) for rows in batches])


def on_lattice(shapes: np.ndarray) -> np.ndarray:
    """Shapes with their coordinates rounded to the lattice of stored ones."""
    return shapely.transform(
        shapes, lambda xy: np.rint(xy / COORDINATE_STEP_DEG) * COORDINATE_STEP_DEG
    )


def column(batches: list[pa.RecordBatch], name: str) -> list[object]:
    """The values of a column of all batches."""
    return [value for rows in batches for value in rows[name].to_pylist()]
