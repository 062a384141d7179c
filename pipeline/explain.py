"""One tile again, every stage drawn: what the network saw, thought, and what became of it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.geoparquet_reader import read_shards
from geo.grid import Tile, unwrap_longitude, window_bounds_lonlat
from geo.instances import Instances
from geo.pixel_window import PixelWindow
from geo.places import Place
from geo.polygons import PolygonArray
from geo.seams import is_open
from geo.wkb import polygons_from_wkb
from pipeline.cover import Cover
from pipeline.detect import load_segmenter
from pipeline.image_shelf import ImageShelf
from pipeline.pictures import StagePicture, draw_stages
from pipeline.spec import JobSpec
from pipeline.tile_store import TileStore
from pipeline.tile_work import (
    find_tile_instances,
    make_task,
    read_layers,
    segment_layers,
)


def explain_tile(spec: JobSpec, out: Place, tile: Tile, path: Path) -> dict[str, Any]:
    """Work on a tile again and draw it.

    Args:
        spec: the job that made the dataset.
        out: the dataset.
        tile: the tile.
        path: PNG to write.

    Returns:
        What was seen at each stage, by name.
    """
    segmenter = load_segmenter(spec)
    shelf = ImageShelf(spec, TileStore(spec.store_path))
    task = make_task(spec, Cover(spec), shelf, segmenter.fingerprint, tile)
    layers = read_layers(spec, shelf, task)
    shelf.close()
    done = segment_layers(spec, segmenter, layers)
    window = task.window
    instances = find_tile_instances(spec, done)
    cut = is_open(instances, tile.window)
    outlines, footprints = _final_outlines(spec, out, tile, window)
    if layers.rasters and window.width:
        raster, outer = layers.rasters[0], window.expand(spec.margin_px)
        seen = _seen_window(raster.valid[window.within(outer)], window)
        numbers = paint_instances(instances, window)[seen.within(window)]
        stages = _stages(
            raster.pixels[(slice(None), *seen.within(outer))],
            raster.valid[seen.within(outer)],
            done.probability[seen.within(window)],
            numbers,
            np.flatnonzero(cut) + 1,
            outlines,
        )
        draw_stages(path, stages, window=seen, gsd_m=spec.gsd_m, title=tile.name)
    return {
        "tile": tile.name,
        "images": ", ".join(image.info.image_id for image in task.opened),
        "valid pixels": f"{done.num_pixels_valid:,} of {window.width * window.height:,}",
        "windows": done.num_windows,
        "left out at first look": done.num_left_out,
        "instances": len(instances),
        "cut by the tile's edge": int(cut.sum()),
        "footprints here": len(footprints),
    }


def _stages(
    image: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    probability: npt.NDArray[np.uint8],
    numbers: npt.NDArray[np.int32],
    cut: npt.NDArray[np.int64],
    outlines: PolygonArray,
) -> list[StagePicture]:
    num_instances = np.count_nonzero(np.unique(numbers))
    return [
        StagePicture(title="image", layer=image),
        StagePicture(title="valid", layer=valid),
        StagePicture(title="probability", layer=probability),
        StagePicture(title="instances", layer=numbers, note=f"{num_instances}"),
        StagePicture(
            title="pieces cut by the edge",
            layer=numbers,
            highlighted=cut,
            note=f"{len(cut)}",
        ),
        StagePicture(title="footprints", layer=image, outlines=outlines, note=f"{len(outlines)}"),
    ]


def _seen_window(valid: npt.NDArray[np.bool_], window: PixelWindow) -> PixelWindow:
    """The part of a window with valid pixels and a little around it; all of it if none is."""
    rows, cols = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if len(rows) == 0:
        return window
    top, left = max(int(rows[0]) - 8, 0), max(int(cols[0]) - 8, 0)
    bottom = min(int(rows[-1]) + 9, window.height)
    right = min(int(cols[-1]) + 9, window.width)
    return PixelWindow(window.col_off + left, window.row_off + top, right - left, bottom - top)


def paint_instances(instances: Instances, window: PixelWindow) -> npt.NDArray[np.int32]:
    """Instances as a raster of numbers from 1, 0 where there is none; int32 (height, width)."""
    numbers = np.zeros((window.height, window.width), np.int32)
    owner = np.repeat(np.arange(1, len(instances) + 1), np.diff(instances.run_offsets))
    rows = instances.run_row - window.row_off
    starts, ends = instances.run_start - window.col_off, instances.run_end - window.col_off
    for row, start, end, number in zip(rows, starts, ends, owner, strict=True):
        numbers[row, start:end] = number
    return numbers


def _final_outlines(
    spec: JobSpec, out: Place, tile: Tile, window: PixelWindow
) -> tuple[PolygonArray, pa.Table]:
    ring = window_bounds_lonlat(tile.grid, window)
    bounds = (*ring.min(axis=0).tolist(), *ring.max(axis=0).tolist())
    table = read_shards(out / "footprints", bbox=bounds, columns=["geometry", "confidence"])
    polygons = polygons_from_wkb(table["geometry"])
    lon = unwrap_longitude(polygons.coords[:, 0], tile.grid.central_meridian_deg)
    cols, rows = tile.grid.from_lonlat(lon, polygons.coords[:, 1])
    return dataclasses.replace(polygons, coords=np.stack([cols, -rows], axis=1)), table
