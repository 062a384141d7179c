"""Lists, indexes, catalogues and patterns that lie on servers and in buckets."""

import glob
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_catalogues import (
    stac_item,
    write_catalogue,
    write_csv,
    write_index,
    write_items,
    write_stac_parquet,
)
from image_server import serve_images
from running import make_config
from s3_server import BUCKET, use_s3
from synthetic import draw_town, write_town

from geo.errors import EveryroofError
from geo.object_path import ObjectPath
from pipeline.bucket_patterns import fits
from pipeline.listed_images import resolve_path
from pipeline.spec import resolve_config
from pipeline.stac_documents import NUM_THREADS, DocumentReader

NAMES = ("a", "b", "more/c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images, and every kind of source that names them by relative paths."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for i, name in enumerate(NAMES):
        write_town(folder / f"{name}.tif", draw_town(120, 150, seed=i, lon_deg=32.6 + 0.001 * i))
    paths = [folder / f"{name}.tif" for name in NAMES]
    items = [stac_item(path, href=f"./{path.relative_to(folder)}") for path in paths]
    below = [stac_item(path, href=f"../../{path.relative_to(folder)}") for path in paths]
    write_catalogue(folder / "catalogue", below)
    write_items(folder / "items.json", items)
    (folder / "item.json").write_text(json.dumps(items[0]))
    write_stac_parquet(folder / "items.parquet", items)
    (folder / "list.txt").write_text("\n".join(f"{name}.tif" for name in NAMES))
    write_csv(folder / "list.csv", [{"path": f"{name}.tif", "id": f"i-{name}"} for name in NAMES])
    write_index(folder / "index.gpkg", paths)
    import geopandas

    frame = geopandas.read_file(folder / "index.gpkg")
    frame["location"] = [f"{name}.tif" for name in NAMES]
    (folder / "index.gpkg").unlink()
    frame.to_file(folder / "index.gpkg", engine="pyogrio")
    return folder


@pytest.fixture(scope="module")
def bucket(folder):
    """The same folder as a prefix of a bucket, in the environment of a user of it."""
    with use_s3():
        root = ObjectPath.parse(f"s3://{BUCKET}/listed")
        for path in folder.rglob("*"):
            if path.is_file():
                (root / path.relative_to(folder).as_posix()).upload(path)
        yield str(root)


@pytest.fixture(scope="module")
def server(folder):
    with serve_images(folder) as server:
        yield server


@pytest.fixture(params=["server", "bucket"])
def root(request, tmp_path, monkeypatch):
    """The URL of the folder; fetched copies are kept for one test only."""
    monkeypatch.setenv("EVERYROOF_CACHE", str(tmp_path / "cache"))
    value = request.getfixturevalue(request.param)
    return value if isinstance(value, str) else value.url


def _resolve(tmp_path, source, **options):
    return resolve_config(make_config(tmp_path, [source], **options)).images


def _refused(tmp_path, source, *words):
    with pytest.raises(EveryroofError) as caught:
        _resolve(tmp_path, source)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        {"list": "list.txt"},
        {"list": "list.csv"},
        {"index": "index.gpkg"},
        {"stac": "item.json"},
        {"stac": "items.json"},
        {"stac": "items.parquet"},
        {"stac": "catalogue/catalog.json"},
    ],
    ids=lambda source: next(iter(source.values())),
)
def test_a_source_elsewhere_gives_what_it_gives_here(tmp_path, folder, root, source):
    kind, name = next(iter(source.items()))
    here = _resolve(tmp_path, {kind: str(folder / name)})
    there = _resolve(tmp_path, {kind: f"{root}/{name}"})
    assert [image.image_id for image in there] == [image.image_id for image in here]
    assert [image.date for image in there] == [image.date for image in here]
    expected = [image.path.replace(str(folder), root) for image in here]
    assert [image.path for image in there] == expected
    assert there.failed == ()


@pytest.mark.parametrize(
    "source",
    [{"list": "no.csv"}, {"index": "no.gpkg"}, {"stac": "no.parquet"}, {"stac": "no.json"}],
)
def test_what_is_not_there_is_named(tmp_path, root, source):
    kind, name = next(iter(source.items()))
    _refused(tmp_path, {kind: f"{root}/{name}"}, f"{root}/{name}")


def test_a_pattern_of_a_bucket_finds_what_it_finds_on_a_disk(tmp_path, folder, bucket):
    for pattern in ("*.tif", "**/*.tif", "m*/?.tif", "[ab].tif", "more/c.tif"):
        here = _resolve(tmp_path, {"glob": f"{folder}/{pattern}"})
        there = _resolve(tmp_path, {"glob": f"{bucket}/{pattern}"})
        assert [image.image_id for image in there] == [image.image_id for image in here]
        expected = [image.path.replace(str(folder), bucket) for image in here]
        assert [image.path for image in there] == expected
    assert len(_resolve(tmp_path, f"{bucket}/**/*.tif")) == 3
    _refused(tmp_path, f"{bucket}/*.jp2", "no file matches", f"{bucket}/*.jp2")
    _refused(tmp_path, "s3://roo*/a.tif", "begins after the bucket")


def test_a_key_with_a_bracket_is_itself(tmp_path, folder, bucket):
    key = ObjectPath.parse(f"{bucket}/odd") / "town[1].tif"
    key.upload(folder / "a.tif")
    images = _resolve(tmp_path, str(key))
    assert [(image.image_id, image.path) for image in images] == [("town[1]", str(key))]


def test_a_pattern_of_a_web_server_is_refused(tmp_path, server):
    _refused(tmp_path, {"glob": f"{server.url}/*.tif"}, "no list of its files", "`index`")


TREE = [
    "a.tif", "b.TIF", ".hidden.tif", "x/a.tif", "x/y/a.tif", "x/y/b.jp2", "x/.h/a.tif",
    ".h/a.tif", "x/[1].tif", "xx/a1.tif", "x/y/z/a.tif",
]  # fmt: skip
PARTS = st.sampled_from(["**", "*", "x", "y", "?", "x*", ".*", ".h", "a.tif", "*.tif", "[ab].*"])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@given(parts=st.lists(PARTS, min_size=1, max_size=4))
def test_patterns_fit_as_those_of_glob(tree, parts):
    found = glob.iglob("/".join(parts), root_dir=tree, recursive=True)
    # "a.tif/", which glob finds for "a.tif/**", is no file; a Path would drop the slash.
    expected = {os.path.normpath(name) for name in found if os.path.isfile(f"{tree}/{name}")}
    assert {name for name in TREE if fits(Path(name).parts, parts)} == expected


def _large_catalogue(folder, num):
    items = [
        {"type": "Feature", "id": f"i{n:03d}", "properties": {"datetime": "2024-01-01T00:00:00Z"}}
        | {"assets": {"visual": {"href": f"../{n}.tif"}}, "bbox": [30, 0, 31, 1], "links": []}
        for n in range(num)
    ]
    write_catalogue(folder, items)


def test_a_walk_keeps_its_order_and_few_connections(tmp_path, monkeypatch):
    """Some answers come late, after another try: the order is the catalogue's all the same."""
    num = 60
    _large_catalogue(tmp_path / "large", num)
    with serve_images(tmp_path) as server:
        server.misbehave("503", times=5, after=6)
        images = _resolve(tmp_path, {"stac": f"{server.url}/large/catalog.json"})
        asked = server.requests()
    assert [image.image_id for image in images] == [f"i{n:03d}" for n in range(num)]
    assert sum(request.status == 503 for request in asked) == 5
    assert sum(request.status == 200 for request in asked) == num + 2
    assert 1 < len({request.connection for request in asked}) <= NUM_THREADS + 1


def test_a_walk_ends_its_connections_and_asks_no_further(tmp_path):
    _large_catalogue(tmp_path / "large", 100)
    with serve_images(tmp_path) as server:
        with DocumentReader() as reader:
            places = [f"{server.url}/large/items/i{n:03d}.json" for n in range(100)]
            documents = reader.read_all(places)
            assert next(documents)[1]["id"] == "i000"
        pools = reader._io.session.get_adapter(places[0]).poolmanager.pools
        assert len(pools) == 0
        assert len(server.requests()) <= 2 * NUM_THREADS + 1


@pytest.mark.parametrize(
    ("href", "base", "resolved"),
    [
        ("b.tif", "https://h/x/i.json?sig=a/b", "https://h/x/b.tif"),
        ("../b.tif?sig=c//d", "https://h/x/i.json", "https://h/b.tif?sig=c//d"),
        ("/b.tif", "https://h/x/i.json?sig=a/b", "https://h/b.tif"),
    ],
)
def test_queries_take_no_part_in_relative_paths(href, base, resolved):
    assert resolve_path(href, base) == resolved
