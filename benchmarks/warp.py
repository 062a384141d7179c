"""Reading an image onto the world grid, beside GDAL's warper: Mpx/s and peak memory.

    python benchmarks/warp.py ../shared/data/scenes/banepa.tif

Each measurement runs in a process of its own, in turns, so that caches and peaks do not mix.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from geo.gdal import gdal_env
from geo.grid import WorldGrid, zone_of_longitude
from geo.image_levels import choose_level
from geo.image_profile import profile_image
from geo.images import ImageInfo, open_image
from geo.pixel_window import PixelWindow
from geo.rasters import RasterConfig, TileReader, covers

METHODS = ("everyroof", "WarpedVRT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("--gsd-mm", type=int, default=300)
    parser.add_argument("--tile-px", type=int, default=4096)
    parser.add_argument("--margin-px", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--method", choices=METHODS, help="one measurement, for internal use")
    args = parser.parse_args()
    if args.method:
        measure(args.method, args)
        return
    results: dict[str, list[list[float]]] = {method: [] for method in METHODS}
    for _ in range(args.repeats):
        for method in METHODS:
            command = [sys.executable, *sys.argv, "--method", method]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results[method].append([float(word) for word in done.stdout.split()])
    print(
        f"{args.image} at {args.gsd_mm} mm, tiles of {args.tile_px} px; medians of {args.repeats}"
    )
    for method in METHODS:
        columns = zip(*results[method], strict=True)
        wall, cpu, profile, mpx, start_mb, peak_mb = (statistics.median(c) for c in columns)
        print(
            f"{method:10s} {mpx:.1f} Mpx in {wall:.2f} s ({cpu:.2f} s CPU): {mpx / wall:.1f} Mpx/s,"
            f" peak {peak_mb:.0f} MB ({start_mb:.0f} MB before), profile {profile:.3f} s"
        )


def measure(method: str, args: argparse.Namespace) -> None:
    info = open_image(args.image)
    grid = WorldGrid(zone_of_longitude(info.footprint[0][0]), args.gsd_mm)
    config = RasterConfig()
    profile_image(info, config)  # compiles, or loads what was compiled
    start = time.perf_counter()
    profile = profile_image(info, config)
    profile_s = time.perf_counter() - start
    windows = list(tiles(info, grid, args.tile_px))
    start_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with TileReader([info], [profile], grid, config) as reader:
        corner = windows[0]
        reader.read(PixelWindow(corner.col_off, corner.row_off, 8, 8))
        start, start_cpu = time.perf_counter(), time.process_time()
        if method == "everyroof":
            valid = sum(int(reader.read(w.expand(args.margin_px)).valid.sum()) for w in windows)
        else:
            valid = warp_with_gdal(info, grid, [w.expand(args.margin_px) for w in windows])
        wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(wall, cpu, profile_s, valid / 1e6, start_mb, peak_mb)


def tiles(info: ImageInfo, grid: WorldGrid, size_px: int) -> Iterator[PixelWindow]:
    lon, lat = np.array(info.footprint).T
    cols, rows = grid.from_lonlat(lon, lat)
    for row in range(int(rows.min() // size_px), int(rows.max() // size_px) + 1):
        for col in range(int(cols.min() // size_px), int(cols.max() // size_px) + 1):
            window = PixelWindow(col * size_px, row * size_px, size_px, size_px)
            if covers(info, grid, window):
                yield window


def warp_with_gdal(info: ImageInfo, grid: WorldGrid, windows: list[PixelWindow]) -> int:
    """The same windows through GDAL's warper: bilinear, from the same overview.

    Without the alpha that would tell validity: with it GDAL takes six times as long.
    """
    overview = choose_level(info, grid.gsd_m).overview
    options = {} if overview is None else {"overview_level": overview}
    valid = 0
    with gdal_env(info.path), rasterio.open(info.path, **options) as dataset:
        for window in windows:
            offset = grid.transform.translation(window.col_off, window.row_off)
            target = {
                "crs": f"EPSG:{grid.epsg}",
                "transform": grid.transform @ offset,
                "width": window.width,
                "height": window.height,
                "resampling": Resampling.bilinear,
                "warp_mem_limit": 256,
            }
            with WarpedVRT(dataset, **target) as vrt:
                valid += int(vrt.read().any(axis=0).sum())
    return valid


if __name__ == "__main__":
    main()
