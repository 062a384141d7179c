"""The images of known truth that every contender of `benchmarks/peers.py` gets.

The *drawn* image is a town of `tests/synthetic.py` (houses, L-shapes, courtyards and halls of 14
houses' length, which cross every window of every contender) with its ground darkened in the red
band, so that the mean over 5 x 5 pixels of that band, from one half on, gives the buildings back.
No building is below 70 m2, since some peers drop small ones, and no pixel is 0, which one takes for
missing. The *town* is that of `everyroof demo`, on which the shipped network finds buildings.
"""

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from rasterio.windows import Window

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

from synthetic import (  # noqa: E402 (after the path is set)
    TownPlan,
    paint_buildings,
    paint_ground,
    place,
)

GSD_M, CRS = 0.3, "EPSG:32636"
KINDS = ("rectangle", "l_shape", "courtyard", "hall")
BLOCK_PX = 1024


@dataclass(frozen=True)
class Scene:
    """An image and the outlines that are to be found in it.

    Attributes:
        size_px: side of the image.
        image: a tiled GeoTIFF in a UTM zone.
        truth: outlines in the image's CRS, any vector format.
    """

    size_px: int
    image: Path
    truth: Path


def draw_scene(folder: Path, size_px: int) -> Scene:
    """The drawn image of a size, made once."""
    scene = Scene(size_px, folder / f"drawn_{size_px}.tif", folder / f"drawn_{size_px}.parquet")
    if scene.truth.exists():
        return scene
    plan = TownPlan(height=size_px, width=size_px, kinds=KINDS)
    transform = place(CRS, 32.6, 0.4, GSD_M)
    _write_image(scene.image, plan, transform)
    outlines = [building.polygon_px for building in plan.buildings()]
    ground = shapely.transform(outlines, lambda xy: np.stack(transform * xy.T, axis=1))
    geopandas.GeoDataFrame(geometry=ground, crs=CRS).to_parquet(scene.truth)
    return scene


def _write_image(path: Path, plan: TownPlan, transform: rasterio.Affine) -> None:
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "photometric": "rgb"}
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    size = {"width": plan.width, "height": plan.height}
    # Unless bounded, GDAL keeps 5 % of the machine's memory as dirty blocks.
    with (
        rasterio.Env(GDAL_CACHEMAX=64 * 2**20),
        rasterio.open(path, "w", **profile, **blocks, **size, crs=CRS, transform=transform) as file,
    ):
        for row, col in itertools.product(
            range(0, plan.height, BLOCK_PX), range(0, plan.width, BLOCK_PX)
        ):
            height, width = min(BLOCK_PX, plan.height - row), min(BLOCK_PX, plan.width - col)
            window = Window(col, row, width, height)
            pixels = paint_ground(plan, window)
            pixels[0] //= 2
            paint_buildings(pixels, plan.buildings(window), window)
            file.write(pixels, window=window)


def draw_demo_town(folder: Path, size_px: int) -> Scene:
    """The town of `everyroof demo` of a size, made once.

    Its JPEG is stored again as DEFLATE: geoai gives its mask the image's profile, and a mask cannot
    be YCbCr.
    """
    from pipeline.demo import TOWN_GSD_M, draw_town

    folder = folder / f"town_{size_px}"
    scene = Scene(size_px, folder / "deflate.tif", folder / "truth.geojson")
    if not scene.image.exists():
        town = draw_town(folder, side_m=size_px * TOWN_GSD_M)
        with rasterio.open(town.image_path) as image:
            profile = {**image.profile, "compress": "deflate", "photometric": "rgb"}
            with rasterio.open(scene.image, "w", **profile) as file:
                file.write(image.read())
    return scene
