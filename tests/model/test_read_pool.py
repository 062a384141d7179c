"""Pools from drawn imagery: places on the grid, excluded ground, a run's probabilities."""

import json
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import synthetic

from geo.cog import write_cog
from geo.grid import Tile
from model.errors import SourceError
from model.read_pool import PoolOptions, read_pool

OPTIONS = PoolOptions(gsd_m=0.3, place_px=128)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_town(
        tmp_path_factory.mktemp("pool") / "town.tif", synthetic.draw_town(300, 420, seed=1)
    )


def test_places_hold_the_images_pixels_and_no_labels(image: Path) -> None:
    places = list(read_pool([image], OPTIONS))
    assert len({place.name for place in places}) == len(places) >= 4
    for place in places:
        assert place.split == "pool"
        assert not place.known.any()
        assert not place.ids.any()
        assert place.valid.mean() >= 0.5
    with rasterio.open(image) as file:
        means = file.read().reshape(3, -1).mean(axis=1)
    found = np.concatenate([place.image[place.valid] for place in places]).mean(axis=0)
    np.testing.assert_allclose(found, means, atol=12)


def test_excluded_ground_is_left_out(image: Path, tmp_path: Path) -> None:
    with rasterio.open(image) as file:
        left, bottom, right, top = file.bounds
        turn = pyproj.Transformer.from_crs(file.crs, 4326, always_xy=True).transform
    half = [(left, bottom), ((left + right) / 2, bottom), ((left + right) / 2, top), (left, top)]
    ring = [turn(*corner) for corner in [*half, half[0]]]
    area = tmp_path / "area.geojson"
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    area.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    options = PoolOptions(gsd_m=0.3, place_px=128, min_valid_share=0.01, exclude_m=0.0)
    whole = sum(place.valid.sum() for place in read_pool([image], options))
    rest = sum(place.valid.sum() for place in read_pool([image], options, exclude=[area]))
    assert rest == pytest.approx(whole / 2, rel=0.02)
    wide = PoolOptions(gsd_m=0.3, place_px=128, min_valid_share=0.01, exclude_m=300.0)
    with pytest.raises(SourceError, match="excluded areas"):
        list(read_pool([image], wide, exclude=[area]))


def test_excluded_ground_on_the_other_side_of_the_earth(image: Path, tmp_path: Path) -> None:
    ring = [[-140.0, 10.0], [-139.9, 10.0], [-139.9, 10.1], [-140.0, 10.0]]
    feature = {"type": "Feature", "properties": {}}
    geometry = {"type": "Polygon", "coordinates": [ring]}
    area = tmp_path / "far.geojson"
    collection = {"type": "FeatureCollection", "features": [feature | {"geometry": geometry}]}
    area.write_text(json.dumps(collection))
    kept = [place.valid.sum() for place in read_pool([image], OPTIONS, exclude=[area])]
    assert kept == [place.valid.sum() for place in read_pool([image], OPTIONS)]


def test_probabilities_of_a_run_fall_on_the_same_pixels(image: Path, tmp_path: Path) -> None:
    first = next(iter(read_pool([image], OPTIONS)))
    row, col = (int(part[1:]) for part in first.name.split("_")[1:])
    tile = Tile(int(first.name.split("z")[1][:2]), 300, 256, row // 256, col // 256)
    said = np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8)
    write_cog(tmp_path / f"{tile.name}.tif", said, tile.grid, tile.window)
    options = PoolOptions(place_px=100, min_valid_share=0.0)
    places = list(read_pool([image], options, probabilities=tmp_path))
    assert len(places) == 9  # 100 + 100 + 56 px, twice
    assert [place.soft.shape for place in places][::4] == [
        (100, 100, 1),
        (100, 100, 1),
        (56, 56, 1),
    ]
    whole = np.block([[places[3 * r + c].soft[:, :, 0] for c in range(3)] for r in range(3)])
    assert np.array_equal(whole, said)
    images = np.vstack([np.hstack([places[3 * r + c].image for c in range(3)]) for r in range(3)])
    at = np.s_[row - tile.window.row_off :, col - tile.window.col_off :]
    overlap = images[at][:128, :128]
    assert np.array_equal(overlap, first.image[: len(overlap), : overlap.shape[1]])


def test_a_folder_without_probabilities(image: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no probabilities"):
        list(read_pool([image], OPTIONS, probabilities=tmp_path))
    (tmp_path / "other.tif").write_bytes(b"")
    with pytest.raises(SourceError, match="no probability of `everyroof run`"):
        list(read_pool([image], OPTIONS, probabilities=tmp_path))
