"""`everyroof view --export`: page, footprints and image in one file that needs nothing else."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import rasterio
import shapely
from rasterio.crs import CRS

from geo.atomic_files import atomic_path
from geo.errors import DatasetError
from geo.footprint_index import confidence_steps
from geo.footprints import COORDINATE_STEP_DEG
from geo.geoparquet import Bounds
from geo.query import Query, count_footprints, read_batches
from geo.web_mercator import CIRCUMFERENCE_M, to_unit
from geo.wkb import polygons_from_wkb
from pipeline.palette import STATUS_ORDER
from pipeline.viewer.page import inlined_page, json_bytes
from pipeline.viewer.records import outlined_tiles
from pipeline.viewer.scene import Scene, describe

MAX_FOOTPRINTS = 50_000
"""Footprints of an exported page: some 2 MB, and what a browser draws at ease without tiles."""
MAX_IMAGE_BYTES = 3_000_000
"""Of the image in an exported page."""
_MAX_IMAGE_PX = 4096
_MARGIN_SHARE = 0.02
_COLUMNS = (
    "longitude",
    "latitude",
    "area_in_meters",
    "confidence",
    "geometry",
    "full_plus_code",
    "id",
    "image_id",
    "image_date",
    "model_id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedPage:
    """What was written.

    Attributes:
        num_footprints: footprints in the page.
        num_bytes: size of the file.
    """

    num_footprints: int
    num_bytes: int


def export_page(scene: Scene, path: Path, bbox: Bounds | None = None) -> ExportedPage:
    """Write one self-contained page, whole or not at all.

    Args:
        scene: what to show.
        path: the HTML file; an existing one is replaced.
        bbox: only footprints whose centroid lies here, in degrees; west above east crosses the
            antimeridian.

    Raises:
        DatasetError: for more than `MAX_FOOTPRINTS` footprints.
        ValueError: for a bbox that is none.
    """
    table = _footprints(scene, bbox)
    description = _description(scene, table, bbox)
    picture = _picture(scene, description["bounds"])
    data = {
        "footprints": gzip.compress(json_bytes(footprint_columns(table)), mtime=0),
        "ledger": gzip.compress(json_bytes(_ledger(scene, description["bounds"])), mtime=0),
    }
    if picture is not None:
        data["image"], description["image_corners"] = picture
    html = inlined_page(description, data)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(html, encoding="utf-8")
    return ExportedPage(num_footprints=len(table), num_bytes=path.stat().st_size)


def footprint_columns(table: pa.Table) -> dict[str, Any]:
    """Footprints as columns for JSON, small once compressed.

    Outlines are whole steps of `COORDINATE_STEP_DEG`, each point from the one before; texts that
    repeat are listed once.
    """
    polygons = polygons_from_wkb(table["geometry"])
    steps = np.rint(polygons.coords / COORDINATE_STEP_DEG).astype(np.int64)
    steps = np.diff(steps, axis=0, prepend=np.zeros((1, 2), np.int64))
    columns: dict[str, Any] = {
        "num_rings": np.diff(polygons.polygon_offsets).tolist(),
        "num_points": np.diff(polygons.ring_offsets).tolist(),
        "x": steps[:, 0].tolist(),
        "y": steps[:, 1].tolist(),
        "lon": table["longitude"].to_pylist(),
        "lat": table["latitude"].to_pylist(),
        "area_m2": table["area_in_meters"].to_pylist(),
        "confidence": confidence_steps(table["confidence"].to_numpy()).tolist(),
        "plus_code": table["full_plus_code"].to_pylist(),
        "id": table["id"].to_pylist(),
    }
    dates = [None if date is None else date.isoformat() for date in table["image_date"].to_pylist()]
    for name, texts in (
        ("image", table["image_id"].to_pylist()),
        ("date", dates),
        ("model", table["model_id"].to_pylist()),
    ):
        columns[f"{name}s"] = list(dict.fromkeys(texts))
        place = {text: k for k, text in enumerate(columns[f"{name}s"])}
        columns[name] = [place[text] for text in texts]
    return columns


def _footprints(scene: Scene, bbox: Bounds | None) -> pa.Table:
    query = Query(bbox=bbox, columns=_COLUMNS)
    num = count_footprints(scene.dataset, query)
    if num > MAX_FOOTPRINTS:
        where = "the dataset holds" if bbox is None else "the bbox holds"
        raise DatasetError(
            f"{where} {num:,} footprints; one page takes {MAX_FOOTPRINTS:,}: name a smaller area "
            "with --bbox WEST,SOUTH,EAST,NORTH, or look at it without --export"
        )
    batches = list(read_batches(scene.dataset, query))
    if not batches:
        schema = scene.groups.footers[0].schema.to_arrow_schema() if scene.groups.footers else None
        return _no_footprints(schema)
    return pa.Table.from_batches(batches)


def _no_footprints(schema: pa.Schema | None) -> pa.Table:
    from geo.footprints import PUBLIC_SCHEMA

    found = PUBLIC_SCHEMA if schema is None else schema
    return pa.table({name: pa.array([], found.field(name).type) for name in _COLUMNS})


def _description(scene: Scene, table: pa.Table, bbox: Bounds | None) -> dict[str, Any]:
    description = describe(scene)
    bounds = description["bounds"]
    if bbox is not None:
        west, south, east, north = bbox
        bounds = (west, south, east + 360.0 if east < west else east, north)
    return description | {
        "num_footprints": len(table),
        "bounds": bounds,
        "coordinate_step_deg": COORDINATE_STEP_DEG,
    }


def _ledger(scene: Scene, bounds: Bounds | None) -> list[dict[str, Any]]:
    """The tiles that meet the page's area, with their outlines."""
    if scene.ledger_groups is None or bounds is None:
        return []
    boxes = [
        shapely.box(bounds[0] + t, bounds[1], bounds[2] + t, bounds[3]) for t in (-360, 0, 360)
    ]
    area = shapely.union_all(boxes)
    tiles = []
    for group in range(len(scene.ledger_groups)):
        for row, outline in outlined_tiles(scene.ledger_groups, group):
            if outline.intersects(area):
                row["outline"] = shapely.geometry.mapping(outline)["coordinates"]
                row["s"] = STATUS_ORDER.index(row["status"])
                tiles.append(row)
    return tiles


def _picture(scene: Scene, bounds: Bounds | None) -> tuple[bytes, Sequence[Sequence[float]]] | None:
    """The images as one picture of the map, and its corners in degrees, clockwise from NW."""
    seen = scene.imagery.bounds
    if seen is None or bounds is None:
        return None
    pad_x, pad_y = (_MARGIN_SHARE * (bounds[k + 2] - bounds[k]) for k in (0, 1))
    west, south = max(bounds[0] - pad_x, seen[0]), max(bounds[1] - pad_y, seen[1])
    east, north = min(bounds[2] + pad_x, seen[2]), min(bounds[3] + pad_y, seen[3])
    if west >= east or south >= north:
        return None
    corners = [(west, north), (east, north), (east, south), (west, south)]
    max_px = _MAX_IMAGE_PX
    while True:
        content = _render(scene, (west, south, east, north), max_px)
        if content is None or len(content) <= MAX_IMAGE_BYTES:
            return None if content is None else (content, corners)
        max_px = int(max_px * min(0.85, (MAX_IMAGE_BYTES / len(content)) ** 0.5))


def _render(scene: Scene, bounds: Bounds, max_px: int) -> bytes | None:
    from rio_tiler.errors import EmptyMosaicError, TileOutsideBounds
    from rio_tiler.mosaic import mosaic_reader

    x, y = to_unit([bounds[0], bounds[2]], [bounds[3], bounds[1]])
    metres = CIRCUMFERENCE_M * (np.array([x[0], -y[1], x[1], -y[0]]) + (-0.5, 0.5, -0.5, 0.5))
    shape = _shape(metres, max_px, min(image.gsd_m for image in scene.imagery.images), bounds)
    box = tuple(metres.tolist())
    try:
        found, _ = mosaic_reader(
            list(range(len(scene.imagery.images))),
            lambda number: scene.imagery.part(number, box, CRS.from_epsg(3857), shape),
            threads=0,
            allowed_exceptions=(TileOutsideBounds,),
        )
    except EmptyMosaicError:
        return None
    with rasterio.Env():
        return bytes(found.render(add_mask=not found.mask.all(), img_format="WEBP", QUALITY=80))


def _shape(
    metres: npt.NDArray[np.float64], max_px: int, gsd_m: float, bounds: Bounds
) -> tuple[int, int]:
    """Height and width in pixels: no finer than the images, and no side above `max_px`."""
    stretch = 1 / np.cos(np.radians((bounds[1] + bounds[3]) / 2))
    sides = np.array([metres[3] - metres[1], metres[2] - metres[0]])
    step = max(sides.max() / max_px, gsd_m * stretch)
    height, width = np.maximum(1, np.ceil(sides / step)).astype(int).tolist()
    return height, width
