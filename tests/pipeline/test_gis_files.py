"""What a GIS opens, read by a GDAL of today (pyogrio's; QGIS's own is in tests/gis)."""

import json
import shutil
import sqlite3
import xml.etree.ElementTree as ET

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from drawn_footprints import draw_footprints
from small_datasets import write_dataset

from geo.dataset import DatasetShard, open_dataset
from geo.query import read_footprints
from pipeline.gis_files import GIS_NAMES, shards_geojson, write_gis_files
from pipeline.gis_style import (
    footprints_style,
    shards_style,
    style_geopackage,
    write_style_beside,
)
from pipeline.output_folder import ENTRIES
from pipeline.palette import CONFIDENCE_RAMP

NUM_ROWS = 2000


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = write_dataset(
        tmp_path_factory.mktemp("gis") / "out", draw_footprints(NUM_ROWS, seed=9), max_rows=600
    )
    names = write_gis_files(out, open_dataset(out).shards)
    assert names == sorted(GIS_NAMES)
    return out


@pytest.fixture(scope="module")
def frame(out):
    return read_footprints(out)


@pytest.fixture(scope="module")
def twin(out, tmp_path_factory):
    """The VRT over the same files as FlatGeobuf: no wheel on PyPI has GDAL's Parquet driver."""
    folder = tmp_path_factory.mktemp("twin")
    (folder / "footprints").mkdir()
    for shard in open_dataset(out).shards:
        path = folder / shard.path.replace(".parquet", ".fgb")
        rows = geopandas.read_parquet(out / shard.path)
        # Unindexed: the rows keep the order of the Parquet file.
        rows.to_file(path, engine="pyogrio", SPATIAL_INDEX="NO")
    text = (out / "footprints.vrt").read_text().replace(".parquet", ".fgb")
    (folder / "footprints.vrt").write_text(text)
    return folder


def test_the_virtual_layer_holds_every_row_of_every_file(twin, frame):
    found = geopandas.read_file(twin / "footprints.vrt", fid_as_index=True)
    assert found.crs.to_epsg() == 4326
    assert found.index.tolist() == list(range(NUM_ROWS))
    columns = [name for name in frame.columns if name != "geometry"]
    assert list(found.columns) == [*columns, "geometry"]
    assert found["id"].tolist() == frame["id"].tolist()
    assert found["confidence"].tolist() == frame["confidence"].tolist()
    assert shapely.equals_exact(found.geometry.values, frame.geometry.values).all()
    dates = [None if value is None else str(value) for value in frame["image_date"]]
    assert [
        None if str(v) in ("NaT", "None") else str(v)[:10] for v in found["image_date"]
    ] == dates


def test_rows_keep_their_numbers_under_every_filter(twin, frame):
    west, south, east, north = frame.total_bounds
    box = (west, south, (west + east) / 2, (south + north) / 2)
    path = twin / "footprints.vrt"
    found = geopandas.read_file(path, bbox=box, fid_as_index=True)
    assert sorted(found["id"]) == sorted(frame["id"][frame.intersects(shapely.box(*box))])
    assert found["id"].tolist() == frame["id"].to_numpy()[found.index].tolist()
    sure = geopandas.read_file(path, where="confidence >= 0.9", fid_as_index=True)
    assert sure["id"].tolist() == frame["id"].to_numpy()[sure.index].tolist()
    assert len(sure) == (frame["confidence"] >= 0.9).sum()


def test_the_virtual_layer_counts_what_there_is(twin):
    facts = pyogrio.read_info(twin / "footprints.vrt", force_feature_count=True)
    assert facts["features"] == NUM_ROWS
    assert facts["geometry_type"] == "Polygon"
    assert pyogrio.list_layers(twin / "footprints.vrt").tolist() == [["footprints", "Polygon"]]


def test_nothing_names_where_it_lies(out, tmp_path):
    for name in GIS_NAMES:
        assert str(out.parent) not in (out / name).read_text()
    again = write_gis_files(tmp_path, open_dataset(out).shards[::-1])
    for name in again:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_the_index_says_which_file_covers_where(out, frame):
    index = geopandas.read_file(out / "shards.geojson")
    shards = open_dataset(out).shards
    assert index["path"].tolist() == [shard.path for shard in shards]
    assert index["footprints"].tolist() == [shard.num_rows for shard in shards]
    assert index["bytes"].tolist() == [(out / shard.path).stat().st_size for shard in shards]
    for row in index.itertuples():
        rows = geopandas.read_parquet(out / row.path)
        assert rows.within(row.geometry.buffer(1e-9)).all()
        area_km2 = index.loc[[row.Index]].to_crs(index.estimate_utm_crs()).area.iloc[0] / 1e6
        assert row.footprints_per_km2 == pytest.approx(row.footprints / area_km2, rel=0.02)


def test_a_file_across_the_antimeridian_is_two_boxes():
    shard = DatasetShard(
        path="footprints/s2=71.parquet",
        token="71",
        num_rows=1,
        num_bytes=10,
        bounds=(179.9, -17.0, 180.1, -16.9),
        sha256="0" * 64,
    )
    (feature,) = json.loads(shards_geojson([shard]))["features"]
    west, south, east, north = shapely.from_geojson(json.dumps(feature["geometry"])).bounds
    assert (west, south, east, north) == (-180.0, -17.0, 180.0, -16.9)
    assert feature["geometry"]["type"] == "MultiPolygon"
    # 0.2 by 0.1 degrees.
    assert feature["properties"]["footprints_per_km2"] == pytest.approx(1 / (21.3 * 11.1), abs=0.1)


def test_without_footprints_there_is_an_index_of_nothing(out, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(out, folder)
    assert write_gis_files(folder, []) == ["footprints.qml", "shards.geojson", "shards.qml"]
    assert not (folder / "footprints.vrt").exists()
    assert not (folder / "footprints.qlr").exists()
    assert json.loads((folder / "shards.geojson").read_text())["features"] == []


def test_the_files_belong_to_an_output_folder():
    assert set(GIS_NAMES) <= ENTRIES


@pytest.mark.parametrize("style", [footprints_style, shards_style])
def test_styles_are_well_formed(style):
    root = ET.fromstring(style().partition("\n")[2])
    assert root.tag == "qgis"
    assert root.find("renderer-v2").get("type") == "graduatedSymbol"
    # A symbol for every class, and no other.
    ranges = root.findall("renderer-v2/ranges/range")
    symbols = root.findall("renderer-v2/symbols/symbol")
    assert [each.get("symbol") for each in ranges] == [each.get("name") for each in symbols]


def test_the_style_has_the_palettes_classes():
    root = ET.fromstring(footprints_style().partition("\n")[2])
    ranges = root.findall("renderer-v2/ranges/range")
    assert [float(each.get("lower")) for each in ranges] == [begin for begin, _ in CONFIDENCE_RAMP]
    uppers = [float(each.get("upper")) for each in ranges]
    assert uppers == [*(begin for begin, _ in CONFIDENCE_RAMP[1:]), 1.0]


def test_a_geopackage_carries_its_style_once(frame, tmp_path):
    path = tmp_path / "buildings.gpkg"
    frame.to_file(path, layer="buildings", engine="pyogrio")
    style_geopackage(path, "buildings")
    once = path.read_bytes()
    style_geopackage(path, "buildings")
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
        ).fetchall()
    database.close()
    assert rows == [("buildings", "geom", 1, footprints_style())]
    assert len(path.read_bytes()) == len(once)
    # Still a GeoPackage that others read.
    assert len(geopandas.read_file(path, layer="buildings")) == len(frame)


def test_a_geopackage_without_the_layer_is_refused(frame, tmp_path):
    path = tmp_path / "buildings.gpkg"
    frame.head(3).to_file(path, layer="buildings", engine="pyogrio")
    with pytest.raises(ValueError, match="has no layer 'footprints'"):
        style_geopackage(path, "footprints")


@pytest.mark.parametrize(
    ("name", "style"),
    [("a.fgb", "a.qml"), ("b.geojsonl", "b.qml"), ("c.csv.gz", "c.qml"), ("d.e.fgb", "d.e.qml")],
)
def test_other_formats_have_their_style_beside_them(tmp_path, name, style):
    assert write_style_beside(tmp_path / name) == tmp_path / style
    assert (tmp_path / style).read_text() == footprints_style()


def test_the_folder_of_files_is_one_table(out, frame):
    whole = geopandas.read_parquet(out / "footprints")
    assert sorted(whole["id"]) == sorted(frame["id"])
    assert np.isclose(whole["area_in_meters"].sum(), frame["area_in_meters"].sum())
