"""`everyroof conflate`, as a user calls it: what it writes, says and refuses."""

import json

import geopandas
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from click.testing import CliRunner
from written_datasets import footprints_of, write_dataset

from geo.conflate import MAPPED_SCHEMA
from pipeline.cli.main import cli

BOUNDS = (32.57, 0.30, 32.60, 0.33)


def _house(index: int) -> shapely.Polygon:
    west = 32.58 + index * 3e-4
    return shapely.box(west, 0.31, west + 2e-4, 0.3102)


@pytest.fixture
def out(tmp_path):
    houses = [_house(index) for index in range(10)]
    ids = [f"z36_g500mm_r1_c{index}" for index in range(10)]
    return write_dataset(tmp_path / "out", footprints_of(houses, ids), bounds=BOUNDS)


@pytest.fixture
def existing(tmp_path):
    """Six of the houses, two that were not found, as a projected cadastre."""
    shapes = [_house(index) for index in (0, 1, 2, 3, 4, 5, 12, 13)]
    frame = geopandas.GeoDataFrame({"id": [f"k{i}" for i in range(8)]}, geometry=shapes, crs=4326)
    frame.to_crs(21096).to_file(tmp_path / "cadastre.gpkg")
    return tmp_path / "cadastre.gpkg"


def _run(*arguments):
    return CliRunner().invoke(cli, ["conflate", *map(str, arguments)])


def test_marks_what_the_map_has_and_lists_what_is_missing(tmp_path, out, existing):
    marked, missing = tmp_path / "marked.parquet", tmp_path / "missing.parquet"
    result = _run(out, existing, "--out", marked, "--missing", missing)
    assert result.exit_code == 0, result.output
    numbers = {
        line[:22].strip(): line.split()
        for line in result.output.splitlines()
        if line.startswith((" ", "foot", "poly"))
    }
    assert "6" in numbers["mapped"]
    assert "4" in numbers["new"]
    assert "2" in numbers["missing"]
    frame = geopandas.read_parquet(marked)
    assert pq.read_schema(marked).names == MAPPED_SCHEMA.names
    assert frame.is_mapped.sum() == 6
    assert set(frame[frame.is_mapped].map_id) == {f"k{i}" for i in range(6)}
    lacking = geopandas.read_parquet(missing)
    assert sorted(lacking.map_id) == ["k6", "k7"]
    assert lacking.area_in_meters.tolist() == pytest.approx([495, 495], rel=0.01)


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".geojsonl"])
@pytest.mark.parametrize(("only", "number"), [("new", 4), ("mapped", 6)])
def test_writes_any_format_and_only_what_is_asked_for(
    tmp_path, out, existing, suffix, only, number
):
    path = tmp_path / f"part{suffix}"
    result = _run(out, existing, "--out", path, "--only", only)
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    assert pyogrio.read_info(path, force_feature_count=True)["features"] == number
    frame = geopandas.read_file(path)
    assert frame.crs.to_epsg() == 4326 or "CRS84" in frame.crs.to_string()
    assert frame.is_mapped.astype(bool).eq(only == "mapped").all()
    assert shapely.area(frame.geometry.to_numpy()).sum() == pytest.approx(number * 4e-8, rel=1e-3)


def test_a_map_of_points(tmp_path, out):
    points = [_house(1).centroid, _house(2).centroid, shapely.Point(32.585, 0.32)]
    geopandas.GeoDataFrame(geometry=points, crs=4326).to_file(tmp_path / "points.fgb")
    missing = tmp_path / "missing.parquet"
    result = _run(out, tmp_path / "points.fgb", "--missing", missing, "--json")
    told = json.loads(result.stdout)
    assert told["found"]["num_mapped"] == told["found"]["num_by_point"] == 2
    assert told["found"]["num_missing"] == 1
    assert told["notes"] == [
        "the map holds points only: a footprint counts as mapped when a point lies in it"
    ]
    assert geopandas.read_parquet(missing).geometry.geom_type.tolist() == ["Point"]


def test_what_cannot_be_used_is_refused(tmp_path, out, existing):
    far = geopandas.GeoDataFrame(geometry=[shapely.box(3, 3, 3.001, 3.001)], crs=4326)
    far.to_file(tmp_path / "far.gpkg")
    far.to_parquet(tmp_path / "far.parquet")
    empty = geopandas.GeoDataFrame({"a": []}, geometry=[], crs=4326)
    empty.to_file(tmp_path / "empty.gpkg")
    line = geopandas.GeoDataFrame(
        geometry=[shapely.LineString([(32.58, 0.31), (32.59, 0.31)])], crs=4326
    )
    line.to_file(tmp_path / "line.gpkg")
    cases = [
        ((out, tmp_path / "far.gpkg"), "has no feature near the footprints of out"),
        ((out, tmp_path / "far.parquet"), "they have no place in common"),
        ((out, tmp_path / "empty.gpkg"), "it is empty"),
        ((out, tmp_path / "line.gpkg"), "neither polygons of a building's size nor points"),
        ((out, tmp_path / "none.gpkg"), "there is no file"),
        ((out, existing, "--out", tmp_path / "x.shp"), "names no format that is written here"),
        ((out, existing, "--out", tmp_path / "x.what"), "names no format"),
        ((out, existing, "--out", tmp_path / "no" / "x.gpkg"), "there is no folder"),
        ((out, existing, "--only", "new"), "name a file with --out"),
        ((tmp_path, existing), "has not finished"),
    ]
    for arguments, words in cases:
        result = _run(*arguments)
        assert result.exit_code != 0
        assert words in f"{result.output} {result.exception}", arguments
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
