"""GDAL's settings."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import rasterio._env

from geo import gdal
from geo.gdal import CACHE_BYTES, READER_CACHE_BYTES, gdal_env, share_cache


def _cache_bytes() -> int:
    return int(rasterio._env.get_gdal_config("GDAL_CACHEMAX"))


@pytest.fixture(autouse=True)
def _one_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gdal, "_num_readers", 1)
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    before = _cache_bytes()
    yield
    rasterio._env.set_gdal_config("GDAL_CACHEMAX", before)


def test_one_reader_has_its_cache_while_it_reads() -> None:
    share_cache(1)
    with gdal_env("town.tif"):
        assert _cache_bytes() == CACHE_BYTES


def test_the_cache_grows_with_the_threads_that_read() -> None:
    share_cache(8)
    share_cache(2)
    assert _cache_bytes() == 8 * READER_CACHE_BYTES


def test_a_reader_that_ends_does_not_change_the_cache_of_one_that_reads() -> None:
    share_cache(8)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        first, second = gdal_env("town.tif"), gdal_env("town.tif")
        one.submit(first.__enter__).result()
        other.submit(second.__enter__).result()
        one.submit(first.__exit__).result()
        assert other.submit(_cache_bytes).result() == 8 * READER_CACHE_BYTES
        other.submit(second.__exit__).result()
    assert _cache_bytes() == 8 * READER_CACHE_BYTES


def test_what_the_environment_says_of_the_cache_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_CACHEMAX", "96")
    before = _cache_bytes()
    share_cache(8)
    with gdal_env("town.tif"):
        assert _cache_bytes() == before
