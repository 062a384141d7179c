"""Images in buckets that GDAL can read where the object store's client cannot, and the reverse."""

import os

import numpy as np
import pytest
from image_server import serve_images
from synthetic import draw_town, write_cog

from geo.errors import RasterError, StateError, StorageError
from geo.image_levels import choose_level
from geo.image_reader import ImageReader
from geo.images import open_image
from geo.object_path import ObjectPath
from geo.pixel_window import PixelWindow
from geo.remote_state import remote_state

WINDOW = PixelWindow(100, 50, 200, 300)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server with /roofs/town.tif, which buckets of either kind may be."""
    for name in [n for n in os.environ if n.startswith(("AWS_", "GOOGLE_", "GS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("geo.object_path.MAX_RETRIES", 0)
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    (tmp_path / "roofs").mkdir()
    # GDAL remembers for the whole process where a bucket lies that sent it elsewhere.
    (tmp_path / "afar").symlink_to("roofs")
    write_cog(tmp_path / "roofs" / "town.tif", draw_town(500, 400, seed=4))
    with serve_images(tmp_path) as server:
        yield server, tmp_path / "roofs" / "town.tif"


def _read(path):
    info = open_image(str(path))
    with ImageReader() as reader:
        values, _ = reader.read(info, choose_level(info, info.gsd_m), WINDOW)
        reader.check_unchanged(info)
    return values


def _sign(monkeypatch, server, tmp_path, *, is_in_file):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    # Nobody answers there, at once: a machine in a cloud might otherwise lend its own role.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if is_in_file:
        file = tmp_path / ".aws" / "credentials"
        file.parent.mkdir()
        file.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
        monkeypatch.setenv("HOME", str(tmp_path))
    else:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")


def test_another_region_is_named_and_does_not_hinder_gdal(served, tmp_path, monkeypatch):
    server, file = served
    _sign(monkeypatch, server, tmp_path, is_in_file=False)
    server.lie_in_region("eu-central-1")
    place = ObjectPath.parse("s3://afar/town.tif")
    for region in (None, "eu-west-3"):
        if region:
            monkeypatch.setenv("AWS_REGION", region)
        with pytest.raises(StateError, match=r"s3://afar lies .*set AWS_REGION") as caught:
            place.state()
        assert (region or "not named") in str(caught.value)
    monkeypatch.delenv("AWS_REGION")
    np.testing.assert_array_equal(_read("s3://afar/town.tif"), _read(file))
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert place.state()["size"] == file.stat().st_size
    assert remote_state("s3://afar/town.tif").endswith(f" {file.stat().st_size}")


def test_credentials_that_only_gdal_finds_are_used(served, tmp_path, monkeypatch):
    server, file = served
    _sign(monkeypatch, server, tmp_path, is_in_file=True)
    with pytest.raises(StateError, match=r"no credentials .*AWS_NO_SIGN_REQUEST=YES"):
        remote_state("s3://roofs/town.tif")
    np.testing.assert_array_equal(_read("s3://roofs/town.tif"), _read(file))


def test_where_gdal_cannot_either_both_are_told(served, tmp_path, monkeypatch):
    server, _ = served
    _sign(monkeypatch, server, tmp_path, is_in_file=True)
    with pytest.raises(RasterError, match=r"none\.tif.*; .*no credentials for s3://roofs"):
        open_image("s3://roofs/none.tif")


def test_a_public_bucket_of_google_wants_no_credentials(served, monkeypatch):
    server, file = served
    monkeypatch.setenv("GOOGLE_BASE_URL", server.url)
    monkeypatch.setenv("CPL_GS_ENDPOINT", f"{server.url}/")
    monkeypatch.setenv("GS_NO_SIGN_REQUEST", "YES")
    assert ObjectPath.parse("gs://roofs/town.tif").state()["size"] == file.stat().st_size
    info = open_image("gs://roofs/town.tif")
    assert info.remote == (("gs://roofs/town.tif", remote_state("gs://roofs/town.tif")),)
    np.testing.assert_array_equal(_read("gs://roofs/town.tif"), _read(file))


def test_a_secret_key_with_slashes_is_no_bucket():
    with pytest.raises(StorageError, match="credentials and queries have no place") as caught:
        ObjectPath.parse("s3://KEY:QQ/QQ@roofs/x")
    assert "QQ" not in str(caught.value)
