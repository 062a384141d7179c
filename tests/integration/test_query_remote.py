"""Queries of datasets in a bucket and on a web server: the same rows, and few of the bytes."""

import shutil

import pyarrow as pa
import pytest
from drawn_footprints import draw_footprints
from image_server import serve_images
from s3_server import BUCKET, use_s3
from small_datasets import write_dataset

from geo.dataset import check_files, open_dataset
from geo.errors import DatasetError, StorageError
from geo.footprints import PUBLIC_SCHEMA
from geo.object_path import ObjectPath
from geo.query import Query, count_footprints, read_batches

NUM_ROWS = 20_000


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    table = draw_footprints(NUM_ROWS)
    folder = tmp_path_factory.mktemp("served") / "district"
    return write_dataset(folder, table, max_rows=4000, row_group_rows=500)


@pytest.fixture(scope="module")
def query(local):
    """A small part: some 500 rows."""
    west, south, east, north = open_dataset(local).bounds
    x, y = (east - west) * 0.15, (north - south) * 0.15
    return Query(bbox=(west + 2 * x, south + 2 * y, west + 3 * x, south + 3 * y))


def rows_of(dataset, query):
    return pa.Table.from_batches(read_batches(dataset, query), schema=PUBLIC_SCHEMA)


def test_a_dataset_on_a_web_server(local, query):
    expected = rows_of(open_dataset(local), query)
    assert 300 < len(expected) < 0.05 * NUM_ROWS
    with serve_images(local.parent) as server:
        dataset = open_dataset(f"{server.url}/district")
        assert rows_of(dataset, query).equals(expected)
        read = sum(one.num_bytes for one in server.requests() if "parquet" in one.path)
        assert read < 0.3 * sum(shard.num_bytes for shard in dataset.shards)
        assert len(list(check_files(dataset))) == len(dataset.shards)
        server.misbehave("503", times=2, path=f"/district/{dataset.shards[0].path}")
        assert count_footprints(dataset) == NUM_ROWS
        assert rows_of(dataset, Query(columns=tuple(PUBLIC_SCHEMA.names))).num_rows == NUM_ROWS
        with pytest.raises(DatasetError, match=r"nowhere has no manifest.json"):
            open_dataset(f"{server.url}/nowhere")
        server.misbehave("403")
        with pytest.raises(StorageError, match=r"district/manifest.json: the server does not"):
            open_dataset(f"{server.url}/district")


def test_a_shard_that_a_server_lacks(local, query, tmp_path):
    shutil.copytree(local, tmp_path / "copy")
    for path in (tmp_path / "copy" / "footprints").iterdir():
        path.unlink()
    with serve_images(tmp_path) as server:
        dataset = open_dataset(f"{server.url}/copy")
        with pytest.raises(DatasetError, match=r"parquet is missing, though manifest.json"):
            rows_of(dataset, query)


def test_a_dataset_in_a_bucket(local, query):
    with use_s3():
        folder = ObjectPath.parse(f"s3://{BUCKET}/results/district")
        for path in local.rglob("*"):
            if path.is_file():
                (folder / str(path.relative_to(local))).upload(path)
        dataset = open_dataset(str(folder))
        assert dataset.name == "district"
        assert rows_of(dataset, query).equals(rows_of(open_dataset(local), query))
        with pytest.raises(DatasetError, match=r"s3://roofs/nowhere has no manifest.json"):
            open_dataset(f"s3://{BUCKET}/nowhere")


def test_urls_that_name_no_folder():
    with pytest.raises(StorageError, match="without a query"):
        open_dataset("https://example.org/out?token=1")
    with pytest.raises(StorageError):
        open_dataset("ftp://example.org/out")
