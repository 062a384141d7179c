"""CSV.gz as Google publishes it, read by pandas, DuckDB and TorchGeo's own class."""

import gzip
import importlib
import importlib.util
import json
import sys
import types

import duckdb
import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from drawn_footprints import draw_footprints
from exported_rows import PUBLISHED, column, drawn_batches, on_lattice, outlines, published_rows

from geo.open_buildings_csv import (
    POINT_COLUMNS,
    POINT_FOLDER,
    POLYGON_COLUMNS,
    POLYGON_FOLDER,
    csv_rows,
    write_open_buildings,
)
from geo.s2cells import cell_parent, cell_token, s2_leaf_cells

# Kampala lies in one cell of level 4; at this place two meet.
ON_EDGE = (33.0, 4.3)


def read(folder, kind, token):
    return pd.read_csv(folder / kind / f"{token}_buildings.csv.gz")


def tokens_of(batches):
    cells = s2_leaf_cells(column(batches, "latitude"), column(batches, "longitude"))
    return [cell_token(int(cell)) for cell in cell_parent(cells, 4)]


def test_the_published_rows_come_out_as_published():
    text = csv_rows(published_rows(), with_geometry=True).to_pybytes().decode()
    assert text == "".join(line + "\n" for line in PUBLISHED)


def test_points_are_the_rows_without_geometry():
    text = csv_rows(published_rows(), with_geometry=False).to_pybytes().decode()
    expected = [line.split('"')[0] + line.split('",')[1] for line in PUBLISHED]
    assert text.splitlines() == expected


def test_a_slice_prints_its_own_rows_only():
    rows = drawn_batches(50)[0]
    whole = csv_rows(rows, with_geometry=True).to_pybytes().splitlines()
    assert csv_rows(rows.slice(7, 5), with_geometry=True).to_pybytes().splitlines() == whole[7:12]
    assert csv_rows(rows.slice(0, 0), with_geometry=True).to_pybytes() == b""


def test_every_footprint_is_there_once(tmp_path):
    batches = drawn_batches(1000)
    counts = write_open_buildings(tmp_path, batches)
    (token,) = counts
    assert counts[token] == 1000
    polygons, points = (read(tmp_path, kind, token) for kind in (POLYGON_FOLDER, POINT_FOLDER))
    assert tuple(polygons.columns) == POLYGON_COLUMNS
    assert tuple(points.columns) == POINT_COLUMNS
    assert polygons.full_plus_code.tolist() == column(batches, "full_plus_code")
    assert points.full_plus_code.tolist() == column(batches, "full_plus_code")
    for name, decimals in {"latitude": 8, "area_in_meters": 4, "confidence": 4}.items():
        assert polygons[name].tolist() == np.round(column(batches, name), decimals).tolist()
    shapes = on_lattice(shapely.from_wkt(polygons.geometry))
    assert shapely.equals_exact(shapes, outlines(batches)).all()


def test_duckdb_reads_them(tmp_path):
    batches = drawn_batches(500)
    (token,) = write_open_buildings(tmp_path, batches)
    path = tmp_path / POLYGON_FOLDER / f"{token}_buildings.csv.gz"
    rows = duckdb.sql(f"select full_plus_code, area_in_meters from read_csv('{path}')").fetchall()
    areas = np.round(column(batches, "area_in_meters"), 4).tolist()
    assert rows == list(zip(column(batches, "full_plus_code"), areas, strict=True))


def test_cells_that_meet_have_files_of_their_own(tmp_path):
    table = draw_footprints(400, centre=(0.0, 0.0)).sort_by("s2_cell")
    batches = table.combine_chunks().to_batches(max_chunksize=70)
    counts = write_open_buildings(tmp_path, batches)
    expected = pd.Series(tokens_of(batches)).value_counts().to_dict()
    assert counts == expected
    # The equator and Greenwich: the four cells of a corner.
    assert len(expected) == 4
    for token, number in expected.items():
        assert len(read(tmp_path, POLYGON_FOLDER, token)) == number


def test_rows_in_any_order_lose_nothing(tmp_path):
    table = draw_footprints(300, centre=(0.0, 0.0))
    batches = table.combine_chunks().to_batches(max_chunksize=40)
    counts = write_open_buildings(tmp_path, batches)
    found = pd.concat([read(tmp_path, POLYGON_FOLDER, token) for token in counts])
    assert sorted(found.full_plus_code) == sorted(column(batches, "full_plus_code"))
    for token in counts:
        path = tmp_path / POLYGON_FOLDER / f"{token}_buildings.csv.gz"
        assert gzip.decompress(path.read_bytes()).count(b"latitude") == 1


def test_the_same_rows_give_the_same_bytes(tmp_path):
    contents = []
    for name, per_batch in (("a", 100), ("b", 1000)):
        write_open_buildings(tmp_path / name, drawn_batches(500, per_batch=per_batch))
        files = sorted((tmp_path / name).rglob("*_buildings.csv.gz"))
        contents.append([gzip.decompress(path.read_bytes()) for path in files])
    assert contents[0] == contents[1]
    write_open_buildings(tmp_path / "c", drawn_batches(500, per_batch=100))
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "c" / path.relative_to(tmp_path / "a")).read_bytes()


def test_the_index_names_the_files(tmp_path):
    batches = drawn_batches(100)
    (token,) = write_open_buildings(tmp_path, batches)
    for folder in (tmp_path, tmp_path / POLYGON_FOLDER):
        (feature,) = json.loads((folder / "tiles.geojson").read_text())["features"]
        assert feature["properties"]["tile_id"] == token
        assert (tmp_path / feature["properties"]["tile_url"]).is_file()
    index = geopandas.read_file(tmp_path / "tiles.geojson")
    assert shapely.covers(index.geometry[0], outlines(batches)).all()


@pytest.fixture
def open_buildings_class():
    """TorchGeo's class, without the rest of the package, whose dependencies do not fit ours."""
    found = importlib.util.find_spec("torchgeo")
    if found is None or not found.submodule_search_locations:
        pytest.skip("torchgeo is not installed: pip install --no-deps torchgeo")
    root = found.submodule_search_locations[0]
    for name, path in (("torchgeo", root), ("torchgeo.datasets", f"{root}/datasets")):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [path]
    yield importlib.import_module("torchgeo.datasets.openbuildings").OpenBuildings
    for name in [name for name in sys.modules if name.split(".")[0] == "torchgeo"]:
        del sys.modules[name]


# Of rasterio's own use of affine.
@pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")
def test_torchgeo_takes_the_folder(tmp_path, open_buildings_class):
    batches = drawn_batches(200)
    write_open_buildings(tmp_path, batches)
    dataset = open_buildings_class(str(tmp_path / POLYGON_FOLDER), res=0.00001)
    shapes = outlines(batches)
    west, south, east, north = shapely.total_bounds(shapes[:50])
    sample = dataset[west:east, south:north]
    mask = sample["mask"].numpy()
    # As many cells are set as the outlines cover of the window.
    window = shapely.box(west, south, east, north)
    covered = shapely.area(shapely.intersection(shapely.union_all(shapes), window))
    assert mask.mean() == pytest.approx(covered / window.area, rel=0.05)
    assert mask.any()
