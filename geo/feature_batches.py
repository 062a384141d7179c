"""Features of a map that others made, a batch at a time: any format that GDAL reads, and Parquet.

Memory does not grow with the file. Where a place is given, formats with a spatial index give its
features alone.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj

from geo.errors import DatasetError
from geo.geoparquet import Bounds

_BATCH_ROWS = 50_000
_PARQUET_SUFFIXES = (".parquet", ".geoparquet", ".pq")
_OSM_SUFFIXES = (".pbf", ".osm", ".osm.bz2")
_LONLAT = pyproj.CRS.from_user_input("OGC:CRS84")
_OSM_LAYER = "multipolygons"
# What names a feature, in the order of preference; OSM has one column for ways, one for relations.
_ID_COLUMNS = ("id", "osm_id", "osm_way_id", "building_id", "gml_id", "fid")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBatch:
    """Some features as the file has them.

    Attributes:
        wkb: geometries, object array of bytes or None.
        ids: name of each feature.
        crs: CRS of the coordinates.
    """

    wkb: npt.NDArray[np.object_]
    ids: pa.StringArray
    crs: pyproj.CRS


def feature_batches(
    path: str | Path, *, layer: str | None = None, id_column: str | None = None, near: Bounds | None
) -> Iterator[FeatureBatch]:
    """The features of a file, batch by batch.

    Of an OSM extract the polygons with the tag `building` are given.

    Args:
        path: any vector file or URL that GDAL opens, or (Geo)Parquet.
        layer: of a file with several; its first otherwise.
        id_column: column that names the features; else the first of some usual names, or the
            feature's number.
        near: (west, south, east, north) in degrees; features elsewhere may be left out.

    Raises:
        DatasetError: if there is no such file, layer or column, it cannot be read, or its CRS is
            not known.
    """
    text = str(path)
    is_remote = "://" in text or text.startswith("/vsi")
    if not is_remote and not Path(path).exists():
        raise DatasetError(f"there is no file {text}")
    try:
        if text.lower().endswith(_PARQUET_SUFFIXES):
            yield from _parquet_batches(text, id_column)
        else:
            yield from _gdal_batches(text, layer, id_column, near)
    except (RuntimeError, pa.ArrowException, OSError) as error:
        raise DatasetError(f"{text} cannot be read as features: {error}") from error


def _parquet_batches(path: str, id_column: str | None) -> Iterator[FeatureBatch]:
    with pq.ParquetFile(path) as file:
        crs, geometry = _parquet_geometry(path, file)
        names = _id_names(path, file.schema_arrow.names, id_column)
        num_before = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[geometry, *names]):
            numbers = pa.array(range(num_before, num_before + len(batch)))
            num_before += len(batch)
            yield FeatureBatch(
                wkb=batch[geometry].to_numpy(zero_copy_only=False),
                ids=_as_text([*(batch[name] for name in names), numbers]),
                crs=crs,
            )


def _parquet_geometry(path: str, file: pq.ParquetFile) -> tuple[pyproj.CRS, str]:
    """CRS and name of the geometry column."""
    entry = (file.metadata.metadata or {}).get(b"geo")
    if entry is None:
        raise DatasetError(f"{path} is Parquet, but not GeoParquet: no `geo` in its footer")
    try:
        geo = json.loads(entry)
        name = geo["primary_column"]
        column = geo["columns"][name]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} has `geo` metadata that is malformed") from error
    if column.get("encoding") != "WKB":
        raise DatasetError(
            f"{path} encodes its geometry as {column.get('encoding')}; expected WKB (GeoPandas: "
            "to_parquet without geometry_encoding)"
        )
    if "crs" in column and column["crs"] is None:
        raise _no_crs(path)
    crs = column.get("crs")
    return (_LONLAT if crs is None else pyproj.CRS.from_user_input(crs)), name


def _gdal_batches(
    path: str, layer: str | None, id_column: str | None, near: Bounds | None
) -> Iterator[FeatureBatch]:
    is_osm = path.lower().endswith(_OSM_SUFFIXES)
    layer = _layer(path, layer, is_osm)
    info = pyogrio.read_info(path, layer=layer)
    if not info["crs"]:
        raise _no_crs(path)
    crs = pyproj.CRS.from_user_input(info["crs"])
    names = _id_names(path, list(info["fields"]), id_column)
    opened = pyogrio.raw.open_arrow(
        path,
        layer=layer,
        columns=names,
        return_fids=True,
        where="building IS NOT NULL" if is_osm else None,
        bbox=None if near is None else _bbox_in(crs, near),
        batch_size=_BATCH_ROWS,
        use_pyarrow=True,
    )
    with opened as (meta, reader), contextlib.closing(reader):
        geometry = meta["geometry_name"] or "wkb_geometry"
        # By position: the feature's number comes first, and its column may share a field's name.
        fields = list(meta["fields"])
        places = [*(1 + fields.index(name) for name in names), 0]
        for batch in reader:
            yield FeatureBatch(
                wkb=batch[geometry].to_numpy(zero_copy_only=False),
                ids=_as_text([batch.column(place) for place in places]),
                crs=crs,
            )


def _layer(path: str, layer: str | None, is_osm: bool) -> str:
    names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if layer is None and is_osm:
        layer = _OSM_LAYER
    if layer is None and names:
        return names[0]
    if layer not in names:
        raise DatasetError(
            f"{path} has no layer {layer or 'with geometries'}; it has {', '.join(names) or 'none'}"
        )
    return str(layer)


def _bbox_in(crs: pyproj.CRS, near: Bounds) -> Bounds | None:
    """The box in the file's CRS; None where it has no such box."""
    transformer = pyproj.Transformer.from_crs(_LONLAT, crs, always_xy=True)
    bounds = transformer.transform_bounds(*near)
    if not np.isfinite(bounds).all() or bounds[0] > bounds[2]:
        return None
    return bounds[0], bounds[1], bounds[2], bounds[3]


def _id_names(path: str, columns: Sequence[str], id_column: str | None) -> list[str]:
    """Columns that name features, the first with a value counts."""
    if id_column is not None:
        if id_column not in columns:
            raise DatasetError(f"{path} has no column {id_column!r}; it has {', '.join(columns)}")
        return [id_column]
    return [name for name in _ID_COLUMNS if name in columns]


def _as_text(columns: list[Any]) -> pa.StringArray:
    import pyarrow.compute as pc

    return pc.coalesce(*(column.cast(pa.string()) for column in columns))


def _no_crs(path: str) -> DatasetError:
    return DatasetError(
        f"{path} does not say which CRS its coordinates are in; set one, for instance with "
        "ogr2ogr -a_srs EPSG:4326"
    )
