"""Tables that come one after the other, written as one GeoParquet file in little memory."""

import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geo.geoparquet import ShardInfo, write_ordered
from geo.places import Place, as_place


def write_streamed(
    path: str | Place,
    tables: Iterable[pa.Table],
    *,
    schema: pa.Schema,
    geometry_types: Sequence[str] = ("Polygon",),
) -> ShardInfo:
    """Write rows that are in order already as they come; the file appears whole.

    They wait beside the file until all are there, since where to cut row groups follows from all.

    Args:
        path: the file; replaced if it exists.
        tables: with exactly the columns of `schema`, among them `bbox`; each held alone.
        schema: columns to write.
        geometry_types: what the geometries are, in GeoParquet's words.

    Raises:
        OSError: if the file cannot be written.
    """
    place = as_place(path)
    beside = place.parent if isinstance(place, Path) else None
    with tempfile.TemporaryDirectory(prefix=".everyroof-", dir=beside) as folder:
        waiting: list[Path] = []
        for table in tables:
            part = Path(folder) / f"{len(waiting)}.parquet"
            pq.write_table(table, part, compression="zstd", compression_level=1)
            waiting.append(part)
        load = [partial(_load, part, schema) for part in waiting]
        return write_ordered(
            place, load or [schema.empty_table], schema=schema, geometry_types=geometry_types
        )


def _load(part: Path, schema: pa.Schema) -> pa.Table:
    return pq.read_table(part).replace_schema_metadata(None).cast(schema)
