"""GeoJSON printed by us, parsed by the json module, GDAL and shapely."""

import json

import geopandas
import numpy as np
import pyarrow as pa
import pytest
import shapely
from exported_rows import AT_ANTIMERIDIAN, column, drawn_batches, on_lattice, outlines

from geo.geojson_text import collection_pieces, feature_lines, sequence_pieces


@pytest.mark.parametrize("with_separator", [False, True])
def test_a_feature_a_line(with_separator):
    batches = drawn_batches(500)
    text = b"".join(sequence_pieces(batches, with_separator=with_separator)).decode()
    lines = text.splitlines() if not with_separator else text.rstrip("\n").split("\n")
    if with_separator:
        assert all(line.startswith("\x1e") for line in lines)
        lines = [line[1:] for line in lines]
    features = [json.loads(line) for line in lines]
    assert [feature["id"] for feature in features] == column(batches, "id")
    for name in ("full_plus_code", "image_id", "model_id"):
        assert [feature["properties"][name] for feature in features] == column(batches, name)
    dates = [day and day.isoformat() for day in column(batches, "image_date")]
    assert [feature["properties"]["image_date"] for feature in features] == dates
    assert None in dates
    for name, decimals in {"longitude": 8, "confidence": 4}.items():
        expected = np.round(column(batches, name), decimals).tolist()
        assert [feature["properties"][name] for feature in features] == expected
    shapes = np.array([shapely.geometry.shape(feature["geometry"]) for feature in features])
    assert shapely.equals_exact(on_lattice(shapes), outlines(batches)).all()


@pytest.mark.parametrize("num_batches", [1, 3])
def test_a_collection(tmp_path, num_batches):
    batches = drawn_batches(60, per_batch=60 // num_batches)
    path = tmp_path / "a.geojson"
    path.write_bytes(b"".join(bytes(piece) for piece in collection_pieces(batches)))
    assert len(json.loads(path.read_text())["features"]) == 60
    frame = geopandas.read_file(path)
    assert frame["id"].tolist() == column(batches, "id")
    assert frame.crs.to_epsg() == 4326


def test_texts_that_json_must_escape():
    odd = ["plain", 'a "quote"', "back\\slash", "line\nbreak", "żółć \u2028", None]
    rows = drawn_batches(6)[0]
    place = rows.schema.get_field_index("image_id")
    changed = rows.set_column(place, pa.field("image_id", pa.string()), pa.array(odd, pa.string()))
    text = feature_lines(changed).to_pybytes().decode()
    found = [json.loads(line)["properties"]["image_id"] for line in text.rstrip("\n").split("\n")]
    assert found == odd


def test_footprints_across_the_antimeridian_are_cut():
    batches = drawn_batches(300, centre=AT_ANTIMERIDIAN)
    text = b"".join(sequence_pieces(batches)).decode()
    shapes = [shapely.geometry.shape(json.loads(line)["geometry"]) for line in text.splitlines()]
    kinds = {shape.geom_type for shape in shapes}
    assert kinds == {"Polygon", "MultiPolygon"}
    for shape, whole in zip(shapes, outlines(batches), strict=True):
        assert shape.bounds[0] >= -180.0
        assert shape.bounds[2] <= 180.0
        assert shape.area == pytest.approx(whole.area, rel=1e-3)
