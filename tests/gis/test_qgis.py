"""A real QGIS opens what a run writes and what is exported: every row, the style, the map.

`make test-qgis` installs Debian's QGIS and runs these; plain pytest leaves them out. Debian's GDAL
has no Parquet driver, which QGIS's own installers have: make builds it from Debian's source. What
people with Debian's own are left with, an index and an error that says why, is tested as well.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from click.testing import CliRunner
from drawn_footprints import draw_footprints
from PIL import Image
from small_datasets import write_dataset

from geo.dataset import open_dataset
from geo.query import read_footprints
from pipeline.cli.main import cli
from pipeline.gis_files import write_gis_files
from pipeline.gis_style import write_style_beside
from pipeline.palette import CONFIDENCE_RAMP

QGIS_PYTHON = "/usr/bin/python3"
PROBE = Path(__file__).with_name("qgis_probe.py")
DRIVERS = Path(__file__).parents[2] / ".qgis"
IS_THERE = (
    Path(QGIS_PYTHON).exists()
    and subprocess.run([QGIS_PYTHON, "-c", "import qgis.core"], capture_output=True).returncode == 0
)
pytestmark = [
    pytest.mark.qgis,
    pytest.mark.skipif(not IS_THERE, reason="no QGIS here; `make test-qgis` installs it"),
]
needs_parquet = pytest.mark.skipif(
    not (DRIVERS / "ogr_Parquet.so").exists(),
    reason="no Parquet driver for QGIS here; `make test-qgis` builds it",
)

NUM_ROWS = 3000
COLUMNS = ["latitude", "longitude", "area_in_meters", "confidence", "full_plus_code", "id"]
CLASSES = [
    [lower, upper, colour.lower()]
    for (lower, colour), (upper, _) in zip(
        CONFIDENCE_RAMP, [*CONFIDENCE_RAMP[1:], (1.0, "")], strict=True
    )
]


def ask_qgis(tmp_path: Path, *, drivers: Path = DRIVERS, **request):
    """The probe's answer, from a process of QGIS's Python without a screen."""
    environment = {
        **os.environ,
        "QT_QPA_PLATFORM": "offscreen",
        "XDG_RUNTIME_DIR": str(tmp_path),
        "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "profile"),
        "GDAL_DRIVER_PATH": str(drivers),
    }
    done = subprocess.run(
        [QGIS_PYTHON, str(PROBE)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A drawn dataset of several files, with what a GIS opens."""
    out = write_dataset(
        tmp_path_factory.mktemp("gis") / "out", draw_footprints(NUM_ROWS, seed=3), max_rows=900
    )
    dataset = open_dataset(out)
    assert len(dataset.shards) > 3
    write_gis_files(out, dataset.shards)
    return out


@pytest.fixture(scope="module")
def frame(out):
    return read_footprints(out)


def _box(frame):
    """The middle of the dataset, where its files meet."""
    west, south, east, north = frame.total_bounds
    x, y = (west + east) / 2, (south + north) / 2
    return [x - (east - west) / 8, y - (north - south) / 8, x + 0.001, y + 0.001]


def _key(code, latitude):
    return code, round(float(latitude), 8)


def assert_same_rows(found, expected: geopandas.GeoDataFrame):
    """What QGIS read, against the rows themselves: values, outlines, colours and tips."""
    assert len(found) == len(expected)
    assert len({row["number"] for row in found}) == len(found)
    # CSV and GeoJSON have the published decimals.
    by_code = {
        _key(row["values"]["full_plus_code"], row["values"]["latitude"]): row for row in found
    }
    limits = [lower for lower, _ in CONFIDENCE_RAMP]
    for want in expected.itertuples():
        row = by_code[_key(want.full_plus_code, want.latitude)]
        confidence = float(row["values"]["confidence"])
        assert confidence == pytest.approx(want.confidence, abs=5.1e-5)
        got = shapely.from_wkb(bytes.fromhex(row["wkb"]))
        got = got.geoms[0] if got.geom_type == "MultiPolygon" else got
        # GeoJSON keeps 7 decimals.
        assert got.hausdorff_distance(want.geometry) < 1e-7
        # A value on a limit belongs to the lower class in QGIS.
        index = max(np.searchsorted(limits, confidence, side="left") - 1, 0)
        assert row["colour"] == CONFIDENCE_RAMP[index][1].lower()
        assert want.full_plus_code in row["tip"]
        assert f"{want.confidence:.2f}" in row["tip"]


@needs_parquet
@pytest.mark.parametrize("name", ["footprints.vrt", "footprints.qlr"])
def test_the_whole_dataset_is_one_styled_layer(tmp_path, out, frame, name):
    # Moved, as people do: nothing in it may name where it was.
    moved = tmp_path / "moved here"
    shutil.copytree(out, moved)
    box = _box(frame)
    layer = ask_qgis(tmp_path, path=str(moved / name), box=box, look_up="id")["layers"][0]
    assert layer["is_valid"], layer
    assert layer["num_features"] == NUM_ROWS
    assert layer["crs"] == "EPSG:4326"
    assert layer["fields"][:6] == COLUMNS
    assert layer["extent"] == pytest.approx(frame.total_bounds, abs=1e-5)
    assert (layer["column"], layer["classes"]) == ("confidence", CLASSES)
    assert layer["is_labelled"]
    expected = frame[frame.intersects(shapely.box(*box))]
    assert 50 < len(expected) < NUM_ROWS / 2
    assert_same_rows(layer["in_box"], expected)
    # GDAL's own numbers of the rows begin anew with every filter: another building comes back.
    assert layer["looked_up"][0] == layer["looked_up"][1]


@needs_parquet
def test_filters_count_and_read_what_they_should(tmp_path, out, frame):
    request = {"path": str(out / "footprints.vrt"), "filter": '"confidence" >= 0.8'}
    layer = ask_qgis(tmp_path, **request)["layers"][0]
    expected = int((frame["confidence"] >= 0.8).sum())
    assert 0 < expected < NUM_ROWS
    assert (layer["num_filtered"], layer["num_read"]) == (expected, expected)


@needs_parquet
def test_the_folder_of_files_is_one_layer_too(tmp_path, out):
    layer = ask_qgis(tmp_path, path=str(out / "footprints"))["layers"][0]
    assert layer["num_features"] == NUM_ROWS


def test_the_index_of_files_opens_without_the_parquet_driver(tmp_path, out):
    answer = ask_qgis(tmp_path, path=str(out / "footprints.qlr"), drivers=tmp_path)
    footprints, files = answer["layers"]
    # Not a layer that looks complete and shows nothing.
    assert footprints["num_features"] == 0
    shards = open_dataset(out).shards
    assert files["is_valid"]
    assert files["num_features"] == len(shards)
    assert files["column"] == "footprints_per_km2"
    alone = ask_qgis(tmp_path, path=str(out / "shards.geojson"), drivers=tmp_path)["layers"][0]
    assert alone["classes"] == files["classes"]
    rows = _rows(tmp_path, out / "shards.geojson")
    assert {row["values"]["path"]: int(row["values"]["footprints"]) for row in rows} == {
        shard.path: shard.num_rows for shard in shards
    }


def _rows(tmp_path, path):
    box = [-180, -90, 180, 90]
    return ask_qgis(tmp_path, path=str(path), drivers=tmp_path, box=box)["layers"][0]["in_box"]


@needs_parquet
def test_the_map_shows_dots_from_afar_and_outlines_from_near(tmp_path, out, frame):
    middle = frame.geometry.iloc[NUM_ROWS // 2].centroid
    pictures = [
        {"path": str(tmp_path / f"{scale}.png"), "middle": [middle.x, middle.y], "scale": scale}
        for scale in (300, 600, 5_000, 15_000, 100_000, 260_000)
    ]
    answer = ask_qgis(tmp_path, path=str(out / "footprints.qlr"), pictures=pictures)
    assert answer["scales"] == pytest.approx([each["scale"] for each in pictures], rel=1e-3)
    labels, near, town, plain, dots, files = (_colours(each["path"]) for each in pictures)
    # No drawn building is less sure than 0.5.
    solid = [tuple(bytes.fromhex(colour[1:])) for _, colour in CONFIDENCE_RAMP[3:]]
    # Solid shapes in between; elsewhere these colours are veils, dots, or not drawn at all.
    assert all(plain.get(colour, 0) > 100 for colour in solid)
    for picture in (labels, near, town, dots, files):
        assert all(picture.get(colour, 0) < plain[colour] / 10 for colour in solid)
    # Grey print: labels of footprints from near, of files from afar.
    assert _num_grey(labels) > 3 * _num_grey(near)
    assert _num_grey(files) > 100
    # The densest class of files, where single footprints are no longer drawn.
    assert files.get((117, 107, 177), 0) + files.get((84, 39, 143), 0) > 20
    assert dots.get((117, 107, 177), 0) + dots.get((84, 39, 143), 0) == 0


def _num_grey(colours):
    is_grey = {colour: max(colour) < 160 and max(colour) - min(colour) < 12 for colour in colours}
    return sum(count for colour, count in colours.items() if is_grey[colour])


def _colours(path):
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    return dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True))


def export(out: Path, path: Path, *limits: str) -> Path:
    """An export of the footprints by the real command, styled."""
    is_csv = path.name.endswith(".csv.gz")
    target = [str(path.parent / "csv"), "--format", "open-buildings"] if is_csv else [str(path)]
    done = CliRunner().invoke(cli, ["export", str(out), *target, *limits], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    if is_csv:
        (file,) = (path.parent / "csv" / "polygons_s2_level_4_gzip").glob("*_buildings.csv.gz")
        shutil.copy(file, path)
    if path.suffix not in (".gpkg", ".fgb"):
        write_style_beside(path)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("buildings.gpkg", ""),
        ("buildings.fgb", ""),
        ("buildings.geojsonl", ""),
        ("buildings.csv.gz", "|option:GEOM_POSSIBLE_NAMES=geometry|option:AUTODETECT_TYPE=YES"),
    ],
)
def test_exports_open_in_debians_qgis_and_look_right(tmp_path, out, frame, name, options):
    path = export(out, tmp_path / name)
    box = _box(frame)
    place = f"/vsigzip/{path}" if name.endswith(".gz") else str(path)
    answer = ask_qgis(tmp_path, path=place, options=options, drivers=tmp_path, box=box)
    layer = answer["layers"][0]
    assert layer["is_valid"], layer
    assert layer["num_features"] == NUM_ROWS
    assert (layer["column"], layer["classes"]) == ("confidence", CLASSES)
    assert_same_rows(layer["in_box"], frame[frame.intersects(shapely.box(*box))])


def test_a_query_s_rows_are_those_that_qgis_shows(tmp_path, out, frame):
    path = export(out, tmp_path / "sure.gpkg", "--min-confidence", "0.8")
    layer = ask_qgis(tmp_path, path=str(path), drivers=tmp_path)["layers"][0]
    assert layer["num_features"] == int((frame["confidence"] >= 0.8).sum())
