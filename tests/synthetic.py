"""Drawn towns with known truth, and the GeoTIFFs of them in every shape that users send.

A town is painted from a plan: the plane is cut into cells, and what stands in a cell is a function
of the seed and the cell alone. So a town can be painted whole (`draw_town`) or block by block into
a file larger than memory (`write_large_town`), with the same pixels either way.

Pixels are decided in exact integer arithmetic: vertices lie on 1/64 px, and a pixel belongs to a
building when its centre does. A polygon with whole-numbered, axis-parallel edges covers exactly
its area.

Pixel coordinates here are x = column, y = row (downwards), as rasterio has them.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import rasterio.shutil
import shapely
import shapely.affinity
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window
from shapely.geometry import Polygon

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

ROOF_RGB = (200, 60, 50)
"""The colour of roofs; nothing else comes within 40 levels of it in all three bands."""
OTHER_ROOFS_RGB = ((70, 90, 200), (240, 236, 228))
"""Two more roof colours, for drawings where not every roof is to be found."""
ROAD_RGB = (128, 124, 126)
TREE_RGB = (40, 84, 36)
GROUND_RGB = ((132, 126, 92), (112, 128, 84), (140, 120, 96), (104, 118, 88))

KINDS = ("rectangle", "l_shape", "courtyard", "row", "hut", "hall")
CELL_PX = 96
MARGIN_PX = 8
ROAD_EVERY = 4
HALL_EVERY = 7
HALL_CELLS = 16
SUBPIXEL = 64

_TEXTURE_PX = 509
_TEXTURE_LEVELS = 9


# --- what stands where ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """One drawn building: its kind, its outline in pixels (y downwards) and its roof colour."""

    kind: str
    polygon_px: Polygon
    rgb: tuple[int, int, int] = ROOF_RGB


@dataclass(frozen=True, slots=True, kw_only=True)
class TownPlan:
    """What stands in every cell of a plane of height x width pixels; a pure function of the seed.

    Cells that the image cuts stay empty, so that every building is whole.

    Attributes:
        height: rows of the image.
        width: columns of the image.
        seed: another seed, another town.
        kinds: what may stand in a cell; a subset of `KINDS`.
        share_built: share of cells that hold buildings.
        roofs_rgb: colours to choose from.
        gap_px: pixels between row houses; None for 1 or 2, by cell.
    """

    height: int
    width: int
    seed: int = 0
    kinds: tuple[str, ...] = KINDS
    share_built: float = 0.85
    roofs_rgb: tuple[tuple[int, int, int], ...] = (ROOF_RGB,)
    gap_px: int | None = None

    def cells(self, window: Window) -> Iterator[tuple[int, int]]:
        """The cells (row, col) that a pixel window meets."""
        first_row, first_col = window.row_off // CELL_PX, window.col_off // CELL_PX
        last_row = (window.row_off + window.height - 1) // CELL_PX
        last_col = (window.col_off + window.width - 1) // CELL_PX
        for row in range(first_row, last_row + 1):
            for col in range(first_col, last_col + 1):
                yield row, col

    def buildings(self, window: Window | None = None) -> list[Building]:
        """The buildings of all cells that a window meets (default: the whole plane)."""
        window = window or Window(0, 0, self.width, self.height)
        found: list[Building] = []
        halls: set[tuple[int, int]] = set()
        for row, col in self.cells(window):
            if not self._is_whole(row, col):
                continue
            if self._is_hall(row, col):
                halls.add((row, col // HALL_CELLS))
            else:
                found.extend(self._cell_buildings(row, col))
        found.extend(self._hall(row, index) for row, index in sorted(halls))
        return found

    def trees(self, window: Window) -> Iterator[tuple[float, float, float]]:
        """Trees (x, y, radius) in the empty cells that a window meets."""
        for row, col in self.cells(window):
            rng = self._rng(row, col)
            is_hall = self._is_whole(row, col) and self._is_hall(row, col)
            if is_hall or (rng.random() < self.share_built and self._is_whole(row, col)):
                continue
            for _ in range(int(rng.integers(2, 7))):
                radius = float(rng.uniform(4, 11))
                x, y = rng.uniform(MARGIN_PX + radius, CELL_PX - MARGIN_PX - radius, 2)
                yield col * CELL_PX + float(x), row * CELL_PX + float(y), radius

    def _rng(self, row: int, col: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, row, col))

    def _is_whole(self, row: int, col: int) -> bool:
        return (row + 1) * CELL_PX <= self.height and (col + 1) * CELL_PX <= self.width

    def _is_hall(self, row: int, col: int) -> bool:
        # Every seventh row of cells is a street of long halls, a few cells apart.
        return "hall" in self.kinds and row % HALL_EVERY == 3 and col % HALL_CELLS < HALL_CELLS - 2

    def _hall(self, row: int, index: int) -> Building:
        first = index * HALL_CELLS
        last = min(first + HALL_CELLS - 2, self.width // CELL_PX)
        left, right = first * CELL_PX + MARGIN_PX, last * CELL_PX - MARGIN_PX
        top = row * CELL_PX + 2 * MARGIN_PX
        shape = box_px(left, top, right - left, CELL_PX // 2)
        rgb = self.roofs_rgb[(row + index) % len(self.roofs_rgb)]
        return Building(kind="hall", polygon_px=shape, rgb=rgb)

    def _cell_buildings(self, row: int, col: int) -> list[Building]:
        rng = self._rng(row, col)
        kinds = [kind for kind in self.kinds if kind != "hall"]
        if not rng.random() < self.share_built or not kinds:
            return []
        kind = kinds[int(rng.integers(len(kinds)))]
        rgb = self.roofs_rgb[int(rng.integers(len(self.roofs_rgb)))]
        gap = self.gap_px or int(rng.integers(1, 3))
        return [
            Building(
                kind=kind,
                polygon_px=shapely.affinity.translate(shape, col * CELL_PX, row * CELL_PX),
                rgb=rgb,
            )
            for shape in _shapes_of_kind(kind, rng, gap)
        ]


def box_px(left: float, top: float, width: float, height: float) -> Polygon:
    """An axis-parallel rectangle."""
    return shapely.box(left, top, left + width, top + height)


def rotated_box_px(
    x: float, y: float, length: float, breadth: float, angle_deg: float = 0.0
) -> Polygon:
    """A rectangle around (x, y), turned; vertices lie on 1/64 px."""
    shape = box_px(x - length / 2, y - breadth / 2, length, breadth)
    return _on_subpixels(shapely.affinity.rotate(shape, angle_deg, origin=(x, y)))


def _on_subpixels(polygon: Polygon) -> Polygon:
    return shapely.transform(polygon, lambda xy: np.round(xy * SUBPIXEL) / SUBPIXEL)


def _shapes_of_kind(kind: str, rng: np.random.Generator, gap_px: int) -> list[Polygon]:
    """Outlines of a cell's buildings, relative to the cell's upper left corner."""
    middle = CELL_PX / 2
    angle = float(rng.uniform(0, 180))
    if kind == "rectangle":
        length, breadth = float(rng.uniform(34, 66)), float(rng.uniform(24, 40))
        return [rotated_box_px(middle, middle, length, breadth, angle)]
    if kind == "l_shape":
        return [_l_shape(middle, float(rng.uniform(44, 56)), float(rng.uniform(16, 24)), angle)]
    if kind == "courtyard":
        side, hole = float(rng.uniform(46, 56)), float(rng.uniform(14, 22))
        return [_courtyard(middle, side, hole, angle)]
    if kind == "row":
        return _row_houses(rng, gap_px)
    if kind == "hut":
        return _huts(rng)
    raise ValueError(f"kind = {kind!r}; expected one of {KINDS}")


def _l_shape(middle: float, side: float, breadth: float, angle_deg: float) -> Polygon:
    low, high, inner = middle - side / 2, middle + side / 2, middle - side / 2 + breadth
    corners = [(low, low), (high, low), (high, inner), (inner, inner), (inner, high), (low, high)]
    turned = shapely.affinity.rotate(Polygon(corners), angle_deg, origin=(middle, middle))
    return _on_subpixels(turned)


def _courtyard(middle: float, side: float, hole: float, angle_deg: float) -> Polygon:
    outer = rotated_box_px(middle, middle, side, side, angle_deg)
    inner = rotated_box_px(middle, middle, hole, hole, angle_deg)
    return Polygon(outer.exterior, [inner.exterior])


def _row_houses(rng: np.random.Generator, gap_px: int) -> list[Polygon]:
    """Houses on whole pixels, side by side with a narrow gap."""
    num, depth = int(rng.integers(3, 6)), int(rng.integers(26, 52))
    width = (CELL_PX - 2 * MARGIN_PX - (num - 1) * gap_px) // num
    top = int(rng.integers(MARGIN_PX, CELL_PX - MARGIN_PX - depth))
    return [box_px(MARGIN_PX + index * (width + gap_px), top, width, depth) for index in range(num)]


def _huts(rng: np.random.Generator) -> list[Polygon]:
    """One to four round huts, one to a quarter of the cell."""
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    quarters = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]
    chosen = rng.permutation(4)[: int(rng.integers(1, 5))]
    huts = []
    for index in sorted(chosen):
        radius = float(rng.uniform(7, 13))
        x = MARGIN_PX + quarters[index][0] * (CELL_PX - 2 * MARGIN_PX)
        y = MARGIN_PX + quarters[index][1] * (CELL_PX - 2 * MARGIN_PX)
        ring = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1)
        huts.append(_on_subpixels(Polygon(ring)))
    return huts


# --- painting ------------------------------------------------------------------------------------


def fill_mask(mask: Mask, polygon_px: Polygon, *, row_off: int = 0, col_off: int = 0) -> Mask:
    """Set the pixels whose centre lies in the polygon; exact, the same wherever the mask begins.

    Args:
        mask: bool, shape (rows, cols); changed and returned.
        polygon_px: holes allowed; vertices are taken to the nearest 1/64 px.
        row_off: row of the plane that the mask begins at.
        col_off: column of the plane that the mask begins at.
    """
    min_x, min_y, max_x, max_y = polygon_px.bounds
    top, left = max(math.floor(min_y) - row_off, 0), max(math.floor(min_x) - col_off, 0)
    bottom = min(math.ceil(max_y) - row_off, mask.shape[0])
    right = min(math.ceil(max_x) - col_off, mask.shape[1])
    if top >= bottom or left >= right:
        return mask
    y = (np.arange(top, bottom) + row_off) * SUBPIXEL + SUBPIXEL // 2
    x = (np.arange(left, right) + col_off) * SUBPIXEL + SUBPIXEL // 2
    inside = np.zeros((bottom - top, right - left), bool)
    for ring in (polygon_px.exterior, *polygon_px.interiors):
        points = np.round(shapely.get_coordinates(ring) * SUBPIXEL).astype(np.int64)
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            rows = (y0 <= y) != (y1 <= y)
            # Left of the edge, decided by the sign of a cross product: no rounding anywhere.
            cross = (x1 - x0) * (y[rows, None] - y0) - (x - x0) * (y1 - y0)
            inside[rows] ^= cross > 0 if y1 > y0 else cross < 0
    mask[top:bottom, left:right] |= inside
    return mask


@functools.cache
def _texture(seed: int) -> npt.NDArray[np.int16]:
    rng = np.random.default_rng((seed, 7))
    coarse = rng.integers(0, _TEXTURE_LEVELS, (_TEXTURE_PX // 4 + 1, _TEXTURE_PX // 4 + 1))
    fine = rng.integers(0, _TEXTURE_LEVELS, (_TEXTURE_PX, _TEXTURE_PX))
    smooth = np.kron(coarse, np.ones((4, 4), int))[:_TEXTURE_PX, :_TEXTURE_PX]
    return (smooth + fine - _TEXTURE_LEVELS + 1).astype(np.int16)


def paint(plan: TownPlan, window: Window | None = None) -> Pixels:
    """The pixels of a window of a town (default: the whole); uint8, shape (3, rows, cols)."""
    window = window or Window(0, 0, plan.width, plan.height)
    pixels = paint_ground(plan, window)
    paint_buildings(pixels, plan.buildings(window), window)
    return pixels


def paint_ground(plan: TownPlan, window: Window) -> Pixels:
    """Fields, roads and trees of a window, without buildings."""
    rows = np.arange(window.row_off, window.row_off + window.height)
    cols = np.arange(window.col_off, window.col_off + window.width)
    noise = _texture(plan.seed)[np.ix_(rows % _TEXTURE_PX, cols % _TEXTURE_PX)]
    field_rows, field_cols = rows[:, None] // CELL_PX // 2, cols // CELL_PX // 2
    index = (field_rows * 7 + field_cols * 3 + plan.seed) % len(GROUND_RGB)
    is_road = _near_road(rows)[:, None] | _near_road(cols)
    ground = np.array(GROUND_RGB, np.int16)[index]
    ground[is_road] = ROAD_RGB
    for x, y, radius in plan.trees(window):
        _paint_disc(ground, x - window.col_off, y - window.row_off, radius)
    return np.ascontiguousarray((ground + noise[..., None]).astype(np.uint8).transpose(2, 0, 1))


def _near_road(position: npt.NDArray[np.int64]) -> Mask:
    period = ROAD_EVERY * CELL_PX
    return np.asarray(np.abs((position + period // 2) % period - period // 2) < MARGIN_PX - 2)


def _paint_disc(ground: npt.NDArray[np.int16], x: float, y: float, radius: float) -> None:
    top, left = max(int(y - radius), 0), max(int(x - radius), 0)
    box = ground[top : max(int(y + radius) + 2, 0), left : max(int(x + radius) + 2, 0)]
    rows, cols = np.ogrid[: box.shape[0], : box.shape[1]]
    box[(rows + top + 0.5 - y) ** 2 + (cols + left + 0.5 - x) ** 2 < radius**2] = TREE_RGB


def paint_buildings(pixels: Pixels, buildings: Iterable[Building], window: Window) -> None:
    """Paint roofs into the pixels of a window (changed in place)."""
    for building in buildings:
        rows, cols = _box_slices(building.polygon_px, window)
        roof = pixels[:, rows, cols]
        offsets = {"row_off": window.row_off + rows.start, "col_off": window.col_off + cols.start}
        mask = fill_mask(np.zeros(roof.shape[1:], bool), building.polygon_px, **offsets)
        roof[:, mask] = np.array(building.rgb, np.uint8)[:, None]


def _box_slices(polygon_px: Polygon, window: Window) -> tuple[slice, slice]:
    min_x, min_y, max_x, max_y = polygon_px.bounds
    top, left = (
        max(math.floor(min_y) - window.row_off, 0),
        max(math.floor(min_x) - window.col_off, 0),
    )
    bottom, right = math.ceil(max_y) - window.row_off, math.ceil(max_x) - window.col_off
    return slice(top, max(bottom, top)), slice(left, max(right, left))


# --- a town somewhere on the earth ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """A drawn image, where it lies, and the truth about it.

    Attributes:
        pixels: uint8, shape (3, rows, cols).
        buildings: the truth, in pixels.
        transform: affine, (col, row) to CRS.
        crs: as text, such as "EPSG:32636".
        valid: bool, shape (rows, cols); False where fill was painted.
    """

    pixels: Pixels
    buildings: tuple[Building, ...]
    transform: Affine
    crs: str
    valid: Mask = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def polygons_px(self) -> list[Polygon]:
        """True outlines in pixels, y downwards."""
        return [building.polygon_px for building in self.buildings]

    @property
    def polygons(self) -> list[Polygon]:
        """True outlines in the CRS."""
        return [_apply(polygon, self.transform) for polygon in self.polygons_px]

    def polygons_in(self, crs: str) -> list[Polygon]:
        """True outlines in another CRS (x east, y north)."""
        turn = pyproj.Transformer.from_crs(self.crs, crs, always_xy=True).transform
        return [
            shapely.transform(polygon, lambda xy: np.stack(turn(xy[:, 0], xy[:, 1]), axis=1))
            for polygon in self.polygons
        ]

    @property
    def mask(self) -> Mask:
        """True on every roof; bool, shape (rows, cols)."""
        mask = np.zeros(self.shape, bool)
        for polygon in self.polygons_px:
            fill_mask(mask, polygon)
        return mask

    @property
    def instances(self) -> npt.NDArray[np.int32]:
        """The number of the building (from 1) on every pixel, 0 elsewhere."""
        numbers = np.zeros(self.shape, np.int32)
        for number, polygon in enumerate(self.polygons_px, start=1):
            numbers[fill_mask(np.zeros(self.shape, bool), polygon)] = number
        return numbers

    def crop(self, row_off: int, col_off: int, height: int, width: int) -> "Town":
        """A part of the image; buildings are clipped to it."""
        frame = shapely.box(col_off, row_off, col_off + width, row_off + height)
        rows, cols = slice(row_off, row_off + height), slice(col_off, col_off + width)
        kept = _clip_buildings(self.buildings, frame)
        return Town(
            pixels=self.pixels[:, rows, cols].copy(),
            buildings=tuple(
                replace(
                    item, polygon_px=shapely.affinity.translate(item.polygon_px, -col_off, -row_off)
                )
                for item in kept
            ),
            transform=self.transform @ Affine.translation(col_off, row_off),
            crs=self.crs,
            valid=self.valid[rows, cols].copy(),
        )

    def south_up(self) -> "Town":
        """The same place with the southern row first."""
        height = self.shape[0]
        turn = Affine(1, 0, 0, 0, -1, height)
        return replace(
            self,
            pixels=self.pixels[:, ::-1].copy(),
            valid=self.valid[::-1].copy(),
            transform=self.transform @ turn,
            buildings=tuple(
                replace(item, polygon_px=_apply(item.polygon_px, turn)) for item in self.buildings
            ),
        )

    def rotated(self, angle_deg: float) -> "Town":
        """The same picture with a geotransform turned around the image's middle."""
        height, width = self.shape
        turn = Affine.rotation(angle_deg, (width / 2, height / 2))
        return replace(self, transform=self.transform @ turn)

    def with_fill(
        self, rgb: tuple[int, int, int], *, border_px: int = 0, hole_px: Polygon | None = None
    ) -> "Town":
        """Fill painted over the border and over a hole inside; the truth is what stays visible."""
        height, width = self.shape
        seen = shapely.box(border_px, border_px, width - border_px, height - border_px)
        if hole_px is not None:
            seen = seen.difference(hole_px)
        valid = np.zeros(self.shape, bool)
        for part in shapely.get_parts(seen):
            fill_mask(valid, part)
        pixels = np.where(valid, self.pixels, np.array(rgb, np.uint8)[:, None, None])
        kept = _clip_buildings(self.buildings, seen)
        return replace(self, pixels=pixels, valid=valid & self.valid, buildings=tuple(kept))


def _apply(polygon: Polygon, transform: Affine) -> Polygon:
    a, b, c, d, e, f = transform[:6]
    return shapely.affinity.affine_transform(polygon, [a, b, d, e, c, f])


def _clip_buildings(buildings: Iterable[Building], frame: Polygon) -> list[Building]:
    kept = []
    for building in buildings:
        if frame.contains(building.polygon_px):
            kept.append(building)
            continue
        for part in shapely.get_parts(building.polygon_px.intersection(frame)):
            if isinstance(part, Polygon) and not part.is_empty:
                kept.append(replace(building, polygon_px=part))
    return kept


def place(crs: str, lon_deg: float, lat_deg: float, gsd_m: float) -> Affine:
    """Transform of an image with its upper left corner at a place and a pixel size on the ground.

    For EPSG:4326 and EPSG:3857 the pixel size is that at the corner's latitude; in EPSG:4326 pixels
    are square on the ground, not in degrees. Longitudes beyond 180 are kept in EPSG:4326, for
    images that cross the antimeridian.
    """
    scale = math.cos(math.radians(lat_deg))
    if crs == "EPSG:4326":
        step = gsd_m / 111_320.0
        return Affine(step / scale, 0, lon_deg, 0, -step, lat_deg)
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon_deg, lat_deg)
    step = gsd_m / scale if crs == "EPSG:3857" else gsd_m
    return Affine(step, 0, x, 0, -step, y)


def draw_town(
    height: int = 512,
    width: int = 512,
    *,
    seed: int = 0,
    gsd_m: float = 0.3,
    crs: str = "EPSG:32636",
    lon_deg: float = 32.6,
    lat_deg: float = 0.4,
    transform: Affine | None = None,
    **plan: object,
) -> Town:
    """A town with known truth.

    Args:
        height: rows.
        width: columns.
        seed: another seed, another town.
        gsd_m: metres on the ground per pixel.
        crs: of the image.
        lon_deg: longitude of the upper left corner.
        lat_deg: latitude of the upper left corner.
        transform: instead of `gsd_m`, `lon_deg` and `lat_deg`.
        **plan: further fields of `TownPlan`.
    """
    town_plan = TownPlan(height=height, width=width, seed=seed, **plan)  # type: ignore[arg-type]
    return Town(
        pixels=paint(town_plan),
        buildings=tuple(town_plan.buildings()),
        transform=transform or place(crs, lon_deg, lat_deg, gsd_m),
        crs=crs,
        valid=np.ones((height, width), bool),
    )


def draw_polygons(
    polygons_px: Sequence[Polygon],
    height: int = 256,
    width: int = 256,
    *,
    seed: int = 0,
    gsd_m: float = 0.3,
    crs: str = "EPSG:32636",
    lon_deg: float = 32.6,
    lat_deg: float = 0.4,
    transform: Affine | None = None,
) -> Town:
    """Just these buildings on open ground; arguments as in `draw_town`."""
    window = Window(0, 0, width, height)
    town_plan = TownPlan(height=height, width=width, seed=seed, kinds=())
    pixels = paint_ground(town_plan, window)
    buildings = tuple(Building(kind="given", polygon_px=polygon) for polygon in polygons_px)
    paint_buildings(pixels, buildings, window)
    return Town(
        pixels=pixels,
        buildings=buildings,
        transform=transform or place(crs, lon_deg, lat_deg, gsd_m),
        crs=crs,
        valid=np.ones((height, width), bool),
    )


# --- other pixels --------------------------------------------------------------------------------


def to_uint16(pixels: Pixels, max_level: int = 4095) -> npt.NDArray[np.uint16]:
    """The same picture in 16 bits: 0 to 255 becomes 0 to `max_level`."""
    return np.round(pixels.astype(np.float64) * (max_level / 255)).astype(np.uint16)


def to_float(pixels: Pixels, valid: Mask | None = None) -> npt.NDArray[np.float32]:
    """The same picture in [0, 1] as float32, NaN where it is not valid."""
    result = (pixels / np.float32(255)).astype(np.float32)
    if valid is not None:
        result[:, ~valid] = np.nan
    return result


def with_infrared(pixels: Pixels) -> Pixels:
    """A fourth band in front of which the first three are unchanged: bright where it is green."""
    green, red = pixels[1].astype(int), pixels[0].astype(int)
    return np.concatenate([pixels, np.clip(120 + 2 * (green - red), 0, 255)[None].astype(np.uint8)])


# --- files ---------------------------------------------------------------------------------------


def write_geotiff(
    path: Path,
    pixels: npt.NDArray[np.generic],
    *,
    transform: Affine | None,
    crs: str | None,
    nodata: float | None = None,
    mask: Mask | None = None,
    alpha: Mask | None = None,
    compress: str = "deflate",
    block_px: int = 256,
    overviews: Sequence[int] = (),
    acquired: str | None = None,
) -> Path:
    """Write a tiled GeoTIFF.

    Args:
        path: the file to make.
        pixels: any dtype, shape (bands, rows, cols).
        transform: affine; None writes a file without a place.
        crs: as text; None for none.
        nodata: tagged on every band.
        mask: an internal mask, True where valid.
        alpha: one more band, opaque where True.
        compress: "deflate", "jpeg" (8 bit, three bands) or "none".
        block_px: size of the blocks.
        overviews: factors, such as (2, 4).
        acquired: TIFFTAG_DATETIME, such as "2026:05:01 09:30:00".

    Returns:
        The path.
    """
    if alpha is not None:
        opaque = np.where(alpha, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
        pixels = np.concatenate([pixels, opaque[None]])
    profile = _profile(pixels.shape, pixels.dtype, compress, block_px)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile, crs=crs, transform=transform, nodata=nodata) as file,
    ):
        if alpha is not None:
            file.colorinterp = (*file.colorinterp[:-1], ColorInterp.alpha)
        file.write(pixels)
        if mask is not None:
            file.write_mask(mask)
        if acquired is not None:
            file.update_tags(TIFFTAG_DATETIME=acquired)
        if overviews:
            file.build_overviews(list(overviews), Resampling.average)
    return path


def write_town(path: Path, town: Town, **options: object) -> Path:
    """Write a town with `write_geotiff`; further options are passed on."""
    return write_geotiff(
        path,
        town.pixels,
        transform=town.transform,
        crs=town.crs,
        **options,  # type: ignore[arg-type]
    )


def write_cog(
    path: Path,
    town: Town,
    *,
    compress: str = "jpeg",
    nodata: float | None = None,
    mask: Mask | None = None,
    block_px: int = 256,
    overviews: str = "auto",
) -> Path:
    """Write a cloud-optimised GeoTIFF with overviews; "jpeg" (quality 90) or "deflate"."""
    source = path.with_suffix(".source.tif")
    write_town(source, town, nodata=nodata, mask=mask)
    options = {"BLOCKSIZE": block_px, "COMPRESS": compress.upper(), "OVERVIEWS": overviews.upper()}
    if compress == "jpeg":
        options["QUALITY"] = 90
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        rasterio.shutil.copy(source, path, driver="COG", **options)
    source.unlink()
    return path


def write_large_town(
    path: Path,
    size_px: int,
    seed: int = 0,
    *,
    crs: str = "EPSG:32636",
    lon_deg: float = 32.6,
    lat_deg: float = 0.4,
    gsd_m: float = 0.3,
    compress: str = "deflate",
    block_px: int = 512,
    overviews: bool = False,
    **plan: object,
) -> TownPlan:
    """Write a town of size_px x size_px block by block; memory stays at a few blocks.

    Its pixels (before JPEG) are those of `draw_town` with the same size, seed and plan.

    Returns:
        The plan, whose `buildings(window)` is the truth of any part.
    """
    town_plan = TownPlan(height=size_px, width=size_px, seed=seed, **plan)  # type: ignore[arg-type]
    profile = _profile((3, size_px, size_px), np.dtype(np.uint8), compress, block_px)
    transform = place(crs, lon_deg, lat_deg, gsd_m)
    # GDAL would otherwise keep dirty blocks of up to 5 % of the machine's memory.
    with (
        rasterio.Env(GDAL_CACHEMAX=32 * 2**20),
        rasterio.open(path, "w", **profile, crs=crs, transform=transform) as file,
    ):
        for _, window in file.block_windows(1):
            file.write(paint(town_plan, window), window=window)
        if overviews:
            num_levels = max(0, math.ceil(math.log2(size_px / block_px)))
            file.build_overviews([2**level for level in range(1, num_levels + 1)])
    return town_plan


def _profile(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], compress: str, block_px: int
) -> dict[str, object]:
    profile: dict[str, object] = {
        "driver": "GTiff",
        "count": shape[0],
        "height": shape[1],
        "width": shape[2],
        "dtype": dtype.name,
        "tiled": True,
        "blockxsize": block_px,
        "blockysize": block_px,
        "BIGTIFF": "IF_SAFER",
    }
    if compress == "jpeg":
        profile |= {"compress": "jpeg", "photometric": "ycbcr", "JPEG_QUALITY": 90}
        profile["interleave"] = "pixel"
    elif compress == "deflate":
        profile |= {"compress": "deflate", "ZLEVEL": 1, "interleave": "pixel"}
        if dtype.kind in "ui":
            profile["predictor"] = 2
    elif compress != "none":
        raise ValueError(f"compress = {compress!r}; expected 'deflate', 'jpeg' or 'none'")
    return profile
