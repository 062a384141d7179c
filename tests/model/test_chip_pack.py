import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from place_drawings import checkered_place

from model.chip_pack import read_pack, write_pack
from model.errors import ChipPackError, PlaceError

HEAVY = ("rasterio", "shapely", "geopandas", "pyproj", "numba", "pandas", "pyarrow")


@pytest.fixture
def places():
    valid = np.ones((192, 256), np.bool_)
    valid[:, 200:] = False
    known = valid.copy()
    known[:50] = False
    image = checkered_place().image.copy()
    image[~valid] = 0
    one = checkered_place("a/1", valid=valid, known=known, image=image, weight=0.25)
    other = checkered_place("b/2", split="validation", gsd_m=0.137, has_instances=False)
    return [one, other]


def test_round_trip(places, tmp_path):
    path = tmp_path / "places.zip"
    write_pack(path, places)
    for place, back in zip(places, read_pack(path), strict=True):
        for name in ("name", "source", "category", "region", "split", "has_instances"):
            assert getattr(back, name) == getattr(place, name)
        assert (back.weight, back.gsd_m) == (place.weight, place.gsd_m)
        for name in ("ids", "known", "valid"):
            array, expected = getattr(back, name), getattr(place, name)
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)
        difference = np.abs(back.image.astype(int) - place.image)
        assert np.median(difference) <= 8
        assert (back.image[~back.valid] == 0).all()


def test_red_stays_red(tmp_path):
    image = np.full((192, 256, 3), (200, 60, 20), np.uint8)
    write_pack(tmp_path / "p.zip", [checkered_place(image=image)])
    (back,) = read_pack(tmp_path / "p.zip")
    assert np.abs(back.image.astype(int) - (200, 60, 20)).max() <= 3


def test_equal_places_give_equal_bytes(places, tmp_path):
    for name in ("one", "two"):
        write_pack(tmp_path / name, places)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_quality_per_source(places, tmp_path):
    write_pack(tmp_path / "fine", places, jpeg_quality=95)
    write_pack(tmp_path / "coarse", places, jpeg_quality=95, source_quality={"a": 40})
    sizes = [zipfile.ZipFile(tmp_path / name).getinfo("00000.jpg").file_size for name in
             ("fine", "coarse")]  # fmt: skip
    assert sizes[1] < sizes[0]


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(ChipPackError, match="no place"):
        write_pack(tmp_path / "p.zip", [])
    with pytest.raises(PlaceError, match="two places"):
        write_pack(tmp_path / "p.zip", [checkered_place()] * 2)
    assert list(tmp_path.iterdir()) == []


def test_no_pack(tmp_path):
    with pytest.raises(ChipPackError, match="there is no chip pack"):
        read_pack(tmp_path / "missing.zip")
    (tmp_path / "text").write_text("a,b")
    with pytest.raises(ChipPackError, match="damaged"):
        read_pack(tmp_path / "text")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ChipPackError, match="no chip pack; make one"):
        read_pack(tmp_path / "other.zip")


def _rewrite(source, target, changes):
    """A copy of a zip file with some members changed (bytes) or left out (None)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = changes.get(info.filename, old.read(info))
            if data is not None:
                new.writestr(info.filename, data)


def test_damage_is_named(places, tmp_path):
    path = tmp_path / "places.zip"
    write_pack(path, places)
    with zipfile.ZipFile(path) as archive:
        index = json.loads(archive.read("index.json"))
        other_ids = archive.read("00001.jpg")

    def refuses(words, **changes):
        _rewrite(path, tmp_path / "bad.zip", changes)
        with pytest.raises(ChipPackError, match=words):
            read_pack(tmp_path / "bad.zip")

    refuses("place a/1", **{"00000.jpg": None})
    refuses("place a/1", **{"00000.ids.png": b""})
    refuses("place a/1.*shape", **{"00000.ids.png": other_ids})
    refuses("version 99", **{"index.json": json.dumps(index | {"version": 99}).encode()})
    index["places"][0]["split"] = "both"
    refuses("place a/1.*split", **{"index.json": json.dumps(index).encode()})
    del index["places"][0]["gsd_m"]
    refuses("place a/1", **{"index.json": json.dumps(index).encode()})


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(places, tmp_path, share):
    path = tmp_path / "places.zip"
    write_pack(path, places)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ChipPackError, match="damaged"):
        read_pack(path)


def test_a_changed_byte_is_found(places, tmp_path):
    path = tmp_path / "places.zip"
    write_pack(path, places)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("00001.ids.png")
    data[info.header_offset + 30 + len(info.filename) + info.file_size // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ChipPackError, match="damaged"):
        read_pack(path)


def test_training_needs_nothing_geospatial():
    # A machine that trains may hold torch, OpenCV and numpy only.
    code = (
        "import sys, model.chip_pack, model.chips, model.chip_batches\n"
        "import model.read_drawn_source, model.drawn_towns\n"
        f"found = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
