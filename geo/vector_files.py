"""GeoPackage and FlatGeobuf through GDAL, streamed from Arrow batches.

Footprints across the antimeridian stay whole, with longitudes slightly beyond +-180: both formats
allow it, and a desktop GIS shows such a building in one piece.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa

from geo.footprints import PUBLIC_SCHEMA

LAYER_NAME = "footprints"
VectorDriver = Literal["GPKG", "FlatGeobuf"]

# The struct `bbox` has no counterpart, and both formats have an index of their own.
VECTOR_SCHEMA = pa.schema([field for field in PUBLIC_SCHEMA if field.name != "bbox"])


def write_vector_file(
    path: Path, batches: Iterable[pa.RecordBatch], driver: VectorDriver, schema: pa.Schema
) -> None:
    """Write one file with a spatial index.

    A GeoPackage is written in bounded memory. FlatGeobuf sorts the rows along a Hilbert curve at
    the end, for which GDAL keeps some 70 bytes a row in memory and the rows in a file beside.

    Args:
        path: a file that does not exist yet, in a folder where more may be put for a while.
        batches: rows with the columns of `schema`.
        driver: GDAL's name of the format.
        schema: columns to write; `geometry` (WKB polygons) among them.

    Raises:
        OSError: if the file cannot be written.
        Exception: what the batches raise, as it is.
    """
    from pyogrio.errors import DataSourceError
    from pyogrio.raw import write_arrow

    names = [name for name in schema.names if name != "bbox"]
    kept = pa.schema([schema.field(name).remove_metadata() for name in names])
    raised: list[BaseException] = []
    stream = (batch.select(names).cast(kept) for batch in remembering(batches, raised))
    reader = pa.RecordBatchReader.from_batches(kept, stream)
    try:
        write_arrow(
            reader,
            path,
            layer=LAYER_NAME,
            driver=driver,
            geometry_name="geometry",
            geometry_type="Polygon",
            crs="EPSG:4326",
            SPATIAL_INDEX="YES",
        )
    except (DataSourceError, RuntimeError) as error:
        if raised:
            raise raised[0] from None
        raise OSError(f"{path.name} cannot be written: {error}") from error


def remembering(
    batches: Iterable[pa.RecordBatch], raised: list[BaseException]
) -> Iterator[pa.RecordBatch]:
    """The batches; what they raise is kept, for GDAL tells only that something was."""
    try:
        yield from batches
    except BaseException as error:
        raised.append(error)
        raise
