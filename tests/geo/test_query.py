"""Queries against a slow oracle that looks at every row, and what they read on the way."""

import datetime
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
import shapely.affinity
from drawn_footprints import draw_footprints
from hypothesis import given, settings
from hypothesis import strategies as st
from small_datasets import write_dataset

from geo import query as query_module
from geo.conditions import _PreparedArea
from geo.dataset import check_files, open_dataset
from geo.errors import DatasetError
from geo.footprints import PUBLIC_SCHEMA
from geo.pluscodes import encode_plus_codes
from geo.query import (
    Query,
    count_footprints,
    read_batches,
    read_footprints,
    result_schema,
    touched_shards,
)
from geo.s2cells import cell_from_token, cell_level, cell_parent, cell_token, s2_leaf_cells
from geo.score_thresholds import parse_thresholds

NUM_ROWS = 2000
BOW = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
TURNS = (-720, -360, 0, 360)
CENTRES = {"kampala": (32.58, 0.31), "antimeridian": (179.9999, -16.8)}


@pytest.fixture(scope="module", params=sorted(CENTRES))
def drawn(request, tmp_path_factory):
    """A dataset of several files and row groups, and all its rows."""
    table = draw_footprints(NUM_ROWS, centre=CENTRES[request.param])
    dataset = open_dataset(
        write_dataset(tmp_path_factory.mktemp("drawn") / "out", table, max_rows=400)
    )
    assert len(dataset.shards) >= 5
    rows = pa.concat_tables(
        [pq.read_table(dataset.place_of(shard)).cast(PUBLIC_SCHEMA) for shard in dataset.shards]
    )
    return dataset, rows


def oracle(rows, query):
    """Which rows fit, by looking at every row and every turn of the earth."""
    west, south, east, north = query.bbox or (-180, -91, 180, 91)
    lon, lat = rows["longitude"].to_numpy(), rows["latitude"].to_numpy()
    span = (east - west) % 360 or 360
    areas = [] if query.area is None else [query.area]
    if query.is_touching:
        areas += [shapely.box(west, south, west + span, north)] if query.bbox else []
        shapes = shapely.from_wkb(rows["geometry"].to_numpy())
        fits = np.ones(len(rows), bool)
    else:
        shapes = shapely.points(lon, lat)
        fits = ((lon - west) % 360 < span) & (south <= lat) & (lat < north)
    for area in areas:
        turns = [shapely.transform(shapes, lambda xy, t=turn: xy + (t, 0)) for turn in TURNS]
        fits &= np.any([shapely.intersects(area, turned) for turned in turns], axis=0)
    if query.plus_code:
        codes = [code.replace("+", "") for code in rows["full_plus_code"].to_pylist()]
        fits &= [code.startswith(query.plus_code.replace("+", "")) for code in codes]
    if query.s2_tokens:
        leaves = s2_leaf_cells(lat, lon)
        cells = [cell_from_token(token) for token in query.s2_tokens]
        own = [cell_parent(leaves, cell_level(cell)) == np.uint64(cell) for cell in cells]
        fits &= np.any(own, axis=0)
    fits &= rows["confidence"].to_numpy() >= (query.min_confidence or 0)
    fits &= rows["area_in_meters"].to_numpy() >= (query.min_area_m2 or 0)
    fits &= rows["area_in_meters"].to_numpy() <= (query.max_area_m2 or np.inf)
    if query.dates is not None:
        first, last = query.dates
        dates = rows["image_date"].to_pylist()
        fits &= [day is not None and (first or day) <= day <= (last or day) for day in dates]
    return rows.filter(pa.array(fits, pa.bool_()))


def wrapped(longitude):
    return (longitude + 180.0) % 360.0 - 180.0


@st.composite
def queries(draw, rows):
    """Any mixture of limits, placed so that most of them split the rows."""
    lon, lat = rows["longitude"].to_numpy() % 360, rows["latitude"].to_numpy()
    given_limits = {}
    x = [draw(st.sampled_from(lon.tolist())) + draw(st.sampled_from([0.0, 1e-4])) for _ in "ab"]
    y = [draw(st.sampled_from(lat.tolist())) + draw(st.sampled_from([0.0, 1e-4])) for _ in "ab"]
    kind = draw(st.sampled_from(["none", "bbox", "area", "both"]))
    if kind in ("bbox", "both") and x[0] != x[1]:
        given_limits["bbox"] = (wrapped(min(x)), min(y), wrapped(max(x)), max(y))
    if kind in ("area", "both"):
        radius = draw(st.floats(1e-4, 0.01))
        # Off the rows by odd amounts: a turn of an area rounds its border in the last bit.
        ring = shapely.Point(x[0] + 3.3e-7, y[0] + 1.7e-7).buffer(radius, quad_segs=2)
        given_limits["area"] = shapely.affinity.translate(ring, draw(st.sampled_from([-360, 0])))
    if kind != "none":
        given_limits["is_touching"] = draw(st.booleans())
    at = draw(st.integers(0, len(rows) - 1))
    if draw(st.booleans()):
        digits = rows["full_plus_code"][at].as_py().replace("+", "")
        given_limits["plus_code"] = digits[: draw(st.integers(1, 12))]
    if draw(st.booleans()):
        leaf = s2_leaf_cells(lat[at : at + 1], lon[at : at + 1])[0]
        levels = draw(st.lists(st.integers(3, 20), min_size=1, max_size=2))
        tokens = tuple(cell_token(int(cell_parent(leaf, level))) for level in levels)
        given_limits["s2_tokens"] = tokens
    if draw(st.booleans()):
        given_limits["min_confidence"] = rows["confidence"][at].as_py()
    if draw(st.booleans()):
        given_limits["min_area_m2"] = rows["area_in_meters"][at].as_py()
    if draw(st.booleans()):
        given_limits["max_area_m2"] = 1000.0
    if draw(st.booleans()):
        days = st.sampled_from([None, datetime.date(2021, 3, 4), datetime.date(2021, 3, 5)])
        first, last = draw(days), draw(days)
        if first is None or last is None or first <= last:
            given_limits["dates"] = (first, last)
    return Query(**given_limits)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_rows_of_a_query_are_those_an_oracle_finds(drawn, data):
    dataset, rows = drawn
    query = data.draw(queries(rows))
    batches = list(read_batches(dataset, query))
    found = pa.Table.from_batches(batches, schema=PUBLIC_SCHEMA)
    expected = oracle(rows, query)
    assert found["id"].to_pylist() == expected["id"].to_pylist()
    assert found.equals(expected)
    assert all(len(batch) for batch in batches)
    assert count_footprints(dataset, query) == len(expected)


def test_a_box_without_height_is_a_line(drawn):
    dataset, rows = drawn
    for at in range(0, len(rows), 100):
        lon, lat = rows["longitude"][at].as_py(), rows["latitude"][at].as_py()
        query = Query(bbox=(lon, lat, wrapped(lon + 1e-4), lat), is_touching=True)
        found = pa.Table.from_batches(list(read_batches(dataset, query)), schema=PUBLIC_SCHEMA)
        assert rows["id"][at].as_py() in found["id"].to_pylist()
        assert found.equals(oracle(rows, query))


def test_everything_comes_in_the_order_of_the_files(drawn):
    dataset, rows = drawn
    found = pa.Table.from_batches(read_batches(dataset), schema=PUBLIC_SCHEMA)
    assert found.equals(rows)
    assert count_footprints(dataset) == dataset.num_footprints == NUM_ROWS
    assert Query().is_everything
    assert not Query(min_confidence=0.0).is_everything


def test_neighbouring_boxes_and_codes_share_no_footprint_and_leave_none_out(drawn):
    dataset, rows = drawn
    lon = np.sort(rows["longitude"].to_numpy() % 360)
    # At the longitude of a footprint: it belongs to the box east of it.
    middle = wrapped(float(lon[NUM_ROWS // 2]))
    west, east = wrapped(float(lon[0]) - 1e-3), wrapped(float(lon[-1]) + 1e-3)
    halves = [Query(bbox=(west, -90, middle, 90)), Query(bbox=(middle, -90, east, 90))]
    counts = [count_footprints(dataset, half) for half in halves]
    assert counts == [NUM_ROWS // 2, NUM_ROWS - NUM_ROWS // 2]
    codes = {code[:8] for code in rows["full_plus_code"].to_pylist()}
    assert sum(count_footprints(dataset, Query(plus_code=code)) for code in codes) == NUM_ROWS


def test_limits_and_columns(drawn):
    dataset, rows = drawn
    query = Query(columns=("id", "confidence"), limit=7, min_confidence=0.8)
    found = pa.Table.from_batches(read_batches(dataset, query), schema=result_schema(query))
    assert found.column_names == ["id", "confidence"]
    expected = oracle(rows, Query(min_confidence=0.8)).slice(0, 7)
    assert found.equals(expected.select(["id", "confidence"]))
    assert count_footprints(dataset, query) == 7
    assert list(read_batches(dataset, Query(limit=0))) == []
    with pytest.raises(ValueError, match=r"columns = id, heigth: expected some of latitude, "):
        result_schema(Query(columns=("id", "heigth")))


def test_a_frame_for_geopandas(drawn):
    dataset, rows = drawn
    frame = read_footprints(dataset.place, min_confidence=0.9)
    expected = oracle(rows, Query(min_confidence=0.9))
    assert frame.crs == "EPSG:4326"
    assert list(frame.columns) == [name for name in PUBLIC_SCHEMA.names if name != "bbox"]
    assert frame.groupby("model_id").size().tolist() == [len(expected)]
    assert frame.geometry.to_wkb().tolist() == expected["geometry"].to_pylist()
    assert frame["id"].tolist() == expected["id"].to_pylist()
    empty = read_footprints(dataset, bbox=(0, 50, 1, 51))
    assert len(empty) == 0
    assert empty.crs == "EPSG:4326"
    with pytest.raises(ValueError, match="needs `geometry`"):
        read_footprints(dataset, columns=("id",))


def test_progress_ends_at_the_rows_of_the_touched_files(drawn):
    dataset, rows = drawn
    seen = []
    query = Query(
        bbox=(*(float(rows[c][0].as_py()) for c in ("longitude", "latitude")), 179.99, 90)
    )
    list(read_batches(dataset, query, on_progress=seen.append))
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= sum(shard.num_rows for shard in touched_shards(dataset, query))
    everything = []
    list(read_batches(dataset, on_progress=everything.append))
    assert everything[-1] == NUM_ROWS


def test_only_the_row_groups_of_a_place_are_read(drawn, monkeypatch):
    dataset, rows = drawn
    read = []
    real = query_module._read_task
    monkeypatch.setattr(
        query_module,
        "_read_task",
        lambda *given_task: read.append(given_task[1].num_rows) or real(*given_task),
    )
    lon, lat = rows["longitude"][10].as_py(), rows["latitude"][10].as_py()
    query = Query(bbox=(lon - 1e-4, lat - 1e-4, wrapped(lon + 1e-4), lat + 1e-4))
    assert sum(map(len, read_batches(dataset, query))) >= 1
    assert 0 < sum(read) <= 0.2 * NUM_ROWS


def test_thresholds_by_region(drawn):
    dataset, rows = drawn
    region = cell_token(
        int(cell_parent(s2_leaf_cells(rows["latitude"][:1], rows["longitude"][:1]), 4)[0])
    )
    head = "s2_token,confidence_threshold_80%_precision,confidence_threshold_90%_precision\n"
    table = parse_thresholds(f"{head}{region},0.7512,\n", "t.csv")
    here = [
        cell_token(int(cell)) == region
        for cell in cell_parent(s2_leaf_cells(rows["latitude"], rows["longitude"]), 4)
    ]
    expected = np.sum(np.array(here) & (rows["confidence"].to_numpy() >= 0.7512))
    assert count_footprints(dataset, Query(precision=0.8, thresholds=table)) == expected > 0
    # Not reached in the one region: none fits.
    assert count_footprints(dataset, Query(precision=0.9, thresholds=table)) == 0
    with pytest.raises(DatasetError, match=r"precision = 0.85: t.csv has thresholds for 0.8, 0.9"):
        count_footprints(dataset, Query(precision=0.85, thresholds=table))
    with pytest.raises(DatasetError, match=r"has no thresholds.csv: .* is not calibrated"):
        count_footprints(dataset, Query(precision=0.8))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"bbox": (1, 2, 3, 1)}, "min_y <= max_y"),
        ({"bbox": (np.nan, 2, 3, 4)}, "expected"),
        ({"min_confidence": 1.2}, r"min_confidence = 1.2: expected a number from 0 to 1"),
        ({"precision": -0.1}, "precision = -0.1"),
        ({"min_area_m2": 10.0, "max_area_m2": 5.0}, "areas from 10.0 to 5.0"),
        ({"dates": (datetime.date(2024, 1, 2), datetime.date(2024, 1, 1))}, "the first is later"),
        ({"limit": -1}, "limit = -1"),
        ({"area": BOW}, r"area: Self-intersection.*repair it"),
        ({"s2_tokens": ("zz",)}, "'zz' is no S2 token"),
    ],
)
def test_limits_that_mean_nothing(limits, message):
    with pytest.raises(ValueError, match=message):
        Query(**limits)


def test_threads_never_share_a_prepared_area():
    """GEOS makes a prepared geometry's index when it is first asked; two threads at once crash."""
    area = _PreparedArea(shapely.Point(0, 0).buffer(1))
    with ThreadPoolExecutor(4) as pool:
        barrier = threading.Barrier(4)
        found = list(pool.map(lambda _: (barrier.wait(), area.of_thread())[1], range(4)))
    assert len({id(one) for one in found}) == 4
    assert all(shapely.is_prepared(one) for one in found)
    assert area.of_thread() is area.of_thread()


# --- damaged datasets ----------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    return write_dataset(tmp_path / "out", draw_footprints(300), max_rows=100)


def read_all(out):
    return sum(map(len, read_batches(open_dataset(out))))


def test_an_unfinished_run_is_no_dataset(small, tmp_path):
    (small / "manifest.json").unlink()
    with pytest.raises(DatasetError, match=r"has no manifest.json: the run has not finished"):
        open_dataset(small)
    with pytest.raises(DatasetError, match="does not exist; name the output folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="is a file"):
        open_dataset(next((small / "footprints").iterdir()))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"shards": [{"path": "a"}]}'])
def test_a_damaged_manifest(small, text):
    (small / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=r"manifest.json is (damaged|not the manifest)"):
        open_dataset(small)


@pytest.mark.parametrize("path", ["../x.parquet", "/etc/x", "a//b", "C:\\x", "s3://b/x"])
def test_a_manifest_names_no_files_outside(small, path):
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["shards"][0]["path"] = path
    (small / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match=r"is not the manifest of a dataset"):
        open_dataset(small)


def test_a_missing_shard(small):
    next(iter((small / "footprints").iterdir())).unlink()
    with pytest.raises(DatasetError, match=r"parquet is missing, though manifest.json names it"):
        read_all(small)


def test_a_shard_that_was_cut_off(small):
    path = next(iter((small / "footprints").iterdir()))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"bytes and not .* it was cut off or replaced"):
        read_all(small)


def test_a_shard_with_a_damaged_page_and_its_checksum(small):
    dataset = open_dataset(small)
    path = dataset.place_of(dataset.shards[1])
    assert len(list(check_files(dataset))) == len(dataset.shards)
    data = bytearray(path.read_bytes())
    data[300] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=rf"{path.name} cannot be read as Parquet"):
        read_all(small)
    with pytest.raises(DatasetError, match=rf"{path.name} does not match its checksum"):
        list(check_files(dataset))


def test_shards_of_different_versions(small, tmp_path):
    """A file of another version among ours: said, and not read with columns in the wrong place."""
    manifest = json.loads((small / "manifest.json").read_text())
    entry = manifest["shards"][1]
    path = small / entry["path"]
    footer = pq.read_metadata(path).metadata
    old = pq.read_table(path).drop_columns(["image_date"]).replace_schema_metadata(footer)
    pq.write_table(old, path)
    entry["num_bytes"] = path.stat().st_size
    (small / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        DatasetError, match=r"has image_date as no column where date32.* of another version"
    ):
        read_all(small)


def test_a_foreign_parquet_file(small):
    manifest = json.loads((small / "manifest.json").read_text())
    path = small / manifest["shards"][0]["path"]
    pq.write_table(pa.table({"a": [1]}), path)
    manifest["shards"][0]["num_bytes"] = path.stat().st_size
    (small / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="not GeoParquet"):
        read_all(small)


def test_a_dataset_without_footprints(tmp_path):
    out = tmp_path / "out"
    write_dataset(out, draw_footprints(10))
    manifest = json.loads((out / "manifest.json").read_text()) | {"shards": []}
    shutil.rmtree(out / "footprints")
    (out / "manifest.json").write_text(json.dumps(manifest))
    dataset = open_dataset(out)
    assert dataset.bounds is None
    assert list(read_batches(dataset)) == []
    assert len(read_footprints(dataset)) == 0


def test_a_footprint_is_found_by_its_own_code(small):
    rows = pa.Table.from_batches(read_batches(open_dataset(small)), schema=PUBLIC_SCHEMA)
    lat, lon = rows["latitude"][0].as_py(), rows["longitude"][0].as_py()
    code = encode_plus_codes([lat], [lon])[0].decode()
    found = read_footprints(small, plus_code=code.lower())
    assert rows["id"][0].as_py() in found["id"].tolist()
    short = read_footprints(small, plus_code=code[4:], near=(lat + 0.2, lon - 0.2))
    assert short["id"].tolist() == found["id"].tolist()
