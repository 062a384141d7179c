"""Time of resolving overlaps against the number of footprints, with the quadratic way beside it.

Draws a dense town: buildings on a jittered grid, each turned a little; about a quarter touch a
neighbour by a sliver, as after growing back by one pixel. A dense tile of 4096 px at 0.30 m
holds some 6400.

    python benchmarks/overlap.py --rows 1000 6400 20000 100000
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from geo.footprints import FOOTPRINT_SCHEMA, footprint_ids, footprint_table, snap_polygons
from geo.grid import METRES_PER_DEGREE, WorldGrid
from geo.overlap import OverlapConfig, resolve_overlaps
from geo.polygons import PolygonArray

SPACING_M = 14.0


def draw_town(num_rows: int, seed: int) -> pa.Table:
    """Footprints of six corners each (an L) in degrees near the equator, zone 36."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(num_rows)))
    place = np.stack(np.divmod(np.arange(num_rows), side), axis=1) * SPACING_M
    place = place + rng.normal(0, 1.0, place.shape)
    corners = np.array([[0, 0], [1, 0], [1, 0.6], [0.6, 0.6], [0.6, 1], [0, 1], [0, 0]]) - 0.5
    size = rng.uniform(8.0, 14.0, (num_rows, 1, 2))
    angle = rng.normal(0, 0.15, num_rows)
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], axis=1)
    metres = (corners * size) @ turn.reshape(-1, 2, 2) + place[:, None]
    rings = shapely.linearrings(metres / METRES_PER_DEGREE + [32.6, 0.35])
    polygons, is_usable = snap_polygons(PolygonArray.from_shapely(shapely.polygons(rings)))
    assert is_usable.all()
    numbers = np.arange(num_rows)
    return footprint_table(
        polygons,
        ids=footprint_ids(WorldGrid(36, 300), np.stack([-numbers, numbers], axis=1)),
        confidence=rng.uniform(0.5, 1.0, num_rows),
        image_ids=["drawn"] * num_rows,
        image_dates=[None] * num_rows,
        model_id="none",
    )


def count_pairs_quadratically(table: pa.Table) -> int:
    """Pairs whose outlines meet, every row against every other one: the finding of pairs alone."""
    outlines = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    shapely.prepare(outlines)
    return sum(
        int(shapely.intersects(outline, outlines[index + 1 :]).sum())
        for index, outline in enumerate(outlines)
    )


def median_seconds(call: object, repeats: int) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 6400, 20_000, 100_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quadratic-up-to", type=int, default=7000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config, context = OverlapConfig(), FOOTPRINT_SCHEMA.empty_table()
    resolve_overlaps(draw_town(100, 1), context, config)  # compile first
    print(
        f"{'rows':>8} {'trimmed':>8} {'dropped':>8} {'seconds':>9} {'us/row':>8} {'all pairs':>10}"
    )
    for num_rows in arguments.rows:
        table = draw_town(num_rows, arguments.seed)
        result = resolve_overlaps(table, context, config)
        seconds = median_seconds(
            lambda table=table: resolve_overlaps(table, context, config), arguments.repeats
        )
        slow = "-"
        if num_rows <= arguments.quadratic_up_to:
            slow_s = median_seconds(lambda table=table: count_pairs_quadratically(table), 1)
            slow = f"{slow_s:.2f} s"
        print(
            f"{num_rows:8d} {result.num_trimmed:8d} {result.num_dropped_small:8d} {seconds:9.4f} "
            f"{1e6 * seconds / num_rows:8.1f} {slow:>10}"
        )


if __name__ == "__main__":
    main()
