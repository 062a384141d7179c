"""Places: a folder, or a prefix of a bucket, by the same methods."""

import errno
import io
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import BUCKET, use_s3
from synthetic import draw_town, write_cog

from geo.atomic_files import atomic_path, create_atomically, write_atomically
from geo.errors import StorageError
from geo.gdal import gdal_env
from geo.image_levels import choose_level
from geo.image_reader import ImageReader
from geo.images import open_image
from geo.object_path import ObjectPath
from geo.pixel_window import PixelWindow
from geo.places import arrow_source, as_place, remove_tree
from geo.remote_names import redact, to_gdal, to_url
from geo.remote_state import remote_state


@pytest.fixture(scope="module")
def service():
    """The service, and the environment of a user of it."""
    with use_s3() as url:
        yield url


@pytest.fixture
def bucket(service):
    """A prefix of a bucket that is empty."""
    place = as_place(f"s3://{BUCKET}/out")
    yield place
    remove_tree(place)


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path):
    """The same tests for both kinds."""
    return tmp_path if request.param == "folder" else request.getfixturevalue("bucket")


def test_what_is_written_is_there_and_what_is_removed_is_gone(place):
    folder = place / "a"
    folder.mkdir(parents=True, exist_ok=True)
    assert not folder.is_dir() or isinstance(place, Path)
    (folder / "b.json").write_text("größe")
    (folder / "c.json").write_bytes(b"\x00")
    (folder / "d.txt").touch()
    assert (folder / "b.json").read_text() == "größe"
    assert (folder / "c.json").read_bytes() == b"\x00"
    assert sorted(path.name for path in folder.iterdir()) == ["b.json", "c.json", "d.txt"]
    assert sorted(path.name for path in folder.glob("*.json")) == ["b.json", "c.json"]
    assert folder.is_dir()
    assert (folder / "b.json").exists()
    assert not (folder / "none").exists()
    assert (folder / "b.json").stem == "b"
    assert (folder / "b.json").parent == folder
    with pytest.raises(FileNotFoundError):
        (folder / "none").read_bytes()
    (folder / "b.json").unlink()
    (folder / "none").unlink(missing_ok=True)
    assert not (folder / "b.json").exists()
    remove_tree(folder)
    assert not folder.is_dir()
    remove_tree(folder)


def _write_and_fail(final):
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"other")
        raise RuntimeError


def test_a_file_appears_whole_or_not_at_all(place):
    final = place / "x.bin"
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        assert not final.exists()
        with temporary.open("ab") as file:
            file.write(b" and whole")
    assert final.read_bytes() == b"half and whole"
    with pytest.raises(RuntimeError):
        _write_and_fail(final)
    assert final.read_bytes() == b"half and whole"
    with pytest.raises(FileNotFoundError, match="was not written"), atomic_path(final):
        pass
    write_atomically(final, "text")
    assert final.read_text() == "text"
    assert [path.name for path in place.iterdir()] == ["x.bin"]


def test_of_several_creators_one_succeeds_and_its_file_stays(place):
    final, num = place / "x.json", 8
    # moto looks and writes in two steps, unlike the services: there one comes after the other.
    num_at_once = num if isinstance(place, Path) else 1
    start = threading.Barrier(num_at_once)

    def create(i):
        start.wait()
        return create_atomically(final, f"{i}" * 1000)

    with ThreadPoolExecutor(num_at_once) as pool:
        is_mine = list(pool.map(create, range(num)))
    assert sum(is_mine) == 1
    assert final.read_text() == f"{is_mine.index(True)}" * 1000
    assert not create_atomically(final, "later")
    assert final.read_text() == f"{is_mine.index(True)}" * 1000
    assert [path.name for path in place.iterdir()] == ["x.json"]


def test_a_disk_without_links_and_a_service_without_conditions_still_create(
    place, tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    assert create_atomically(place / "x", "first")
    assert not create_atomically(place / "x", "second")
    assert (place / "x").read_text() == "first"
    assert [path.name for path in place.iterdir()] == ["x"]


def test_large_objects_go_in_parts_and_come_back(bucket, tmp_path):
    data = bytes(range(256)) * (80 << 10)
    (tmp_path / "big").write_bytes(data)
    (bucket / "big").upload(tmp_path / "big")
    assert dict(bucket.walk()) == {bucket / "big": len(data)}
    (bucket / "big").download(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_parquet_is_read_by_parts(place):
    table = pa.table({"a": range(200_000), "b": ["some text"] * 200_000})
    with atomic_path(place / "t.parquet") as temporary:
        pq.write_table(table, temporary, row_group_size=50_000)
    with pq.ParquetFile(arrow_source(place / "t.parquet"), pre_buffer=True) as file:
        assert file.read(columns=["a"]) == table.select(["a"])


def test_an_object_is_a_file_that_seeks(bucket):
    (bucket / "x").write_bytes(b"0123456789")
    file = (bucket / "x").open()
    assert file.seek(-4, io.SEEK_END) == 6
    assert (file.read(2), file.tell(), file.read(), file.read()) == (b"67", 8, b"89", b"")
    assert io.BufferedReader(file).seek(0) == 0
    assert file.read() == b"0123456789"


def test_errors_name_the_bucket_and_what_to_do(bucket, monkeypatch):
    other = as_place("s3://not-there/x")
    for ask in (lambda: list(other.iterdir()), lambda: other.write_text("a"), other.read_bytes):
        with pytest.raises(StorageError, match=r"s3://not-there does not exist; create it"):
            ask()
    for url in ("s3://key:secret@bucket/x", "https://key:secret@host/x", "s3://b/x?token=secret"):
        with pytest.raises(StorageError) as caught:
            as_place(url)
        assert "secret" not in str(caught.value)
    with pytest.raises(StorageError, match="names no bucket"):
        as_place("s3:///x")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        patch.setattr("geo.object_path.MAX_RETRIES", 0)
        with pytest.raises(StorageError, match=f"s3://{BUCKET}/out"):
            list(bucket.iterdir())
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9/")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        patch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(StorageError, match=r"no credentials for .*set AWS_ACCESS_KEY_ID"):
            list(bucket.iterdir())


def test_names_of_places(tmp_path):
    assert as_place(str(tmp_path)) == tmp_path
    assert as_place(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert as_place("/vsis3/b/k/") == as_place("s3://b//k") == ObjectPath("s3://b", "k")
    assert str(as_place("gs://b/k") / "x") == "gs://b/k/x"
    assert pickle.loads(pickle.dumps(as_place("gs://b/k"))) == as_place("gs://b/k")
    with pytest.raises(TypeError):
        Path(as_place("s3://b/k"))  # type: ignore[arg-type]


def test_names_of_files_for_gdal_and_back():
    for url in ("https://h/a.tif?x=1", "http://h/a.tif", "s3://b/k.tif", "gs://b/k.tif"):
        assert to_url(to_gdal(url)) == url
    assert to_gdal("/data/a.tif") == "/data/a.tif"
    assert to_url("/vsizip//vsicurl/https://h/a.zip/a.tif") is None


def test_redacted_texts_keep_what_is_no_secret():
    text = "cannot read https://me:pw@h/a.tif?X-Sig=abc%2F&y=1: HTTP 503; see https://h/b.tif"
    assert redact(text) == (
        "cannot read https://***@h/a.tif?X-Sig=***&y=***: HTTP 503; see https://h/b.tif"
    )
    assert redact('{"path": "s3://b/k?t=1", "n": 1}') == '{"path": "s3://b/k?t=***", "n": 1}'
    assert redact("why? because") == "why? because"


def test_imagery_in_a_bucket_is_read_like_a_local_one(bucket, tmp_path):
    import numpy as np

    write_cog(tmp_path / "town.tif", draw_town(1200, 1000, seed=3))
    (bucket / "town.tif").upload(tmp_path / "town.tif")
    url = f"{bucket}/town.tif"
    local, remote = open_image(str(tmp_path / "town.tif")), open_image(url)
    assert remote.remote == ((url, remote_state(url)),)
    window = PixelWindow(300, 200, 500, 600)
    with ImageReader() as reader:
        expected, _ = reader.read(local, choose_level(local, local.gsd_m), window)
        values, _ = reader.read(remote, choose_level(remote, remote.gsd_m), window)
        reader.check_unchanged(remote)
    np.testing.assert_array_equal(values, expected)
    assert open_image(f"/vsis3/{BUCKET}/out/town.tif").version == remote.version


def test_gdal_is_told_of_the_same_service(bucket):
    import rasterio.env

    with gdal_env(f"{bucket}/x.tif"):
        options = rasterio.env.getenv()
    assert options["AWS_S3_ENDPOINT"].startswith("127.0.0.1:")
    assert options["AWS_HTTPS"] == "NO"
    assert options["AWS_VIRTUAL_HOSTING"] == "FALSE"
    assert not any("SECRET" in key or "ACCESS_KEY" in key for key in options)
