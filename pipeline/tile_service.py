"""A tile service ({z}/{x}/{y}) as one image: the part that an area of interest needs.

GDAL's WMS driver reads the tiles; this says which. The image is cut to whole tiles around the area,
aligned so that the coarser zooms, which serve as overviews, begin at whole tiles too.
"""

import dataclasses
import hashlib
import math
from xml.sax.saxutils import escape

import shapely

from geo.grid import MAX_LATITUDE_DEG, METRES_PER_DEGREE, MIN_LATITUDE_DEG
from geo.images import ImageInfo, open_image
from pipeline.image_sources import CatalogueError, TilesConfig

HALF_WIDTH_M = 20037508.342789244
"""Half the width of web mercator (EPSG:3857)."""
COARSE_PX = 1 << 20
"""Pixels that the coarsest view should not go below: enough to see what is fill."""
TIMEOUT_S = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileRange:
    """Tiles of one zoom: first column and row (from the north), numbers of columns and rows.

    Attributes:
        num_coarser: zooms below that divide the range into whole tiles.
    """

    col: int
    row: int
    num_cols: int
    num_rows: int
    num_coarser: int


def open_tiles(config: TilesConfig, area: shapely.Geometry | None, num_bands: int) -> ImageInfo:
    """The image of a tile service around an area; no tile is requested.

    Args:
        config: the service.
        area: polygons in degrees.
        num_bands: bands that the model wants, 1 to 3.

    Raises:
        CatalogueError: without an area.
        RasterError: if GDAL cannot make an image of it.
    """
    if area is None:
        raise CatalogueError(
            f"{config.tiles}: a tile service has no end; say what to read with area_of_interest"
        )
    tiles = tile_range(config, area.bounds)
    xml = service_xml(config, tiles)
    info = open_image(
        xml,
        image_id=config.id,
        date=config.date,
        bands=(1, 2, 3)[:num_bands],
        num_bands=num_bands,
        # The service does not tell when its imagery changes; the name may.
        version=hashlib.sha256(f"{config.id}\n{xml}".encode()).hexdigest()[:32],
    )
    levels = range(1, tiles.num_coarser + 1)
    # Coarser zooms have an alpha band too, but GDAL does not call it one.
    return dataclasses.replace(
        info,
        mask="band4",
        overview_sizes=tuple((info.width >> level, info.height >> level) for level in levels),
    )


def tile_range(config: TilesConfig, bounds: tuple[float, float, float, float]) -> TileRange:
    """The tiles around a rectangle of degrees (west, south, east, north), one more on each side."""
    assert config.zoom is not None
    num = 1 << config.zoom
    west, south, east, north = bounds
    left, right = (math.floor((lon + 180.0) / 360.0 * num) for lon in (west, east))
    top, bottom = (_tile_row(lat, num) for lat in (north, south))
    for num_coarser in range(config.zoom - config.min_zoom, -1, -1):
        step = 1 << num_coarser
        col, row = max(left - 1, 0) // step * step, max(top - 1, 0) // step * step
        col_end = min(-(-(right + 2) // step) * step, num)
        row_end = min(-(-(bottom + 2) // step) * step, num)
        area_px = (col_end - col) * (row_end - row) * config.tile_px**2
        is_on_grid = _latitude(row, num) <= MAX_LATITUDE_DEG
        is_on_grid &= _latitude(row_end, num) >= MIN_LATITUDE_DEG
        if is_on_grid and (area_px >> (2 * num_coarser) >= COARSE_PX or num_coarser == 0):
            break
    return TileRange(
        col=col, row=row, num_cols=col_end - col, num_rows=row_end - row, num_coarser=num_coarser
    )


def _tile_row(lat_deg: float, num: int) -> int:
    northing = math.asinh(math.tan(math.radians(lat_deg))) / math.pi
    return math.floor((1.0 - northing) / 2.0 * num)


def _latitude(row: int, num: int) -> float:
    return math.degrees(math.atan(math.sinh(math.pi * (1.0 - 2.0 * row / num))))


def service_xml(config: TilesConfig, tiles: TileRange) -> str:
    """GDAL's description of a tile service (https://gdal.org/en/stable/drivers/raster/wms.html).

    Four bands are asked for: a tile that is missing has an alpha of 0.
    """
    assert config.zoom is not None
    num = 1 << config.zoom
    size_m = 2 * HALF_WIDTH_M / num
    left, top = tiles.col * size_m - HALF_WIDTH_M, HALF_WIDTH_M - tiles.row * size_m
    right, bottom = left + tiles.num_cols * size_m, top - tiles.num_rows * size_m
    url = config.tiles.replace("{-y}", "{y}")
    for name in "xyz":
        url = url.replace(f"{{{name}}}", f"${{{name}}}")
    from_south = "{-y}" in config.tiles
    # Counted from the south GDAL takes the first tile's row away from that of the last.
    row = tiles.row + tiles.num_rows - num if from_south else tiles.row
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{escape(url)}</ServerUrl></Service>'
        f"<DataWindow><UpperLeftX>{left!r}</UpperLeftX><UpperLeftY>{top!r}</UpperLeftY>"
        f"<LowerRightX>{right!r}</LowerRightX><LowerRightY>{bottom!r}</LowerRightY>"
        f"<SizeX>{tiles.num_cols * config.tile_px}</SizeX>"
        f"<SizeY>{tiles.num_rows * config.tile_px}</SizeY>"
        f"<TileLevel>{config.zoom}</TileLevel><TileX>{tiles.col}</TileX><TileY>{row}</TileY>"
        f"<YOrigin>{'bottom' if from_south else 'top'}</YOrigin></DataWindow>"
        f"<Projection>EPSG:3857</Projection><BandsCount>4</BandsCount>"
        f"<BlockSizeX>{config.tile_px}</BlockSizeX><BlockSizeY>{config.tile_px}</BlockSizeY>"
        f"<OverviewCount>{tiles.num_coarser}</OverviewCount><MaxConnections>4</MaxConnections>"
        f"<Timeout>{TIMEOUT_S}</Timeout><ZeroBlockHttpCodes>204,404</ZeroBlockHttpCodes>"
        "<ZeroBlockOnServerException>false</ZeroBlockOnServerException></GDAL_WMS>"
    )


def degrees_around(margin_m: float, bounds: tuple[float, float, float, float]) -> float:
    """Degrees that are at least so many metres anywhere in a rectangle of degrees."""
    latitude = min(max(abs(bounds[1]), abs(bounds[3])), MAX_LATITUDE_DEG)
    return margin_m / (METRES_PER_DEGREE * math.cos(math.radians(latitude)))
