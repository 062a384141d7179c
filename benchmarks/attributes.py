"""From outlines in metres to Arrow-ready rows: time per step, and Plus Codes against `pluscodes`.

Draws rotated rectangles and Z-shapes (7 ring points on average) on the ground of one tile and
prints medians in milliseconds per 100 buildings, for a few and for many buildings at once.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import pluscodes
import pyarrow as pa
import shapely

from geo.footprints import (
    footprint_ids,
    footprint_table,
    geometry_columns,
    polygons_from_wkb,
    to_lonlat,
)
from geo.grid import WorldGrid, zone_to_lonlat
from geo.lonlat import snap_polygons
from geo.pluscodes import encode_plus_codes
from geo.polygons import PolygonArray
from geo.s2cells import s2_leaf_cells
from geo.spherical import polygon_areas_m2, polygon_centroids
from geo.wkb import polygons_to_wkb

ZONE, GSD_MM = 36, 300
EAST_M, NORTH_M, SIDE_M = 450_000.0, 33_000.0, 1_200.0


def draw_outlines(num: int, seed: int = 0) -> PolygonArray:
    """Half rectangles (5 ring points), half with two more corners cut out (9 ring points)."""
    rng = np.random.default_rng(seed)
    shapes = []
    for k in range(num):
        width, height = rng.uniform(6, 25, 2)
        ring = np.array([(0, 0), (width, 0), (width, height), (0, height)])
        if k % 2:
            a, b = width * rng.uniform(0.2, 0.45), height * rng.uniform(0.2, 0.45)
            east, north = width - a, height - b
            x = [a, width, width, east, east, 0, 0, a]
            y = [0, 0, north, north, height, height, b, b]
            ring = np.stack([x, y], axis=1)
        turn = rng.uniform(0, np.pi)
        matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        corner = np.array([EAST_M, NORTH_M]) + rng.uniform(0, SIDE_M, 2)
        shapes.append(shapely.Polygon(ring @ matrix + corner))
    return PolygonArray.from_shapely(np.array(shapes))


def median_ms(work: Callable[[], object], num_runs: int) -> float:
    work()
    times = []
    for _ in range(num_runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def steps(outlines: PolygonArray) -> dict[str, Callable[[], object]]:
    """Each step as a call without arguments."""
    num = len(outlines)
    degrees, is_usable = to_lonlat(outlines, ZONE)
    assert is_usable.all()
    lon, lat = polygon_centroids(degrees).T.copy()
    first = np.stack([-np.arange(num) * 37 - 110_000, np.arange(num) * 11 + 1_500_000], axis=1)
    transformer = zone_to_lonlat(ZONE)
    grid = WorldGrid(ZONE, GSD_MM)
    images, dates = pa.repeat("kampala", num), pa.nulls(num, pa.date32())
    wkb, shapes = polygons_to_wkb(degrees), degrees.to_shapely()

    def whole_chain() -> pa.Table:
        polygons, _ = to_lonlat(outlines, ZONE)
        return footprint_table(
            polygons,
            ids=footprint_ids(grid, first),
            confidence=np.full(num, 0.7),
            image_ids=images,
            image_dates=dates,
            model_id="everyroof-unet",
        )

    return {
        "whole chain: metres -> table": whole_chain,
        "  to_lonlat": lambda: to_lonlat(outlines, ZONE),
        "    of which pyproj": lambda: transformer.transform(*outlines.coords.T),
        "    of which snap_polygons": lambda: snap_polygons(degrees),
        "  geometry_columns": lambda: geometry_columns(degrees),
        "    centroids": lambda: polygon_centroids(degrees),
        "    areas": lambda: polygon_areas_m2(degrees),
        "    Plus Codes": lambda: encode_plus_codes(lat, lon),
        "    S2 cells": lambda: s2_leaf_cells(lat, lon),
        "    WKB": lambda: polygons_to_wkb(degrees),
        "  ids": lambda: footprint_ids(grid, first),
        "reading WKB": lambda: polygons_from_wkb(wkb),
        "shapely: reading WKB": lambda: shapely.from_wkb(wkb.to_numpy(zero_copy_only=False)),
        "shapely: is_valid": lambda: shapely.is_valid(shapes),
    }


def compare_plus_codes(num: int, num_runs: int) -> None:
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-90, 90, num), rng.uniform(-180, 180, num)
    pairs = list(zip(lat.tolist(), lon.tolist(), strict=True))
    ours = median_ms(lambda: encode_plus_codes(lat, lon), num_runs)
    package = median_ms(lambda: [pluscodes.encode(y, x, 12) for y, x in pairs], 3)
    print(f"\nPlus Codes of {num} points: {ours:.2f} ms; pluscodes {package:.0f} ms:", end=" ")
    print(f"{package / ours:.0f} times faster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buildings", type=int, nargs="+", default=[100, 6400])
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=21)
    arguments = parser.parse_args()
    columns = [steps(draw_outlines(num)) for num in arguments.buildings]
    print("ms per 100 buildings".ljust(34), *(f"{num:>9} at once" for num in arguments.buildings))
    for name in columns[0]:
        timings = [
            median_ms(column[name], arguments.runs) * 100 / num
            for column, num in zip(columns, arguments.buildings, strict=True)
        ]
        print(name.ljust(34), *(f"{timing:17.4f}" for timing in timings))
    compare_plus_codes(arguments.points, arguments.runs)


if __name__ == "__main__":
    main()
