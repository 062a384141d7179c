"""Which tiles, and which cores within them, the images and the area of interest cover.

Everything is decided per core or per tile from the images' outlines alone, never listed whole:
`plan_cells` gives a few hundred coarse cells, workers expand each to its tiles.
"""

import functools
import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import shapely

from geo.grid import NUM_ZONES, ZONE_WIDTH_DEG, Tile, cores_in_zone
from geo.pixel_window import PixelWindow
from geo.stated_outlines import outlines_to_pixels
from pipeline.spec import JobSpec, TileKey
from pipeline.zone_images import ZoneImages, metres_per_degree, zone_images

TILES_PER_CELL = 16
"""Tiles per side of a planning cell."""
INSIDE_ZONE_DEG = 2.9
"""Tiles whose corners lie nearer to the central meridian belong to the zone, all of them."""
INSIDE_LATITUDE_DEG = 79.0
"""Likewise for latitudes."""


class Cover:
    """The ground of a job, zone by zone, in pixel coordinates of each zone's grid.

    Pixel coordinates here are (col, row) with rows southwards, as in `PixelWindow`.
    """

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._zone_aoi = functools.cache(self._make_zone_aoi)
        # Who lists tiles asks for the cores of each again.
        self._kept_core_mask = functools.lru_cache(maxsize=TILES_PER_CELL**2)(self._core_mask)
        # GEOS ends the process when threads ask one prepared geometry at once; and what takes
        # seconds to make for a zone is made once.
        self._asking = threading.Lock()

    def zones(self) -> list[int]:
        """Zones that hold ground of the job, overlaps with their neighbours included."""
        west, south, east, north = self._spec.images.bounds.T
        latitude = np.minimum(np.maximum(np.abs(south), np.abs(north)), 84.0)
        overlap = self._spec.config.grid.max_building_m / metres_per_degree(latitude)
        first = np.floor((west - overlap + 180.0) / ZONE_WIDTH_DEG).astype(np.int64)
        last = np.floor((east + overlap + 180.0) / ZONE_WIDTH_DEG).astype(np.int64)
        last = np.minimum(last, first + NUM_ZONES - 1)
        ranges = np.unique(np.stack([first, last], axis=1), axis=0).tolist()
        return sorted({z % NUM_ZONES + 1 for begin, end in ranges for z in range(begin, end + 1)})

    def plan_cells(self) -> list[TileKey]:
        """Coarse cells (zone, row, col) of 16 x 16 tiles that together hold all tiles."""
        size = self._spec.tile_px * TILES_PER_CELL
        cells: set[TileKey] = set()
        for zone in self.zones():
            west, north, east, south = self._images(zone).bounds.T
            ranges = np.stack([north // size, south // size, west // size, east // size], axis=1)
            found = {
                (row, col)
                for top, bottom, left, right in np.unique(ranges, axis=0).astype(int).tolist()
                for row in range(top, bottom + 1)
                for col in range(left, right + 1)
            }
            cells.update((zone, row, col) for row, col in self._near_aoi(zone, sorted(found), size))
        return sorted(cells)

    def tiles_in(self, cell: TileKey) -> Iterator[Tile]:
        """The tiles of a planning cell that hold ground of the job, in scan order."""
        zone, cell_row, cell_col = cell
        size = self._spec.tile_px
        index = np.arange(TILES_PER_CELL)
        rows, cols = np.meshgrid(
            cell_row * TILES_PER_CELL + index, cell_col * TILES_PER_CELL + index, indexing="ij"
        )
        boxes = shapely.box(cols * size, rows * size, (cols + 1) * size, (rows + 1) * size)
        for row, col in zip(*np.nonzero(self._meets_ground(zone, boxes)), strict=True):
            tile = Tile(zone, self._spec.gsd_mm, size, int(rows[row, col]), int(cols[row, col]))
            if self.core_mask(tile).any():
                yield tile

    def core_mask(self, tile: Tile) -> npt.NDArray[np.bool_]:
        """The cores of a tile to segment: in the zone, on an image, near the area of interest.

        Returns:
            bool, shape (tile_px / core_px, tile_px / core_px); not to be written to.
        """
        with self._asking:
            return self._kept_core_mask(tile)

    def _core_mask(self, tile: Tile) -> npt.NDArray[np.bool_]:
        spec, window = self._spec, tile.window
        core = spec.core_px
        if self._is_all_ground(tile):
            num = window.width // core
            return np.ones((num, num), np.bool_)
        in_zone = cores_in_zone(tile.grid, window, core, spec.config.grid.max_building_m)
        rows, cols = np.indices(in_zone.shape)
        left, top = window.col_off + cols * core, window.row_off + rows * core
        boxes = shapely.box(left, top, left + core, top + core)
        return np.asarray(in_zone & self._meets_ground(tile.zone, boxes))

    def _is_all_ground(self, tile: Tile) -> bool:
        """Whether a tile lies inside its zone, one image and the area, well away from their edges.

        Most tiles of a large job do; for the others every core is looked at.
        """
        window = tile.window
        lon, lat = tile.grid.to_lonlat(
            [window.col_off, window.col_end, window.col_off, window.col_end],
            [window.row_off, window.row_off, window.row_end, window.row_end],
        )
        offset = np.abs(lon - tile.grid.central_meridian_deg)
        if not (offset.max() < INSIDE_ZONE_DEG and np.abs(lat).max() < INSIDE_LATITUDE_DEG):
            return False
        box = shapely.box(window.col_off, window.row_off, window.col_end, window.row_end)
        if not len(self._images(tile.zone).tree.query(box, predicate="within")):
            return False
        aoi = self._zone_aoi(tile.zone)
        return aoi is None or bool(shapely.contains(aoi, box))

    def images_of(self, zone: int, window: PixelWindow) -> list[int]:
        """Positions of the images whose outlines meet a window, in the config's order."""
        images = self._images(zone)
        box = shapely.box(window.col_off, window.row_off, window.col_end, window.row_end)
        hits = images.meeting(np.array([box]))[1]
        return sorted(images.positions[hits].tolist())

    def tile_extent(self) -> dict[int, tuple[int, int, int, int]]:
        """Per zone: first and last tile row, first and last tile column of the images."""
        size = self._spec.tile_px
        extents = {}
        for zone in self.zones():
            bounds = self._images(zone).bounds
            if len(bounds):
                west, north = (bounds[:, :2].min(axis=0) // size).astype(int).tolist()
                east, south = (bounds[:, 2:].max(axis=0) // size).astype(int).tolist()
                extents[zone] = (north, south, west, east)
        return extents

    def is_inside_aoi(
        self, lon_deg: npt.NDArray[np.float64], lat_deg: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Which points lie in the area of interest; all of them where none was given."""
        if self._spec.aoi_wkb is None:
            return np.ones(len(lon_deg), bool)
        return np.asarray(shapely.intersects_xy(self._aoi, lon_deg, lat_deg))

    @functools.cached_property
    def _aoi(self) -> shapely.Geometry:
        area = shapely.from_wkb(self._spec.aoi_wkb)
        shapely.prepare(area)
        return area

    def _meets_ground(self, zone: int, boxes: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
        hits = self._images(zone).meeting(boxes.ravel())
        flags = np.zeros(boxes.size, np.bool_)
        flags[hits[0]] = True
        meets = flags.reshape(boxes.shape)
        aoi = self._zone_aoi(zone)
        return meets if aoi is None else meets & shapely.intersects(aoi, boxes)

    def _near_aoi(
        self, zone: int, cells: list[tuple[int, int]], size: int
    ) -> list[tuple[int, int]]:
        aoi = self._zone_aoi(zone)
        if aoi is None or not cells:
            return cells
        rows, cols = np.array(cells).T
        boxes = shapely.box(cols * size, rows * size, (cols + 1) * size, (rows + 1) * size)
        return [cells[i] for i in np.flatnonzero(shapely.intersects(aoi, boxes)).tolist()]

    def _images(self, zone: int) -> ZoneImages:
        reach_m = self._spec.config.grid.max_building_m + 2 * self._spec.tile_px * self._spec.gsd_m
        return zone_images(self._spec.images, self._spec.grid(zone), reach_m)

    def _make_zone_aoi(self, zone: int) -> shapely.Geometry | None:
        if self._spec.aoi_wkb is None:
            return None
        grid = self._spec.grid(zone)
        west = grid.central_meridian_deg - 12.0
        near = shapely.box(west, -80.0, west + 24.0, 84.0)
        area = shapely.segmentize(shapely.from_wkb(self._spec.aoi_wkb), 0.05)
        shifted = [
            shapely.transform(area, lambda c, s=s: c + np.array([s, 0.0])) for s in (-360, 0, 360)
        ]
        local = shapely.union_all([shapely.intersection(part, near) for part in shifted])
        margin_px = self._spec.config.grid.aoi_margin_m / self._spec.gsd_m
        pixels = outlines_to_pixels(grid, np.array([local]))[0].buffer(margin_px)
        shapely.prepare(pixels)
        return pixels
