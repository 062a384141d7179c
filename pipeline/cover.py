"""Which tiles, and which cores within them, the images and the area of interest cover.

Everything is decided per core or per tile from the images' outlines alone, never listed whole:
`plan_cells` gives a few hundred coarse cells, workers expand each to its tiles.
"""

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import shapely

from geo.grid import (
    METRES_PER_DEGREE,
    Tile,
    WorldGrid,
    cores_in_zone,
    unwrap_longitude,
    zones_of_bounds,
)
from geo.pixel_window import PixelWindow
from pipeline.spec import JobSpec, TileKey

TILES_PER_CELL = 16
"""Tiles per side of a planning cell."""
FOOTPRINT_SLACK_PX = 4
"""Image outlines are drawn with straight pieces; the slack keeps their curvature inside."""


class Cover:
    """The ground of a job, zone by zone, in pixel coordinates of each zone's grid.

    Pixel coordinates here are (col, row) with rows southwards, as in `PixelWindow`.
    """

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._zone_images = functools.cache(self._make_zone_images)
        self._zone_aoi = functools.cache(self._make_zone_aoi)

    def zones(self) -> list[int]:
        """Zones that hold ground of the job, overlaps with their neighbours included."""
        found: set[int] = set()
        for image in self._spec.images:
            lon, lat = np.asarray(image.footprint).T
            overlap = self._overlap_deg(float(np.abs(lat).max()))
            found.update(zones_of_bounds(float(lon.min()), float(lon.max()), overlap))
        return sorted(found)

    def plan_cells(self) -> list[TileKey]:
        """Coarse cells (zone, row, col) of 16 x 16 tiles that together hold all tiles."""
        size = self._spec.tile_px * TILES_PER_CELL
        cells: set[TileKey] = set()
        for zone in self.zones():
            for geometry in self._zone_images(zone):
                west, north, east, south = geometry.bounds
                rows = range(int(north // size), int(south // size) + 1)
                cols = range(int(west // size), int(east // size) + 1)
                cells.update((zone, row, col) for row in rows for col in cols)
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
            bool, shape (tile_px / core_px, tile_px / core_px).
        """
        spec, window = self._spec, tile.window
        core = spec.core_px
        in_zone = cores_in_zone(tile.grid, window, core, spec.config.grid.max_building_m)
        rows, cols = np.indices(in_zone.shape)
        left, top = window.col_off + cols * core, window.row_off + rows * core
        boxes = shapely.box(left, top, left + core, top + core)
        return np.asarray(in_zone & self._meets_ground(tile.zone, boxes))

    def images_of(self, zone: int, window: PixelWindow) -> list[int]:
        """Positions of the images whose outlines meet a window, in the config's order."""
        tree = self._zone_tree(zone)
        box = shapely.box(window.col_off, window.row_off, window.col_end, window.row_end)
        return sorted(int(index) for index in tree.query(box, predicate="intersects"))

    def tile_extent(self) -> dict[int, tuple[int, int, int, int]]:
        """Per zone: first and last tile row, first and last tile column of the images."""
        size = self._spec.tile_px
        extents = {}
        for zone in self.zones():
            west, north, east, south = shapely.total_bounds(self._zone_images(zone)) // size
            extents[zone] = (int(north), int(south), int(west), int(east))
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
        hits = self._zone_tree(zone).query(boxes.ravel(), predicate="intersects")
        flags = np.zeros(boxes.size, np.bool_)
        flags[hits[0]] = True
        meets = flags.reshape(boxes.shape)
        aoi = self._zone_aoi(zone)
        return meets if aoi is None else meets & shapely.intersects(aoi, boxes)

    @functools.cache  # noqa: B019 - one Cover per process, kept for its life
    def _zone_tree(self, zone: int) -> shapely.STRtree:
        return shapely.STRtree(self._zone_images(zone))

    def _make_zone_images(self, zone: int) -> npt.NDArray[np.object_]:
        grid = self._spec.grid(zone)
        return np.array(
            [
                _to_pixels(grid, shapely.Polygon(image.footprint)).buffer(FOOTPRINT_SLACK_PX)
                for image in self._spec.images
            ]
        )

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
        pixels = _to_pixels(grid, local).buffer(margin_px)
        shapely.prepare(pixels)
        return pixels

    def _overlap_deg(self, latitude_deg: float) -> float:
        scale = METRES_PER_DEGREE * np.cos(np.radians(min(latitude_deg, 84.0)))
        return float(self._spec.config.grid.max_building_m / scale)


def _to_pixels(grid: WorldGrid, geometry: shapely.Geometry) -> shapely.Geometry:
    def project(coords: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        lon = unwrap_longitude(coords[:, 0], grid.central_meridian_deg)
        # Transverse Mercator folds beyond 80 degrees from the meridian; nothing there is ours.
        lon = np.clip(lon, grid.central_meridian_deg - 20.0, grid.central_meridian_deg + 20.0)
        return np.stack(grid.from_lonlat(lon, coords[:, 1]), axis=1)

    return shapely.transform(geometry, project)
