"""The main job on real images with the seed checkpoint: scored against what people drew."""

from pathlib import Path

import pytest
from running import footprints, make_config, run_here

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
