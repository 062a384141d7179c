"""Squaring of drawn buildings with known truth: ours beside the library buildingregulariser.

    python benchmarks/regularize.py [--num 300]

Needs `pip install buildingregulariser` for the comparison; without it only ours is measured.
"""

import argparse
import time
from collections.abc import Callable

import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
import shapely.affinity
from affine import Affine

from geo.components import find_instances
from geo.finish import FinishConfig, finish_outlines
from geo.instances import Instances
from geo.pixel_window import PixelWindow
from geo.polygons import PolygonArray
from geo.trace import trace_outlines

GSD_M = 0.3
CELL_PX = 100
Polygons = np.ndarray
Squarer = Callable[[PolygonArray, Instances], Polygons]


def trace_drawn(truth: Polygons, height: int, width: int) -> tuple[PolygonArray, Instances]:
    """Outlines and pixels of polygons in pixel units (y up), rasterised by pixel centres."""
    upside = Affine(1, 0, 0, 0, -1, 0)
    image = rasterio.features.rasterize(list(truth), (height, width), transform=upside)
    image = image.astype(np.uint8)
    window = PixelWindow(0, 0, width, height)
    instances = find_instances(image * np.uint8(200), threshold=128, window=window)
    return trace_outlines(instances), instances


def draw_rectangles(num: int) -> tuple[Polygons, PolygonArray, Instances]:
    """Rectangles with sides of 8 to 60 px at any angle, in the order of the instances."""
    rng = np.random.default_rng(0)
    truth = []
    for k in range(num):
        width, height = rng.uniform(8, 60, 2)
        box = shapely.box(-width / 2, -height / 2, width / 2, height / 2)
        turned = shapely.affinity.rotate(box, rng.uniform(0, 180))
        x = (k + 0.5) * CELL_PX + rng.uniform(-3, 3)
        truth.append(shapely.affinity.translate(turned, x, -CELL_PX / 2 + rng.uniform(-3, 3)))
    outlines, instances = trace_drawn(np.array(truth), CELL_PX, CELL_PX * num)
    order = instances.first_pixels()[:, 1] // CELL_PX
    return np.array(truth)[order], outlines, instances


def draw_row(num: int, angle_deg: float) -> tuple[Polygons, PolygonArray, Instances]:
    """A row of houses, 24 x 33 px, with gaps of 1.5 px so that they stay apart as pixels."""
    boxes = [shapely.box(k * 25.5, 0, k * 25.5 + 24, 33) for k in range(num)]
    row = shapely.affinity.rotate(shapely.MultiPolygon(boxes), angle_deg, origin=(0, 0))
    min_x, _, _, max_y = row.bounds
    row = shapely.affinity.translate(row, 5 - min_x, -5 - max_y)
    outlines, instances = trace_drawn(np.array(row.geoms), 220, 220)
    traced = outlines.to_shapely()
    order = [int(np.argmax(shapely.area(shapely.intersection(row.geoms, t)))) for t in traced]
    return np.array(row.geoms)[order], outlines, instances


def square_ours(outlines: PolygonArray, instances: Instances) -> Polygons:
    config = FinishConfig()
    return finish_outlines(outlines, instances, gsd_m=GSD_M, config=config).to_shapely()


def square_by_library(**options: object) -> Squarer:
    from buildingregulariser import regularize_geodataframe  # optional, only measured here

    def square(outlines: PolygonArray, instances: Instances) -> Polygons:
        del instances
        metres = shapely.transform(outlines.to_shapely(), lambda xy: xy * GSD_M + (5e5, 4e6))
        frame = gpd.GeoDataFrame({"i": np.arange(len(metres))}, geometry=metres, crs="EPSG:32636")
        result = regularize_geodataframe(frame, num_cores=1, **options)
        result = result.sort_values("i").geometry.to_numpy()
        return shapely.transform(result, lambda xy: (xy - (5e5, 4e6)) / GSD_M)

    return square


def iou(a: Polygons, b: Polygons) -> np.ndarray:
    return shapely.area(shapely.intersection(a, b)) / shapely.area(shapely.union(a, b))


def report_rectangles(name: str, square: Squarer, num: int) -> None:
    truth, outlines, instances = draw_rectangles(num)
    square(outlines, instances)
    start = time.perf_counter()
    squared = square(outlines, instances)
    each_us = (time.perf_counter() - start) / num * 1e6
    traced = outlines.to_shapely()
    raised = (iou(squared, truth) > iou(traced, truth)).mean()
    print(
        f"  {name:34s} IoU with truth {iou(traced, truth).mean():.4f} -> "
        f"{iou(squared, truth).mean():.4f}, raised for {raised:.1%}, "
        f"5 coordinates {(shapely.get_num_coordinates(squared) == 5).mean():.1%}, "
        f"IoU with traced {iou(squared, traced).mean():.4f}, {each_us:.1f} us each"
    )


def report_rows(name: str, square: Squarer) -> None:
    """Overlap, and gap beyond the true one, between neighbours; per metre of shared wall, in px."""
    overlap, gap_error, wall = 0.0, [], 0.0
    for angle_deg in range(0, 90, 6):
        truth, outlines, instances = draw_row(6, angle_deg + 0.7)
        if len(instances) != 6:
            continue
        squared = square(outlines, instances)
        order = np.argsort(shapely.get_x(shapely.centroid(truth)))
        truth, squared = truth[order], squared[order]
        for k in range(5):
            overlap += shapely.area(shapely.intersection(squared[k], squared[k + 1]))
            wall += 33.0
            facing = [between(p[k], p[k + 1]) for p in (truth, squared)]
            gap_error.append((facing[1] - facing[0]) / 33.0)
    print(
        f"  {name:34s} overlap {overlap / wall:.3f} px, gap minus true gap: mean "
        f"{np.mean(gap_error):+.2f} px, mean of absolute values {np.mean(np.abs(gap_error)):.2f} px"
    )


def between(a: shapely.Polygon, b: shapely.Polygon) -> float:
    """Area between two neighbours: their convex hull less themselves."""
    both = shapely.union(a, b)
    return float(shapely.convex_hull(both).area - both.area)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=300)
    args = parser.parse_args()
    squarers: dict[str, Squarer] = {"everyroof": square_ours}
    try:
        squarers["buildingregulariser"] = square_by_library()
        squarers["buildingregulariser, no simplify"] = square_by_library(simplify=False)
        squarers["buildingregulariser, no circles"] = square_by_library(allow_circles=False)
        squarers["buildingregulariser, tolerance 0.3"] = square_by_library(simplify_tolerance=0.3)
    except ImportError:
        print("buildingregulariser is not installed: only ours is measured")
    print("Rotated rectangles, sides of 8 to 60 px at 0.3 m:")
    for name, square in squarers.items():
        report_rectangles(name, square, args.num)
    print("Rows of 6 houses, 1.5 px apart, 15 directions (per length of shared wall):")
    # Outlines that stay staircases show their notches as gaps here.
    for name, square in squarers.items():
        report_rows(name, square)


if __name__ == "__main__":
    main()
