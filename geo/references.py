"""Reading of polygons that others made: labels, areas of interest, predictions of another system.

Such files come in any format and CRS, with broken rings, several polygons in one feature and points
among the polygons. Here they become valid single polygons in one metric CRS, and what was changed
is counted.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow
import pyproj
import shapely

from geo.errors import DatasetError
from geo.grid import WorldGrid, wrap_longitude, zone_of_longitude
from geo.images import open_image
from geo.matching import Int64Array, PolygonObjects

if TYPE_CHECKING:
    import geopandas

_LOGGER = logging.getLogger(__name__)
_PARQUET_SUFFIXES = (".parquet", ".geoparquet", ".pq")
_POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
# Of an area's longer side: a straight edge of 100 km in UTM then strays by less than a centimetre.
_POINTS_A_SIDE = 256
_LONLAT = pyproj.CRS.from_user_input("OGC:CRS84")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolygonLayer:
    """Valid polygons of a file, one part each; struct of arrays.

    Attributes:
        name: where they come from, for messages.
        crs: CRS of the coordinates, x before y.
        polygons: valid shapely polygons without z, object array of shape (n,).
        source_row: feature of the file that each polygon comes from, int64, ascending.
        columns: the columns asked for, one value per polygon.
        num_features: features of the file.
        num_repaired: features whose rings were invalid.
        num_extra_parts: polygons beyond the first of their feature.
        num_dropped: features without any area: missing, empty, collapsed, points, lines.
    """

    name: str
    crs: pyproj.CRS
    polygons: PolygonObjects
    source_row: Int64Array
    columns: dict[str, npt.NDArray[np.generic]]
    num_features: int
    num_repaired: int
    num_extra_parts: int
    num_dropped: int

    def __len__(self) -> int:
        return len(self.polygons)

    def union(self) -> shapely.Geometry:
        """All of it as one area, such as an area of interest."""
        return shapely.union_all(self.polygons)


def read_polygons(
    path: str | Path, *, crs: pyproj.CRS | None = None, columns: Sequence[str] = ()
) -> PolygonLayer:
    """Read the polygons of a vector file.

    Args:
        path: a file or URL of any vector format that GDAL knows, or (Geo)Parquet.
        crs: CRS to reproject to; None for the UTM zone of the middle, see `metric_crs`.
        columns: attributes to keep, where the file has them.

    Raises:
        DatasetError: if there is no such file, it cannot be read, its CRS is not known, or nothing
            in it has an area.
    """
    return layer_of_frame(_read_frame(path), name=str(path), crs=crs, columns=columns)


def read_area(path: str | Path) -> shapely.Geometry:
    """The polygons of a vector file as one area in longitude and latitude.

    Edges that are straight in the file's CRS get points in between first, so that they stay where
    they are.

    Args:
        path: a file or URL of any vector format that GDAL knows, or (Geo)Parquet.

    Raises:
        DatasetError: as for `read_polygons`.
    """
    frame = _read_frame(path)
    if frame.crs is not None and not frame.crs.is_geographic and len(frame):
        west, south, east, north = frame.total_bounds
        longest = max(east - west, north - south) / _POINTS_A_SIDE
        if np.isfinite(longest) and longest > 0:
            frame = frame.set_geometry(frame.geometry.segmentize(longest))
    return layer_of_frame(frame, name=str(path), crs=_LONLAT).union()


def read_extent(path: str | Path, crs: pyproj.CRS) -> shapely.Geometry:
    """The extent of an image as an area of interest.

    Args:
        path: any georeferenced raster that GDAL opens.
        crs: CRS of the result.

    Raises:
        RasterError: if it is missing, no raster, or without georeference.
    """
    import geopandas

    outline = shapely.Polygon(open_image(str(path), num_bands=1).footprint)
    extent: shapely.Geometry = geopandas.GeoSeries([outline], crs=_LONLAT).to_crs(crs).iloc[0]
    return extent


def layer_of_frame(
    frame: "geopandas.GeoDataFrame",
    *,
    name: str,
    crs: pyproj.CRS | None = None,
    columns: Sequence[str] = (),
) -> PolygonLayer:
    """The valid polygons of a table of features.

    Invalid polygons are repaired (rings are cut where they cross: `make_valid` with the method
    "structure"), features of several polygons are taken apart.

    Args:
        frame: features of any kind and CRS; not changed.
        name: what to call it in messages.
        crs: CRS to reproject to; None for the UTM zone of the middle, see `metric_crs`.
        columns: attributes to keep, where the table has them.

    Raises:
        DatasetError: if the CRS is not known or nothing has an area.
    """
    if frame.crs is None:
        raise DatasetError(
            f"{name} does not say which CRS its coordinates are in; set one, for instance with "
            "ogr2ogr -a_srs EPSG:4326"
        )
    if (frame.geometry.is_empty | frame.geometry.isna()).all():
        raise DatasetError(f"{name} holds no polygon with an area ({len(frame)} features)")
    target = metric_crs(frame) if crs is None else crs
    kept = [column for column in columns if column in frame.columns]
    return _to_layer(name, frame.to_crs(target), target, kept)


def metric_crs(frame: "geopandas.GeoDataFrame | geopandas.GeoSeries") -> pyproj.CRS:
    """The northern UTM CRS (EPSG:32601 to 32660, metres) of the middle of the geometries' bounds.

    The same CRS as the world grid's, so northings are negative in the south.

    Raises:
        DatasetError: if they do not lie on the earth.
    """
    west, south, east, north = frame.geometry.to_crs(_LONLAT).total_bounds
    if not np.isfinite([west, south, east, north]).all() or max(abs(south), abs(north)) > 90:
        bounds = ", ".join(f"{bound:.6g}" for bound in frame.total_bounds)
        raise DatasetError(f"the bounds {bounds} are no place in the CRS {frame.crs}; is it right?")
    # Both sides of the antimeridian: the middle lies across it, not across Greenwich.
    middle = (west + east) / 2 + (180.0 if east - west > 180 else 0.0)
    return WorldGrid(zone_of_longitude(float(wrap_longitude(middle))), 1000).crs


def _read_frame(path: str | Path) -> "geopandas.GeoDataFrame":
    # Here: a run without an area of interest reads no vector file, and should not wait for pandas.
    import geopandas

    text = str(path)
    is_remote = "://" in text or text.startswith("/vsi")
    if not is_remote and not Path(path).exists():
        raise DatasetError(f"there is no file {text}")
    try:
        if text.lower().endswith(_PARQUET_SUFFIXES):
            return geopandas.read_parquet(path)
        frame = geopandas.read_file(path)
    # RuntimeError: what pyogrio raises. ValueError: geopandas on Parquet without geometry metadata.
    except (RuntimeError, pyarrow.ArrowException, OSError, ValueError) as e:
        raise DatasetError(f"{text} cannot be read as polygons: {e}") from e
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise DatasetError(f"{text} is a table without geometries")
    return frame


def _to_layer(
    name: str, frame: "geopandas.GeoDataFrame", crs: pyproj.CRS, columns: Sequence[str]
) -> PolygonLayer:
    shapes = shapely.force_2d(np.asarray(frame.geometry.array, object))
    if not np.isfinite(shapely.get_coordinates(shapes)).all():
        raise DatasetError(f"{name} has coordinates that do not exist in the CRS {crs.name}")
    is_polygonal = np.isin(shapely.get_type_id(shapes), _POLYGONAL)
    is_broken = is_polygonal & ~shapely.is_valid(shapes)
    shapes[is_broken] = shapely.make_valid(
        shapes[is_broken], method="structure", keep_collapsed=False
    )
    parts, source_row = _single_polygons(shapes)
    num_sources = len(np.unique(source_row))
    if num_sources == 0:
        raise DatasetError(f"{name} holds no polygon with an area ({len(frame)} features)")
    layer = PolygonLayer(
        name=name,
        crs=crs,
        polygons=parts,
        source_row=source_row,
        columns={column: frame[column].to_numpy()[source_row] for column in columns},
        num_features=len(frame),
        num_repaired=int(is_broken.sum()),
        num_extra_parts=len(parts) - num_sources,
        num_dropped=len(frame) - num_sources,
    )
    if layer.num_repaired or layer.num_dropped:
        _LOGGER.warning(
            "%s: %d of %d features repaired, %d without an area left out",
            *(name, layer.num_repaired, layer.num_features, layer.num_dropped),
        )
    return layer


def _single_polygons(shapes: PolygonObjects) -> tuple[PolygonObjects, Int64Array]:
    """Every polygon with an area in shapes of any kind, and the row of its shape."""
    parts, row = shapely.get_parts(shapes, return_index=True)
    # Collections may hold multipolygons: a second turn takes those apart too.
    parts, again = shapely.get_parts(parts, return_index=True)
    keep = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    return parts[keep], row[again][keep].astype(np.int64)
