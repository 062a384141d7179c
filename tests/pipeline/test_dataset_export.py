"""`everyroof export`: every format from the command line, and what it refuses."""

import gzip
import json

import geopandas
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from drawn_footprints import draw_footprints
from pmtiles.reader import MmapSource, Reader
from s3_server import BUCKET, use_s3
from small_datasets import write_dataset

from geo.dataset import open_dataset
from geo.errors import DatasetError, EveryroofError, StorageError
from geo.places import as_place
from geo.query import Query, count_footprints, read_footprints
from pipeline.cli.bundle import bundle_group
from pipeline.cli.main import cli
from pipeline.export_dataset import export_dataset, find_format

NUM_ROWS = 800
FILES = {
    "gpkg": "a.gpkg",
    "fgb": "a.fgb",
    "geojsonseq": "a.geojsonl",
    "geojson": "a.geojson",
    "parquet": "a.parquet",
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    table = draw_footprints(NUM_ROWS)
    return write_dataset(tmp_path_factory.mktemp("export") / "out", table, max_rows=300)


def run(*arguments):
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


def error_of(result):
    """What a person reads: click's own message, or the error that `main` prints."""
    if isinstance(result.exception, EveryroofError):
        return str(result.exception)
    return result.output


def read_back(path):
    """A file as GeoPandas reads it; a GeoPackage holds a style beside the footprints."""
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    return geopandas.read_file(path, **{"layer": "footprints"} if path.suffix == ".gpkg" else {})


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("limits", [(), ("--min-confidence", "0.8", "--min-area", "60")])
def test_files_hold_what_was_asked_for(kind, limits, out, tmp_path):
    result = run(out, tmp_path / FILES[kind], *limits)
    assert result.exit_code == 0, result.output
    query = Query(min_confidence=0.8, min_area_m2=60.0) if limits else Query()
    expected = read_footprints(out, query).set_index("id")
    assert f"{len(expected):,} footprints" in result.output
    assert 50 < len(expected) <= NUM_ROWS
    found = read_back(tmp_path / FILES[kind]).to_crs("EPSG:4326").set_index("id")
    found = found.loc[expected.index]
    assert len(found) == len(expected)
    assert found.full_plus_code.tolist() == expected.full_plus_code.tolist()
    assert found.confidence.tolist() == pytest.approx(expected.confidence.tolist(), abs=5.1e-5)
    assert found.geometry.geom_equals_exact(expected.geometry, 1e-9).all()
    beside = ["a.qml"] if kind == "fgb" else []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [FILES[kind], *beside]


def test_the_style_travels_with_the_file(out, tmp_path):
    run(out, tmp_path / "a.gpkg")
    styles = geopandas.read_file(tmp_path / "a.gpkg", layer="layer_styles")
    assert styles.f_table_name.tolist() == ["footprints"]
    (tmp_path / "a.qml").write_text("a style of my own")
    run(out, tmp_path / "a.fgb")
    assert (tmp_path / "a.qml").read_text() == "a style of my own"


def test_a_web_map(out, tmp_path):
    result = run(out, tmp_path / "a.pmtiles")
    assert result.exit_code == 0, result.output
    with (tmp_path / "a.pmtiles").open("rb") as file:
        assert Reader(MmapSource(file)).header()["max_zoom"] == 15
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pmtiles"]


def test_overture(out, tmp_path):
    result = run(out, tmp_path / "a.parquet", "--format", "overture")
    assert result.exit_code == 0, result.output
    table = pq.read_table(tmp_path / "a.parquet")
    assert len(table) == NUM_ROWS
    assert table["theme"].unique().to_pylist() == ["buildings"]
    assert table["sources"][0].as_py()[0]["dataset"] == "out"


def test_open_buildings(out, tmp_path):
    folder = tmp_path / "csv"
    result = run(out, folder, "--format", "open-buildings")
    assert result.exit_code == 0, result.output
    (feature,) = json.loads((folder / "tiles.geojson").read_text())["features"]
    path = folder / feature["properties"]["tile_url"]
    assert gzip.decompress(path.read_bytes()).count(b"\n") == NUM_ROWS + 1
    assert "exists" in error_of(run(out, folder, "--format", "open-buildings"))
    before = sorted(path.read_bytes() for path in folder.rglob("*.gz"))
    again = run(out, folder, "--format", "open-buildings", "--overwrite")
    assert again.exit_code == 0, again.output
    assert sorted(path.read_bytes() for path in folder.rglob("*.gz")) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["csv"]


def test_a_folder_of_something_else_is_never_removed(out, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    result = run(out, tmp_path / "photos", "--format", "open-buildings", "--overwrite")
    assert "is no export of Open Buildings files" in error_of(result)
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_an_existing_file_is_kept(out, tmp_path):
    target = tmp_path / "a.fgb"
    target.write_bytes(b"mine")
    result = run(out, target)
    assert "--overwrite" in error_of(result)
    assert target.read_bytes() == b"mine"
    assert run(out, target, "--overwrite").exit_code == 0
    assert len(geopandas.read_file(target)) == NUM_ROWS


def test_nothing_fits(out, tmp_path):
    result = run(out, tmp_path / "a.gpkg", "--bbox", "10,10,11,11")
    assert result.exit_code == 1
    assert "no footprint fits: the place lies outside of the dataset" in result.output
    assert "was not written" in result.output
    assert list(tmp_path.iterdir()) == []


def test_the_limit(out, tmp_path):
    assert run(out, tmp_path / "a.gpkg", "--limit", "7").exit_code == 0
    assert len(read_back(tmp_path / "a.gpkg")) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.shp"], "expected a name that ends in .gpkg, .fgb"),
        (["a"], "or --format"),
        (["a.gpkg", "--format", "fgb"], "that ending is of gpkg"),
        (["a.gpkg", "--format", "overture"], "that ending is of gpkg"),
        (["a.dat", "--format", "overture"], "ends in .parquet"),
        (["absent/a.gpkg"], "is no folder; make it first"),
        (["s3://bucket/csv", "--format", "open-buildings"], "written to a disk only"),
        (["https://example.com/a.fgb"], "nothing can be written there"),
        (["a.gpkg", "--limit", "0"], "--limit"),
    ],
)
def test_calls_that_make_no_sense(arguments, message, out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(out, *arguments)
    assert result.exit_code != 0
    assert message in error_of(result)
    assert list(tmp_path.iterdir()) == []


def test_a_format_for_any_name():
    assert find_format("a.dat", "fgb") == "fgb"
    assert find_format("A.GPKG") == "gpkg"
    assert find_format("folder/", "open-buildings") == "open-buildings"


def test_a_failure_leaves_nothing(out, tmp_path):
    dataset = open_dataset(out)
    last = dataset.place_of(dataset.shards[-1])
    hidden = last.rename(tmp_path / "hidden")
    target = tmp_path / "exports"
    target.mkdir()
    try:
        for name, kind in (*((name, None) for name in FILES.values()), ("csv", "open-buildings")):
            with pytest.raises(DatasetError, match=r"is missing|does not exist"):
                export_dataset(dataset, Query(), str(target / name), find_format(name, kind))
            assert list(target.iterdir()) == []
    finally:
        hidden.rename(last)
    assert count_footprints(dataset) == NUM_ROWS


def test_progress_is_told(out, tmp_path):
    seen = []

    class Told:
        def begin(self, stage, total):
            seen.append((stage, total))

        def reach(self, position):
            seen.append(position)

    export_dataset(
        open_dataset(out), Query(), str(tmp_path / "a.pmtiles"), "pmtiles", progress=Told()
    )
    assert seen[0] == ("writing footprints", NUM_ROWS)
    positions = [entry for entry in seen if isinstance(entry, int)]
    assert NUM_ROWS in positions
    assert ("drawing tiles", NUM_ROWS) in seen
    assert positions[-1] == NUM_ROWS


def test_columns_of_formats_that_have_their_own(out, tmp_path):
    dataset, some = open_dataset(out), Query(columns=("id", "geometry"))
    export_dataset(dataset, some, str(tmp_path / "a.fgb"), "fgb")
    assert geopandas.read_file(tmp_path / "a.fgb").columns.tolist() == ["id", "geometry"]
    with pytest.raises(DatasetError, match="columns of its own"):
        export_dataset(dataset, some, str(tmp_path / "a.pmtiles"), "pmtiles")
    with pytest.raises(DatasetError, match="needs the column geometry"):
        export_dataset(dataset, Query(columns=("id",)), str(tmp_path / "b.fgb"), "fgb")
    with pytest.raises(StorageError, match="disk only"):
        export_dataset(dataset, Query(), "gs://bucket/csv", "open-buildings")


def test_a_bundle_goes_the_old_way(tmp_path):
    result = run("absent.safetensors", "--out", tmp_path / "a.onnx")
    assert result.exit_code == 1
    assert "everyroof bundle export" in result.stderr
    assert "there is no bundle" in result.output
    assert "export" in bundle_group.commands
    assert "Write footprints of the result" in run("--help").output


def test_from_and_to_a_bucket(out, tmp_path):
    with use_s3():
        place = as_place(f"s3://{BUCKET}/exports/a.fgb")
        assert run(out, place).exit_code == 0
        (tmp_path / "a.fgb").write_bytes(place.read_bytes())
        assert len(geopandas.read_file(tmp_path / "a.fgb")) == NUM_ROWS
        assert "exists" in error_of(run(out, place))
