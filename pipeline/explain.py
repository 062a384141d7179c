"""One tile again, every stage drawn: what the network saw, thought, and what became of it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.components import find_instances
from geo.geoparquet_reader import read_shards
from geo.grid import PixelWindow, Tile, unwrap_longitude, window_bounds_lonlat
from geo.instances import Instances
from geo.polygons import PolygonArray
from geo.seams import is_open
from geo.wkb import polygons_from_wkb
from model.segment import Segmenter
from pipeline.cover import Cover
from pipeline.pictures import StagePicture, draw_stages
from pipeline.spec import JobSpec
from pipeline.tile_store import TileStore
from pipeline.tile_work import ProfileShelf, make_task, read_layers, segment_layers


def explain_tile(spec: JobSpec, out: Path, tile: Tile, path: Path) -> dict[str, Any]:
    """Work on a tile again and draw it.

    Args:
        spec: the job that made the dataset.
        out: the dataset.
        tile: the tile.
        path: PNG to write.

    Returns:
        What was seen at each stage, by name.
    """
    segmenter = Segmenter.load(spec.config.model, spec.config.segment)
    shelf = ProfileShelf(spec, TileStore(spec.store_path))
    task = make_task(spec, Cover(spec), segmenter.fingerprint, tile)
    layers = read_layers(spec, shelf, task)
    done = segment_layers(spec, segmenter, layers)
    window, inner = task.window, task.window.within(task.window.expand(spec.margin_px))
    instances = find_instances(
        done.probability, threshold=spec.bundle.threshold_uint8, window=window
    )
    cut = is_open(instances, tile.window)
    outlines, footprints = _final_outlines(spec, out, tile, window)
    image = layers.rasters[0].pixels[(slice(None), *inner)] if layers.rasters else None
    valid = layers.rasters[0].valid[inner] if layers.rasters else np.zeros((1, 1), bool)
    if image is not None:
        stages = _stages(image, valid, done.probability, instances, cut, outlines, window)
        draw_stages(path, stages, window=window, gsd_m=spec.gsd_m, title=tile.name)
    return {
        "tile": tile.name,
        "images": ", ".join(spec.images[index].image_id for index in task.images),
        "valid pixels": f"{done.num_pixels_valid:,} of {window.width * window.height:,}",
        "windows": done.num_windows,
        "instances": len(instances),
        "cut by the tile's edge": int(cut.sum()),
        "footprints here": len(footprints),
    }


def _stages(
    image: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    probability: npt.NDArray[np.uint8],
    instances: Instances,
    cut: npt.NDArray[np.bool_],
    outlines: PolygonArray,
    window: PixelWindow,
) -> list[StagePicture]:
    numbers = paint_instances(instances, window)
    return [
        StagePicture(title="image", layer=image),
        StagePicture(title="valid", layer=valid),
        StagePicture(title="probability", layer=probability),
        StagePicture(title="instances", layer=numbers, note=f"{len(instances)}"),
        StagePicture(
            title="pieces cut by the edge",
            layer=numbers,
            highlighted=np.flatnonzero(cut) + 1,
            note=f"{int(cut.sum())}",
        ),
        StagePicture(title="footprints", layer=image, outlines=outlines, note=f"{len(outlines)}"),
    ]


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
    spec: JobSpec, out: Path, tile: Tile, window: PixelWindow
) -> tuple[PolygonArray, pa.Table]:
    ring = window_bounds_lonlat(tile.grid, window)
    bounds = (*ring.min(axis=0).tolist(), *ring.max(axis=0).tolist())
    table = read_shards(out / "footprints", bbox=bounds, columns=["geometry", "confidence"])
    polygons = polygons_from_wkb(table["geometry"])
    lon = unwrap_longitude(polygons.coords[:, 0], tile.grid.central_meridian_deg)
    cols, rows = tile.grid.from_lonlat(lon, polygons.coords[:, 1])
    return dataclasses.replace(polygons, coords=np.stack([cols, -rows], axis=1)), table
