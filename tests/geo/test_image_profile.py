import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from raster_files import PLACES, textured, write_raster

from geo.errors import RasterError
from geo.image_levels import choose_level
from geo.image_profile import load_profile, profile_image, save_profile
from geo.image_reader import ImageReader
from geo.images import open_image
from geo.pixel_window import PixelWindow
from geo.raster_config import RasterConfig
from geo.source_pixels import box_means, read_level
from geo.value_scaling import ValueScaling, percentile_scaling

UTM, NORTH_UP = PLACES["utm"]
BLACK, WHITE = 0, 255
Uint8Array = npt.NDArray[np.uint8]


def read_valid(path: str, config: RasterConfig, gsd_m: float = 0.3) -> Uint8Array:
    """Validity of a whole image at a level, as tiles see it."""
    info = open_image(path)
    profile = profile_image(info, config)
    level = choose_level(info, gsd_m)
    window = PixelWindow(0, 0, level.width, level.height)
    with ImageReader() as reader:
        pixels, valid = read_level(
            reader, info, level, window, fill=profile.fill, scaling=profile.scaling
        )
    return np.ones(pixels.shape[:2], np.uint8) if valid is None else valid


def grown(mask: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """Dilation by a square, the obvious way."""
    out = mask.copy()
    for row, col in np.argwhere(mask):
        out[max(row - by, 0) : row + by + 1, max(col - by, 0) : col + by + 1] = True
    return out


def test_holes_and_borders_are_fill_and_roofs_are_not(tmp_path: pathlib.Path) -> None:
    bands = textured(3, 400, 500)
    fill = np.zeros((400, 500), bool)
    fill[100:230, 200:330] = True  # a hole of 1521 m2
    fill[300:330, :30] = True  # 81 m2 at the border
    bands[:, 100:230, 200:330] = WHITE
    bands[:, 300:330, :30] = BLACK
    bands[:, 20:90, 20:90] = WHITE  # a roof of 441 m2
    bands[:, 380:400, 200:210] = BLACK  # a shadow of 18 m2 at the border
    bands[0, 250:300, 100:450] = BLACK  # black in one band only
    path = write_raster(tmp_path / "a.tif", bands, UTM, NORTH_UP)
    assert np.array_equal(read_valid(path, RasterConfig()) == 0, grown(fill, 3))
    assert np.array_equal(read_valid(path, RasterConfig(nodata_grow_px=0)) == 0, fill)
    assert read_valid(path, RasterConfig(nodata_colours=())).all()
    white_only = RasterConfig(nodata_colours=((255, 255, 255),), nodata_grow_px=0)
    assert (read_valid(path, white_only) == 0).sum() == 130 * 130
    keen = RasterConfig(nodata_min_area_m2=400, nodata_grow_px=0)
    assert (read_valid(path, keen)[20:90, 20:90] == 0).all()


def test_fill_is_found_at_coarse_cells_and_applied_at_pixels(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of 4 x 4 pixels (as in large images) give the same mask up to the pixel."""
    bands = textured(3, 301, 402)
    fill = np.zeros((301, 402), bool)
    fill[101:233, 203:331] = True
    bands[:, fill] = WHITE
    for name, overviews in (("a", ()), ("b", (2, 4, 8))):
        path = write_raster(tmp_path / f"{name}.tif", bands, UTM, NORTH_UP, overviews=overviews)
        monkeypatch.setattr("geo.image_profile.MAX_CELLS", 8000)
        profile = profile_image(open_image(path), RasterConfig())
        assert profile.fill is not None
        assert profile.fill.cell_cols == pytest.approx(4, rel=0.02)
        assert np.array_equal(read_valid(path, RasterConfig(nodata_grow_px=0)) == 0, fill)


def test_ringing_of_jpeg_stays_outside_the_valid_part(tmp_path: pathlib.Path) -> None:
    bands = textured(3, 512, 512)
    rows, cols = np.mgrid[0:512, 0:512]
    fill = cols + rows // 2 > 400
    bands[:, fill] = WHITE
    path = write_raster(
        tmp_path / "a.tif",
        bands,
        UTM,
        NORTH_UP,
        overviews=(2,),
        compress="jpeg",
        photometric="ycbcr",
        jpeg_quality=75,
    )
    for gsd_m, step in ((0.3, 1), (0.6, 2)):
        valid = read_valid(path, RasterConfig(), gsd_m) == 1
        truth = fill[::step, ::step]
        assert not (valid & truth).any()
        # Little is lost beyond the edge: three pixels on a slanted line, and the ringing.
        assert (~valid & ~truth).sum() < 12 * valid.shape[0]


@pytest.mark.parametrize("window", [(0, 0, 90, 70), (160, 60, 45, 100), (322, 225, 17, 11)])
def test_fill_does_not_depend_on_the_window(
    tmp_path: pathlib.Path, window: tuple[int, int, int, int]
) -> None:
    bands = textured(3, 400, 500)
    bands[:, 100:230, 200:330] = WHITE
    bands[:, :, :60] = BLACK
    path = write_raster(tmp_path / "a.tif", bands, UTM, NORTH_UP)
    whole = read_valid(path, RasterConfig())
    info = open_image(path)
    profile = profile_image(info, RasterConfig())
    part = PixelWindow(*window)
    with ImageReader() as reader:
        _, valid = read_level(
            reader, info, choose_level(info, 0.3), part, fill=profile.fill, scaling=None
        )
    expected = whole[part.within(PixelWindow(0, 0, 500, 400))]
    assert np.array_equal(np.ones_like(expected) if valid is None else valid, expected)
    assert not expected.all()


def test_whether_a_window_has_fill_is_asked_as_its_areas_are(tmp_path: pathlib.Path) -> None:
    bands = textured(3, 301, 402)
    bands[:, 101:233, 203:331] = WHITE
    path = write_raster(tmp_path / "hole.tif", bands, UTM, NORTH_UP)
    info = open_image(path)
    fill = profile_image(info, RasterConfig()).fill
    assert fill is not None
    level = choose_level(info, 0.3)
    windows = [
        PixelWindow(col, row, 23, 17) for row in range(0, 284, 11) for col in range(0, 379, 13)
    ]
    answers = [fill.has_any(info, level, window) for window in windows]
    assert answers == [bool(fill.near(info, level, window)) for window in windows]
    assert 0 < sum(answers) < len(answers)
    # Well inside there is fill, far from it there is none.
    assert fill.has_any(info, level, PixelWindow(250, 150, 5, 5))
    assert not fill.has_any(info, level, PixelWindow(0, 0, 50, 50))


def test_tagged_nodata_is_not_taken_for_fill(tmp_path: pathlib.Path) -> None:
    bands = textured(3, 200, 200)
    bands[:, :, :50] = BLACK
    path = write_raster(tmp_path / "a.tif", bands, UTM, NORTH_UP, nodata=0)
    assert profile_image(open_image(path), RasterConfig()).fill is None
    # Not grown: what is tagged is exact.
    assert np.array_equal(read_valid(path, RasterConfig())[0] == 0, np.arange(200) < 50)


def test_sixteen_bit_fill_is_exact(tmp_path: pathlib.Path) -> None:
    bands = textured(3, 200, 200).astype(np.uint16) * 10
    bands[:, :, :50] = 0
    bands[:, :, 50:60] = 3
    path = write_raster(tmp_path / "a.tif", bands, UTM, NORTH_UP)
    config = RasterConfig(nodata_grow_px=0)
    assert np.array_equal(read_valid(path, config)[0] == 0, np.arange(200) < 50)
    scaling = profile_image(open_image(path), config).scaling
    assert scaling is not None
    # Fill does not enter the percentiles.
    expected = np.percentile(
        bands[:, :, 50:].reshape(3, -1), [2, 98], axis=1, method="inverted_cdf"
    )
    assert np.array_equal(np.stack([scaling.low, scaling.high]), expected)


@given(
    values=arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(2)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    low=st.floats(0, 50),
    high=st.floats(50.5, 100),
)
def test_percentiles_are_exact(values: npt.NDArray[np.float32], low: float, high: float) -> None:
    half = len(values) // 2
    parts = [(values[:half], None), (values[half:], np.ones(values[half:].shape[:2], np.uint8))]
    scaling = percentile_scaling(lambda: parts, 2, (low, high))
    for band in range(2):
        ordered = np.sort(values[:, :, band], axis=None)
        ranks = np.clip(np.ceil(ordered.size * np.array([low, high]) / 100) - 1, 0, None)
        expected = ordered[ranks.astype(int)]
        assert scaling.low[band] == expected[0]
        assert scaling.high[band] == expected[1] or expected[1] <= expected[0]
        assert scaling.low[band] < scaling.high[band]


def test_stretch_rounds_and_clips() -> None:
    scaling = ValueScaling(low=np.array([10.0]), high=np.array([20.0]))
    values = np.array([[[9.0], [10.0], [10.0196], [10.02], [15.0], [20.0], [1e30], [np.nan]]])
    assert scaling.apply(values)[0, :, 0].tolist() == [0, 0, 0, 1, 128, 255, 255, 0]


def test_eight_bit_images_keep_their_values(tmp_path: pathlib.Path) -> None:
    path = write_raster(tmp_path / "a.tif", textured(3, 64, 64), UTM, NORTH_UP)
    info = open_image(path)
    assert profile_image(info, RasterConfig()).scaling is None
    scaling = profile_image(info, RasterConfig(value_range=(50, 150))).scaling
    assert scaling is not None
    assert scaling.low.tolist() == [50] * 3


def test_image_without_any_value(tmp_path: pathlib.Path) -> None:
    bands = np.full((3, 64, 64), np.nan, np.float32)
    path = write_raster(tmp_path / "a.tif", bands, UTM, NORTH_UP)
    assert not read_valid(path, RasterConfig()).any()
    empty = write_raster(tmp_path / "b.tif", np.zeros((3, 64, 64), np.uint8), UTM, NORTH_UP)
    assert not read_valid(empty, RasterConfig()).any()


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_box_means(box_rows: int, box_cols: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (4 * box_rows, 3 * box_cols, 2)).astype(np.uint8)
    valid = (rng.random(pixels.shape[:2]) < 0.9).astype(np.uint8)
    means, all_valid = box_means(pixels, valid, box_rows, box_cols)
    assert all_valid is not None
    for row in range(4):
        for col in range(3):
            box = np.s_[
                row * box_rows : (row + 1) * box_rows, col * box_cols : (col + 1) * box_cols
            ]
            assert (means[row, col] == np.floor(pixels[box].mean(axis=(0, 1)) + 0.5)).all()
            assert all_valid[row, col] == valid[box].all()


def test_profiles_survive_the_disk(tmp_path: pathlib.Path) -> None:
    bands = textured(3, 200, 200).astype(np.uint16)
    bands[:, :, :50] = 0
    path = write_raster(tmp_path / "a.tif", bands, UTM, NORTH_UP)
    profile = profile_image(open_image(path), RasterConfig())
    bare = dataclasses.replace(profile, fill=None, scaling=None)
    for one in (profile, bare):
        save_profile(one, tmp_path / "p.npz")
        back = load_profile(tmp_path / "p.npz")
        assert back.version == one.version
        for part in ("fill", "scaling"):
            mine, theirs = getattr(one, part), getattr(back, part)
            assert (mine is None) == (theirs is None)
            if mine is not None:
                for key, value in vars(mine).items():
                    assert np.array_equal(value, getattr(theirs, key))
                    assert type(value) is type(getattr(theirs, key))
    assert [p.name for p in tmp_path.glob("*.npz")] == ["p.npz"]


def test_broken_profiles_are_refused(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "p.npz"
    for content in (b"", b"PK\x03\x04 cut", b"no zip at all"):
        file.write_bytes(content)
        with pytest.raises(RasterError, match="no image profile"):
            load_profile(file)
    np.savez(file, version=np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(RasterError, match="no image profile"):
        load_profile(file)


_MEASURE = """
import resource, sys
from geo.images import open_image
from geo.image_profile import profile_image
from geo.raster_config import RasterConfig
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
profile_image(open_image(sys.argv[1]), RasterConfig())
before = peak()
profile_image(open_image(sys.argv[2]), RasterConfig())
print(peak() - before)
"""


def test_memory_stays_bounded(tmp_path: pathlib.Path) -> None:
    """8192 x 8192 without overviews: 201 MB of pixels, a few tens of MB of memory."""
    small = write_raster(tmp_path / "a.tif", textured(3, 1500, 1500), UTM, NORTH_UP)

    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": UTM, "transform": NORTH_UP}
    profile |= {"width": 8192, "height": 8192, "tiled": True}
    row = np.tile(textured(3, 512, 512), (1, 1, 16))
    row[:, :, 3000:5000] = WHITE
    with rasterio.open(tmp_path / "b.tif", "w", **profile) as dataset:
        for top in range(0, 8192, 512):
            dataset.write(row, window=rasterio.windows.Window(0, top, 8192, 512))
    command = [sys.executable, "-c", _MEASURE, small, str(tmp_path / "b.tif")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # GDAL's block cache (64 MB) is full only now.
    assert float(done.stdout) < 64 + 60


def test_config_names_what_is_wrong() -> None:
    for options, name in (
        ({"bands": (0, 1, 2)}, "bands"),
        ({"nodata_colours": ((1, 2, 300),)}, "nodata_colours"),
        ({"nodata_tolerance": 65}, "nodata_tolerance"),
        ({"nodata_min_area_m2": -1.0}, "nodata_min_area_m2"),
        ({"nodata_border_area_m2": float("nan")}, "nodata_border_area_m2"),
        ({"nodata_grow_px": 17}, "nodata_grow_px"),
        ({"value_range": (2.0, 2.0)}, "value_range"),
        ({"value_percentiles": (98.0, 2.0)}, "value_percentiles"),
        ({"mosaic": "newest"}, "mosaic"),
    ):
        with pytest.raises(ValueError, match=name):
            RasterConfig(**options)  # type: ignore[arg-type]


def test_fill_colours_must_match_the_bands(tmp_path: pathlib.Path) -> None:
    path = write_raster(tmp_path / "a.tif", textured(3, 64, 64), UTM, NORTH_UP)
    info = open_image(path)
    with pytest.raises(ValueError, match="nodata_colours"):
        profile_image(info, RasterConfig(nodata_colours=((1, 2),)))
    assert profile_image(info, RasterConfig(nodata_colours=((7,),))).fill is None


def test_holes_of_real_scenes(shared_data: pathlib.Path) -> None:
    config = RasterConfig()
    banepa = open_image(str(shared_data / "scenes" / "banepa.tif"))
    invalid = read_valid(banepa.path, config, 0.3) == 0
    cell_m2 = banepa.gsd_m**2 * 4
    assert 19_000 < invalid.sum() * cell_m2 < 21_000
    nacala = read_valid(str(shared_data / "scenes" / "nacala.tif"), config) == 0
    assert 0.027 < nacala.mean() < 0.04
    kampala = open_image(str(shared_data / "scenes" / "kampala_a.tif"))
    assert profile_image(kampala, config).fill is None
