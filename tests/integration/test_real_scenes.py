"""The main job on real images with the seed checkpoint: scored against what people drew."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from running import (
    footprints,
    ledger,
    make_config,
    run_command,
    run_here,
    shard_hashes,
    write_config,
)

from geo.components import find_instances
from geo.finish import FinishConfig, finish_outlines
from geo.footprints import FilterConfig
from geo.grid import WorldGrid, zone_of_longitude
from geo.grow import grow_instances
from geo.image_profile import profile_image
from geo.images import ImageInfo, open_image
from geo.metrics import evaluate_polygons
from geo.pixel_window import PixelWindow
from geo.raster_config import RasterConfig
from geo.rasters import TileReader
from geo.references import layer_of_frame, read_extent, read_polygons
from geo.run_overlap import iou_with_runs
from geo.trace import trace_outlines
from model.segment import Segmenter

# What `rasterio.features.shapes`, one pixel of dilation and simplify reach with the same network.
CRUDE_AP50 = {"kampala_a": 0.667, "nacala": 0.473}


@pytest.mark.parametrize("name", CRUDE_AP50)
def test_no_worse_than_a_crude_script(
    name: str, shared_data: Path, seed_bundle: Path, tmp_path: Path
) -> None:
    scenes = shared_data / "scenes"
    image, area_file = scenes / f"{name}.tif", scenes / f"{name}.aoi.geojson"
    run_here(make_config(tmp_path, [image], model=str(seed_bundle), grid={}))
    references = read_polygons(scenes / f"{name}.geojson")
    # Nacala has no area of its own: all of the image is labelled.
    area = (
        read_polygons(area_file, crs=references.crs).union()
        if area_file.exists()
        else read_extent(image, references.crs)
    )
    found = footprints(tmp_path / "out")
    assert found.geometry.is_valid.all()
    layer = layer_of_frame(found, name=name, crs=references.crs, columns=("confidence",))
    scores = evaluate_polygons(
        layer.polygons, layer.columns["confidence"], references.polygons, aoi=area
    )
    assert scores.ap50 >= CRUDE_AP50[name]


def test_tiles_and_workers_leave_no_trace(
    shared_data: Path, seed_bundle: Path, tmp_path: Path
) -> None:
    """The same bytes from tiles of three sizes, and from one worker and two, on a warped image.

    Around a corner where four of the largest tiles meet; windows of 1024 px throughout.
    """
    image = shared_data / "scenes" / "banepa.tif"
    area = tmp_path / "area.gpkg"
    geopandas.GeoSeries([_around_a_corner(image, 4096, 120.0)], crs="EPSG:32645").to_file(area)
    hashes = []
    for tile_px, workers in ((4096, 1), (2048, 2), (1024, 1)):
        folder = tmp_path / f"tiles{tile_px}"
        folder.mkdir()
        config = make_config(
            folder,
            [image],
            model=str(seed_bundle),
            grid={"tile_px": tile_px},
            area_of_interest=str(area),
        )
        file = write_config(config, folder / "config.yaml")
        done = run_command("run", str(file), "--workers", str(workers))
        assert done.returncode == 0, done.stderr
        assert len(ledger(folder / "out")) >= 4
        hashes.append(shard_hashes(folder / "out"))
    assert len(footprints(folder / "out")) > 100
    assert hashes[0] == hashes[1] == hashes[2]


def _around_a_corner(image: Path, tile_px: int, half_m: float) -> shapely.Polygon:
    """A square around the first corner of tiles that lies inside an image, in metres of UTM."""
    info = open_image(str(image))
    lon, lat = np.asarray(info.footprint).T
    grid = WorldGrid(zone_of_longitude(float(lon.mean())), 300)
    cols, rows = grid.from_lonlat(lon, lat)
    col, row = (-(-int(v.min()) // tile_px) * tile_px for v in (cols, rows))
    assert col < cols.max()
    assert row < rows.max()
    east, north = col * grid.gsd_m, -row * grid.gsd_m
    return shapely.box(east - half_m, north - half_m, east + half_m, north + half_m)


@pytest.mark.parametrize("name", CRUDE_AP50)
def test_finished_outlines_stay_close_to_the_traced_ones(
    name: str, shared_data: Path, seed_bundle: Path
) -> None:
    """Valid, and a mean IoU above 0.95 over the footprints that the default filter keeps."""
    info = open_image(str(shared_data / "scenes" / f"{name}.tif"))
    segmenter = Segmenter.load(seed_bundle)
    grid, config = WorldGrid(zone_of_longitude(info.footprint[0][0]), 300), RasterConfig()
    window = _windows_around(info, grid, segmenter.window_px)
    with TileReader([info], [profile_image(info, config)], grid, config) as reader:
        tile = reader.read(window.expand(segmenter.margin_px))
    probability = segmenter.segment(tile.pixels, tile.valid)
    instances = grow_instances(find_instances(probability, threshold=128, window=window), 1)
    outlines = trace_outlines(instances)
    finished = finish_outlines(outlines, instances, gsd_m=grid.gsd_m, config=FinishConfig())
    polygons = finished.to_shapely()
    assert shapely.is_valid(polygons).all()
    is_kept = shapely.area(polygons) * grid.gsd_m**2 >= FilterConfig().min_area_m2
    assert is_kept.sum() > 30
    assert iou_with_runs(finished, instances)[is_kept].mean() > 0.95


def _windows_around(info: ImageInfo, grid: WorldGrid, window_px: int) -> PixelWindow:
    """The whole windows of the world grid that hold an image."""
    cols, rows = grid.from_lonlat(*np.asarray(info.footprint).T)
    first = [int(v.min()) // window_px * window_px for v in (cols, rows)]
    last = [-(-int(v.max()) // window_px) * window_px for v in (cols, rows)]
    return PixelWindow(first[0], first[1], last[0] - first[0], last[1] - first[1])
