"""GDAL's settings."""

import pytest
import rasterio.env

from geo import gdal
from geo.gdal import CACHE_BYTES, READER_CACHE_BYTES, gdal_env, share_cache


@pytest.fixture(autouse=True)
def _one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdal, "_num_readers", 1)
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)


def _cache_bytes() -> int | None:
    with gdal_env("town.tif"):
        return rasterio.env.getenv().get("GDAL_CACHEMAX")


def test_the_cache_grows_with_the_threads_that_read() -> None:
    assert _cache_bytes() == CACHE_BYTES
    share_cache(2)
    assert _cache_bytes() == CACHE_BYTES
    share_cache(8)
    assert _cache_bytes() == 8 * READER_CACHE_BYTES
    share_cache(1)
    assert _cache_bytes() == 8 * READER_CACHE_BYTES


def test_what_the_environment_says_of_the_cache_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_CACHEMAX", "96")
    share_cache(8)
    assert _cache_bytes() is None
