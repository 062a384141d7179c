"""Which ground a run has seen, by its ledger and its images: nothing found is not nothing there.

A tile of the ledger that ended as `ok` or `empty` was segmented wherever an image lies in it; one
that failed, or that was never planned, says nothing about what stands there.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from geo.errors import DatasetError
from geo.grid import NUM_ZONES, ZONE_WIDTH_DEG, WorldGrid
from geo.places import ReadPlace, arrow_source

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
PolygonObjects = npt.NDArray[np.object_]

SEEN = 0
GROUND_WORDS = (
    "seen",
    "the tile failed",
    "the tile has no valid pixel",
    "beyond the images",
    "beyond the area of interest",
    "not planned",
)
"""What is known of a place; only the first one is ground that was covered."""
_FAILED, _NODATA, _NO_IMAGE, _BEYOND_AREA, _NOT_PLANNED = range(1, 6)
_CODES = {"ok": SEEN, "empty": SEEN, "failed": _FAILED, "nodata": _NODATA}
_TILE_NAME = r"z(?P<zone>\d{2})_g(?P<gsd>\d+)mm_s(?P<size>\d+)_r(?P<row>-?\d+)_c(?P<col>-?\d+)"
_TURNS_DEG = (0.0, 360.0, -360.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveredGround:
    """The ground of one run; 12 bytes a tile and the outlines of its images.

    Attributes:
        gsd_mm: pixel size of the grid.
        size_px: pixels per side of a tile.
        keys: by UTM zone, the (row, column) of each tile as one number, int64, ascending.
        codes: by UTM zone, what became of each tile: an index into `GROUND_WORDS`, uint8.
        images: R-tree over the outlines of the images that were opened; None where unknown.
        area: area of interest in degrees; None for none.
    """

    gsd_mm: int
    size_px: int
    keys: dict[int, Int64Array]
    codes: dict[int, UInt8Array]
    images: shapely.STRtree | None
    area: shapely.Geometry | None

    def look_up(self, longitude: Float64Array, latitude: Float64Array) -> UInt8Array:
        """What is known of each point: an index into `GROUND_WORDS`, uint8, shape (n,).

        Args:
            longitude: degrees, any whole number of turns.
            latitude: degrees.
        """
        zone = np.floor((longitude + 180.0) % 360.0 / ZONE_WIDTH_DEG).astype(np.int64) + 1
        zone = np.clip(zone, 1, NUM_ZONES)
        codes = np.full(len(zone), _NOT_PLANNED, np.uint8)
        for number in np.unique(zone).tolist():
            here = np.flatnonzero(zone == number)
            codes[here] = self._tile_codes(number, longitude[here], latitude[here])
        self._mask(codes, longitude, latitude)
        return codes

    def _tile_codes(self, zone: int, longitude: Float64Array, latitude: Float64Array) -> UInt8Array:
        codes = np.full(len(longitude), _NOT_PLANNED, np.uint8)
        if zone not in self.keys:
            return codes
        cols, rows = WorldGrid(zone, self.gsd_mm).from_lonlat(longitude, latitude)
        is_on_grid = np.isfinite(cols) & np.isfinite(rows)
        keys = _key(
            np.floor(np.where(is_on_grid, rows, 0) / self.size_px).astype(np.int64),
            np.floor(np.where(is_on_grid, cols, 0) / self.size_px).astype(np.int64),
        )
        known = self.keys[zone]
        index = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        is_known = is_on_grid & (known[index] == keys)
        codes[is_known] = self.codes[zone][index[is_known]]
        return codes

    def _mask(self, codes: UInt8Array, longitude: Float64Array, latitude: Float64Array) -> None:
        """Take back what lies in a tile that was seen, but on no image or outside of the area."""
        if self.images is not None:
            seen = np.flatnonzero(codes == SEEN)
            codes[seen[~_lies_in(self.images, longitude[seen], latitude[seen])]] = _NO_IMAGE
        if self.area is not None:
            seen = np.flatnonzero(codes == SEEN)
            shapely.prepare(self.area)
            inside = [
                shapely.intersects_xy(self.area, longitude[seen] + turn_deg, latitude[seen])
                for turn_deg in _TURNS_DEG
            ]
            codes[seen[~np.any(inside, axis=0)]] = _BEYOND_AREA


def read_covered_ground(
    tiles: ReadPlace, images: ReadPlace | None = None, area: shapely.Geometry | None = None
) -> CoveredGround:
    """The ground that a run has seen.

    Args:
        tiles: the ledger (tiles.parquet).
        images: the table of images (images.parquet), if there is one.
        area: area of interest in degrees.

    Raises:
        DatasetError: if a file cannot be read, or the ledger's tiles are not of one grid.
    """
    ledger = _read(tiles, ["tile", "status"]).filter(pc.field("tile").is_valid())
    names = pc.extract_regex(ledger["tile"].combine_chunks(), _TILE_NAME)
    if names.null_count:
        name = ledger["tile"].filter(names.is_null())[0].as_py()
        raise DatasetError(f"{tiles}: {name!r} is no tile name; run again to write the ledger")
    numbers = {
        part: pc.struct_field(names, part).cast(pa.int64()).to_numpy()
        for part in ("zone", "gsd", "size", "row", "col")
    }
    codes = _codes_of(tiles, ledger["status"])
    keys_by_zone, codes_by_zone = {}, {}
    for zone in np.unique(numbers["zone"]).tolist():
        here = np.flatnonzero(numbers["zone"] == zone)
        keys = _key(numbers["row"][here], numbers["col"][here])
        order = np.argsort(keys)
        keys_by_zone[zone], codes_by_zone[zone] = keys[order], codes[here][order]
    return CoveredGround(
        gsd_mm=_the_one(tiles, "pixel sizes", numbers["gsd"]),
        size_px=_the_one(tiles, "tile sizes", numbers["size"]),
        keys=keys_by_zone,
        codes=codes_by_zone,
        images=None if images is None else _image_tree(images),
        area=area,
    )


def _codes_of(tiles: ReadPlace, status: pa.ChunkedArray) -> UInt8Array:
    words = pa.array(list(_CODES))
    index = pc.index_in(status, value_set=words)
    if index.null_count:
        word = status.filter(index.is_null())[0].as_py()
        raise DatasetError(f"{tiles}: status {word!r}; expected one of {', '.join(_CODES)}")
    codes: UInt8Array = np.array(list(_CODES.values()), np.uint8)[index.to_numpy()]
    return codes


def _the_one(tiles: ReadPlace, what: str, values: Int64Array) -> int:
    found = np.unique(values)
    if len(found) > 1:
        raise DatasetError(f"{tiles} has tiles of several {what}: {found.tolist()}")
    return int(found[0]) if len(found) else 1000


def _key(row: Int64Array, col: Int64Array) -> Int64Array:
    return row * np.int64(1 << 32) + col


def _image_tree(images: ReadPlace) -> shapely.STRtree:
    table = _read(images, ["status", "geometry"])
    table = table.filter((pc.field("status") == "opened") & pc.field("geometry").is_valid())
    return shapely.STRtree(shapely.from_wkb(table["geometry"].to_numpy()))


def _lies_in(tree: shapely.STRtree, longitude: Float64Array, latitude: Float64Array) -> BoolArray:
    """Which points lie in some outline of a tree, a whole turn away too."""
    is_inside = np.zeros(len(longitude), np.bool_)
    for turn_deg in _TURNS_DEG:
        rest = np.flatnonzero(~is_inside)
        points = shapely.points(longitude[rest] + turn_deg, latitude[rest])
        is_inside[rest[tree.query(points, predicate="intersects")[0]]] = True
    return is_inside


def _read(place: ReadPlace, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(arrow_source(place), columns=columns)
    except FileNotFoundError as error:
        raise DatasetError(f"{place} is missing; run again to write it") from error
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{place} cannot be read: {error}; run again to write it") from error
