"""`everyroof query`: what a person types, and what it answers."""

import json

import geopandas
import pyarrow.parquet as pq
import pytest
import shapely
from click.testing import CliRunner
from drawn_footprints import draw_footprints
from small_datasets import write_dataset

from geo.dataset import open_dataset
from geo.errors import EveryroofError
from geo.query import Query, count_footprints, read_footprints
from pipeline.cli.main import cli


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    table = draw_footprints(800)
    return write_dataset(tmp_path_factory.mktemp("query") / "out", table, max_rows=300)


@pytest.fixture(scope="module")
def middle(out):
    west, south, east, north = open_dataset(out).bounds
    return (west + east) / 2, (south + north) / 2


def run(*arguments):
    return CliRunner().invoke(cli, ["query", *map(str, arguments)])


def test_the_count_of_a_box(out, middle):
    lon, lat = middle
    result = run(out, "--bbox", f"{lon},{lat},{lon + 1},{lat + 1}", "--count")
    expected = count_footprints(open_dataset(out), Query(bbox=(lon, lat, lon + 1, lat + 1)))
    assert result.exit_code == 0
    assert int(result.stdout) == expected > 50


def test_every_option_narrows(out, middle):
    lon, lat = middle
    everything = int(run(out, "--count").stdout)
    frame = read_footprints(out)
    token = open_dataset(out).shards[0].token
    for options in (
        ("--plus-code", frame["full_plus_code"][0][:8]),
        ("--plus-code", frame["full_plus_code"][0][4:], "--near", f"{lat},{lon}"),
        ("--s2", f"{token.upper()},{open_dataset(out).shards[1].token}"),
        ("--min-confidence", "0.8"),
        ("--min-area", "100"),
        ("--max-area", "50"),
        ("--date", "2021-03-04"),
        ("--date", "2021-01-01/.."),
        ("--bbox", f"{lon} {lat} {lon + 1} {lat + 1}", "--touching"),
    ):
        result = run(out, *options, "--count")
        assert result.exit_code == 0, result.output
        assert 0 < int(result.stdout) < everything, options


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32636", "EPSG:3857"])
def test_a_polygon_in_any_crs(out, middle, tmp_path, crs):
    area = shapely.Point(middle).buffer(0.001)
    series = geopandas.GeoSeries([area], crs="EPSG:4326").to_crs(crs)
    path = tmp_path / "district.gpkg"
    series.to_file(path)
    result = run(out, "--polygon", path, "--count")
    assert int(result.stdout) == count_footprints(open_dataset(out), Query(area=area)) > 20


def test_a_polygon_that_crosses_itself_is_repaired_and_said(out, middle, tmp_path, caplog):
    lon, lat = middle
    bow = shapely.Polygon(
        [(lon, lat), (lon + 1e-3, lat + 1e-3), (lon + 1e-3, lat), (lon, lat + 1e-3)]
    )
    path = tmp_path / "bow.geojson"
    geopandas.GeoSeries([bow], crs="EPSG:4326").to_file(path)
    result = run(out, "--polygon", path, "--count")
    area = shapely.make_valid(bow)
    assert int(result.stdout) == count_footprints(open_dataset(out), Query(area=area)) > 5
    assert "1 of 1 features repaired" in caplog.text


def test_rows_for_other_programs_are_whole(out):
    result = run(out, "--limit", 3, "--columns", "id,confidence,area_in_meters,geometry,image_date")
    head, *rows = result.stdout.splitlines()
    assert head.split("\t") == ["id", "confidence", "area_in_meters", "geometry", "image_date"]
    frame = read_footprints(out, limit=3)
    for row, (_, expected) in zip(rows, frame.iterrows(), strict=True):
        name, confidence, area, outline, date = row.split("\t")
        assert name == expected["id"]
        assert float(confidence) == round(expected["confidence"], 4)
        assert float(area) == round(expected["area_in_meters"], 4)
        assert shapely.equals_exact(shapely.from_wkt(outline), expected["geometry"], 1e-13)
        assert date == (str(expected["image_date"]) if expected["image_date"] else "")


def test_what_is_more_than_shown_is_said(out):
    result = run(out)
    assert len(result.stdout.splitlines()) == 21
    assert "20 of 800; --limit N shows more" in result.stderr
    assert run(out, "--limit", 30).stderr == ""


def test_a_file_of_the_rows(out, tmp_path):
    path = tmp_path / "sure.parquet"
    result = run(out, "--min-confidence", 0.8, "--out", path)
    assert result.exit_code == 0, result.output
    expected = read_footprints(out, min_confidence=0.8)
    assert f"{len(expected)} footprints" in result.output
    found = geopandas.read_parquet(path)
    assert found.equals(expected.set_crs("OGC:CRS84", allow_override=True))
    geo = json.loads(pq.read_metadata(path).metadata[b"geo"])
    assert geo["columns"]["geometry"]["bbox"] == pytest.approx(
        expected.total_bounds.tolist(), abs=1e-4
    )
    again = run(out, "--out", path)
    assert "exists; choose another name or add --overwrite" in str(again.exception)
    assert run(out, "--out", path, "--overwrite").exit_code == 0
    assert len(geopandas.read_parquet(path)) == 800


def test_an_answer_of_nothing_says_why(out):
    away = run(out, "--bbox", "1,2,3,4", "--count")
    assert away.exit_code == 0
    assert away.stdout == "0\n"
    assert (
        "lies outside of the dataset, whose footprints lie between longitude 32.57" in away.stderr
    )
    assert "loosen the limits" in run(out, "--min-area", 1e6).stderr
    assert "without a date fit no --date" in run(out, "--date", "1999-01-01").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bbox", "1,2,3"], "--bbox 1,2,3: expected WEST,SOUTH,EAST,NORTH"),
        (["--bbox", "1,4,3,2"], "expected (min_x, min_y, max_x, max_y)"),
        (["--s2", "xyz"], "'xyz' is no S2 token"),
        (["--date", "2023"], "--date 2023: expected days such as"),
        (["--date", "2024-02-01/2024-01-01"], "the first is later"),
        (["--min-confidence", "70"], "70.0 is not in the range 0<=x<=1"),
        (["--columns", "hight"], "columns = hight: expected some of latitude"),
        (["--near", "1,2"], "--near goes with --plus-code"),
        (["--touching"], "--touching needs --bbox or --polygon"),
        (["--thresholds", "x.csv"], "--thresholds goes with --precision"),
        (["--overwrite"], "--overwrite goes with --out"),
    ],
)
def test_what_is_typed_wrong(out, options, message):
    result = run(out, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plus-code", "OOPS"], "'OOPS' is no Plus Code"),
        (["--plus-code", "J58+HX"], "'J58+HX' is no Plus Code"),
        (["--polygon", "nowhere.gpkg"], "there is no file nowhere.gpkg"),
        (["--precision", "0.9"], "has no thresholds.csv"),
        (
            ["--precision", "0.9", "--thresholds", "no.csv"],
            "there is no table of thresholds no.csv",
        ),
    ],
)
def test_what_cannot_be_used(out, options, message):
    result = run(out, *options)
    assert isinstance(result.exception, EveryroofError)
    assert message in str(result.exception)


def test_a_polygon_without_a_crs(out, tmp_path):
    path = tmp_path / "plain.shp"
    geopandas.GeoSeries([shapely.box(0, 0, 1, 1)], crs="EPSG:4326").to_file(path)
    path.with_suffix(".prj").unlink()
    result = run(out, "--polygon", path)
    assert "does not say which CRS" in str(result.exception)
