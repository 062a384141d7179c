"""Planning a job of very many images that a catalogue lists: time, memory, and a tile's share.

    python benchmarks/many_images.py [--images 100000] [--kind index|parquet|items] [--command]

Draws footprints of images that do not exist (planning opens none), lets a fresh process plan the
job from them, and prints the seconds of each step, its peak memory, the size of the pickled spec,
and the time from a tile to its list of images. With --command the whole `everyroof run --dry-run`
is timed too, which counts every tile and window.
"""

import argparse
import dataclasses
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from model.colour_bundle import save_colour_bundle

SIDE_DEG = 0.02
"""Images of about 2.2 km, a third of which overlap the next one."""


def draw_outlines(number: int) -> np.ndarray:
    """A country of images on both sides of a zone's edge (30 degrees east) and of the equator."""
    across = int(np.ceil(np.sqrt(number)))
    index = np.arange(number)
    west = 30.0 + (index % across - across / 2) * SIDE_DEG * 0.7
    south = (index // across - across / 2) * SIDE_DEG * 0.7
    return shapely.box(west, south, west + SIDE_DEG, south + SIDE_DEG)


def write_catalogue(folder: Path, kind: str, number: int) -> dict[str, Any]:
    """The drawn images as a catalogue; returns its entry of the config."""
    outlines = draw_outlines(number)
    paths = [f"https://images.invalid/{i // 1000}/{i}.tif" for i in range(number)]
    if kind == "index":
        frame = geopandas.GeoDataFrame({"location": paths}, geometry=outlines, crs=4326)
        frame["date"] = "2024-03-17"
        frame.to_file(folder / "images.gpkg", engine="pyogrio")
        return {"index": str(folder / "images.gpkg")}
    moment = "2024-03-17T08:00:00Z"
    if kind == "items":
        features = [
            {
                "type": "Feature",
                "id": f"i{i}",
                "geometry": shapely.geometry.mapping(outlines[i]),
                "properties": {"datetime": moment},
                "assets": {"visual": {"href": paths[i], "roles": ["visual"]}},
            }
            for i in range(number)
        ]
        (folder / "items.json").write_text(
            json.dumps({"type": "FeatureCollection", "features": features})
        )
        return {"stac": str(folder / "items.json")}
    assets = [{"visual": {"href": path, "roles": ["visual"]}} for path in paths]
    columns = {
        "id": [f"i{i}" for i in range(number)],
        "geometry": shapely.to_wkb(outlines).tolist(),
        "datetime": [moment] * number,
        "assets": assets,
    }
    pq.write_table(pa.table(columns), folder / "images.parquet")
    return {"stac": str(folder / "images.parquet")}


def plan_here(config_path: str) -> dict[str, float]:
    """Plan a job in this process; seconds of each step, and sizes."""
    from geo.image_levels import Level  # noqa: F401 - imports are not what is timed
    from pipeline.config import load_config
    from pipeline.cover import Cover
    from pipeline.image_index import index_folder
    from pipeline.spec import resolve_config

    config = load_config(config_path)
    start_mb = _peak_mb()
    facts: dict[str, float] = {}
    begin = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal begin
        facts[name] = round(time.perf_counter() - begin, 3)
        begin = time.perf_counter()

    spec = resolve_config(config)
    lap("read_s")
    saved = spec.images.saved(index_folder(spec.store_path))
    lap("save_s")
    spec = dataclasses.replace(spec, images=saved)
    cover = Cover(spec)
    cells = cover.plan_cells()
    lap("cells_s")
    tiles = [tile for cell in cells[:: max(len(cells) // 20, 1)] for tile in cover.tiles_in(cell)]
    lap("expand_20_cells_s")
    found = sum(len(cover.images_of(t.zone, t.window.expand(spec.margin_px))) for t in tiles)
    lap("images_of_s")
    for tile in tiles:
        cover.core_mask(tile)
    lap("core_mask_s")
    facts |= {
        "cells": len(cells),
        "tiles": len(tiles),
        "images_per_tile": round(found / max(len(tiles), 1), 2),
        "us_per_images_of": round(1e6 * facts["images_of_s"] / max(len(tiles), 1), 1),
        "us_per_core_mask": round(1e6 * facts["core_mask_s"] / max(len(tiles), 1), 1),
        "spec_bytes": len(pickle.dumps(spec)),
        "start_mb": start_mb,
        "peak_mb": _peak_mb(),
    }
    return facts


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--kind", choices=["index", "parquet", "items"], default="index")
    parser.add_argument("--command", action="store_true")
    parser.add_argument("--plan", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        print(json.dumps(plan_here(arguments.plan)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_catalogue(folder, arguments.kind, arguments.images)
        bundle = save_colour_bundle(folder / "colour.safetensors", roof_colours=[(200, 60, 60)])
        config = {"images": [source], "model": str(bundle)}
        for name in ("out", "dry"):
            text = json.dumps({**config, "output": str(folder / name)})
            (folder / f"{name}.yaml").write_text(text)
        plan = [sys.executable, __file__, "--plan", str(folder / "out.yaml")]
        print(subprocess.run(plan, check=True, capture_output=True, text=True).stdout.strip())
        if arguments.command:
            command = [str(Path(sys.executable).parent / "everyroof"), "run", "--dry-run"]
            begin = time.perf_counter()
            subprocess.run([*command, str(folder / "dry.yaml")], check=True)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"dry run: {time.perf_counter() - begin:.1f} s, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
