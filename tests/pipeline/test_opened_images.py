"""What workers find when they open images: shared, raced for, failed, and read back at the end."""

import dataclasses
import os
import shutil
import threading

import pytest
from image_catalogues import stac_item, write_items
from image_server import serve_images
from running import make_config, manifest
from s3_server import BUCKET, use_s3
from synthetic import draw_town, write_town

from geo.errors import RasterError
from geo.images import open_image
from geo.object_path import ObjectPath
from geo.places import as_place, remove_tree
from pipeline import image_shelf, images_table, opened_images, publish
from pipeline.image_index import ImageIndex
from pipeline.image_shelf import ImageShelf
from pipeline.images_table import find_images
from pipeline.opened_images import (
    all_opened,
    note_failure,
    opened_path,
    read_opened,
    recent_failure,
    share_opened,
)
from pipeline.output_folder import prepare_output
from pipeline.spec import resolve_config
from pipeline.tile_store import TileStore


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    """An image, and another one to put in its place."""
    folder = tmp_path_factory.mktemp("towns")
    write_town(folder / "a.tif", draw_town(120, 150, seed=1))
    write_town(folder / "other.tif", draw_town(120, 150, seed=2))
    return folder


@pytest.fixture
def folder(towns, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(towns, tmp_path / "images")


def _spec(tmp_path, folder, *, href=None, **options):
    item = stac_item(folder / "a.tif", href=href)
    source = {"stac": str(write_items(tmp_path / "items.json", [item]))}
    return resolve_config(make_config(tmp_path, [source], **options), run_token="token")


def _shelf(spec):
    return ImageShelf(spec, TileStore(spec.store_path))


def _path(spec, position=0):
    return opened_path(spec, TileStore(spec.store_path), position)


def _meanwhile(monkeypatch, do):
    """Have something happen while the next image is opened, by whoever opens it."""

    def opened(path, **options):
        monkeypatch.setattr(image_shelf, "open_image", open_image)
        return do(open_image(path, **options))

    monkeypatch.setattr(image_shelf, "open_image", opened)


def test_of_two_workers_that_open_an_image_at_once_the_first_ones_version_counts(
    tmp_path, folder, monkeypatch
):
    spec = _spec(tmp_path, folder)
    first, second = _shelf(spec), _shelf(spec)

    def change_and_let_the_first_open(found):
        shutil.copy(folder / "other.tif", folder / "a.tif")
        assert first.image(0).info.version != found.version
        return found

    _meanwhile(monkeypatch, change_and_let_the_first_open)
    assert second.image(0).info == first.image(0).info
    assert _shelf(spec).image(0).info == first.image(0).info
    assert [pair[0] for _, pair in all_opened(spec)] == [first.image(0).info]


def test_a_late_failure_does_not_replace_what_another_worker_found(tmp_path, folder, monkeypatch):
    spec = _spec(tmp_path, folder)
    first, second = _shelf(spec), _shelf(spec)

    def fail_after_the_first_opened(_):
        first.image(0)
        raise RasterError("no answer")

    _meanwhile(monkeypatch, fail_after_the_first_opened)
    assert second.image(0).info == first.image(0).info
    note_failure(_path(spec), "later still")
    assert read_opened(_path(spec)) == (first.image(0).info, None)
    assert find_images(spec).reasons == [""]
    assert find_images(spec).versions == [first.image(0).info.version]


def test_an_image_that_failed_is_not_tried_again_for_a_while(tmp_path, folder, monkeypatch):
    with serve_images(folder) as server:
        spec = _spec(tmp_path, folder, href=f"{server.url}/a.tif")
        server.misbehave("403")
        shelf = _shelf(spec)
        with pytest.raises(RasterError, match="cannot read image") as first:
            shelf.image(0)
        num_asked = len(server.requests())
        server.misbehave("")
        for same in (shelf, shelf, _shelf(spec)):
            with pytest.raises(RasterError) as again:
                same.image(0)
            assert str(again.value) == str(first.value)
        assert len(server.requests()) == num_asked
        assert find_images(spec).reasons == [str(first.value)]
        monkeypatch.setattr(image_shelf, "FAILED_FOR_S", 0.0)
        with pytest.raises(RasterError, match="cannot read image"):
            shelf.image(0)
        monkeypatch.setattr(opened_images, "FAILED_FOR_S", 0.0)
        assert shelf.image(0).info.path.endswith("a.tif")
        assert find_images(spec).reasons == [""]


def test_what_another_worker_found_is_used_at_once_after_a_failure(tmp_path, folder):
    spec = _spec(tmp_path, folder)
    os.rename(folder / "a.tif", folder / "away.tif")
    shelf = _shelf(spec)
    with pytest.raises(RasterError, match="does not exist"):
        shelf.image(0)
    os.rename(folder / "away.tif", folder / "a.tif")
    info = open_image(str(folder / "a.tif"))
    assert share_opened(_path(spec), info, None) == (info, None)
    assert shelf.image(0).info == info


def test_another_run_tries_again(tmp_path, folder):
    spec = _spec(tmp_path, folder)
    note_failure(_path(spec), "no answer")
    with pytest.raises(RasterError, match="no answer"):
        _shelf(spec).image(0)
    later = dataclasses.replace(spec, run_token="later")
    assert recent_failure(_path(later)) is None
    assert _shelf(later).image(0).info.path == str(folder / "a.tif")


@pytest.fixture(scope="module")
def service():
    """An S3 service, and the environment of a user of it."""
    with use_s3() as url:
        yield url


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    """A tile store of either kind."""
    if request.param == "folder":
        yield tmp_path / "store"
        return
    request.getfixturevalue("service")
    place = as_place(f"s3://{BUCKET}/store")
    yield place
    remove_tree(place)


def _share_many(spec, info, num):
    """Every third fails, every sixth is opened by another worker all the same."""
    for position in range(num):
        if position % 3 == 0:
            note_failure(_path(spec, position), f"reason {position}")
        if position % 3 or position % 6 == 0:
            share_opened(
                _path(spec, position), dataclasses.replace(info, version=str(position)), None
            )


def test_all_records_are_found_in_order(tmp_path, folder, store, monkeypatch):
    spec = _spec(tmp_path, folder, tile_store=str(store))
    assert list(all_opened(spec)) == []
    info = open_image(str(folder / "a.tif"))
    _share_many(spec, info, 24)
    _share_many(dataclasses.replace(spec, run_token="other"), info, 2)
    share_opened(_path(spec, 1500), info, info)
    monkeypatch.setattr(opened_images, "READ_AHEAD", 7)
    found = dict(all_opened(spec))
    assert list(found) == [*range(24), 1500]
    assert found.pop(1500) == (info, info)
    for position, record in found.items():
        if position % 6 == 3:
            assert record == f"reason {position}"
        else:
            assert record[0].version == str(position)


def test_records_in_a_bucket_are_read_side_by_side_and_once(tmp_path, folder, service, monkeypatch):
    place = as_place(f"s3://{BUCKET}/side")
    spec = _spec(tmp_path, folder, tile_store=str(place))
    spec = dataclasses.replace(spec, images=ImageIndex.of([spec.images[0]] * 30))
    _share_many(spec, open_image(str(folder / "a.tif")), 24)
    asked, two = [], threading.Barrier(2)
    read = ObjectPath.read_bytes

    def read_with_another(path):
        asked.append(str(path))
        # Breaks, and fails the test, where one is read after the other.
        two.wait(timeout=30)
        return read(path)

    monkeypatch.setattr(ObjectPath, "read_bytes", read_with_another)
    found = find_images(spec)
    assert len(asked) == len(set(asked)) == 24
    assert [bool(reason) for reason in found.reasons] == [i % 6 == 3 and i < 24 for i in range(30)]
    assert found.versions[24:] == [None] * 6


def test_publishing_reads_the_records_once(tmp_path, folder, monkeypatch):
    calls = []

    def noted(spec):
        calls.append(spec.run_token)
        return all_opened(spec)

    monkeypatch.setattr(images_table, "all_opened", noted)
    spec = _spec(tmp_path, folder)
    prepare_output(spec, fresh=False)
    info = _shelf(spec).image(0).info
    publish._publish(None, spec, [], [])
    assert calls == [spec.run_token]
    assert [image["version"] for image in manifest(spec.out_path)["images"]] == [info.version]
