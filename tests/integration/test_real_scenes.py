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

from geo.grid import WorldGrid, zone_of_longitude
from geo.images import open_image
from geo.metrics import evaluate_polygons
from geo.references import layer_of_frame, read_extent, read_polygons

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
