"""Neighbours are cut apart within each window, the same for every tile that asks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import synthetic
from random_bundles import save_random_unet
from scipy import ndimage

from geo.pixel_window import PixelWindow
from geo.rim import Rim, find_rim
from geo.watershed import cut_valleys
from model.bundle import load_bundle, save_bundle
from model.cores import CoreProbability, cut_cores, join_cores, join_rims, mean_of_layers
from model.segment import Segmenter
from model.unet import NetworkConfig

WINDOW_PX, MARGIN_PX, REACH_PX = 64, 32, 16


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net whose probabilities go up and down: brightness, blurred by its own decoder."""
    return save_random_unet(
        tmp_path_factory.mktemp("bundles") / "plain.safetensors",
        NetworkConfig(encoder="resnet18", decoder_channels=(32, 16, 8, 8, 8)),
        seed=5,
        spread=3.0,
        has_random_norms=False,
        mean=(0.45,) * 3,
        std=(0.25,) * 3,
        threshold=0.2,
        window_px=WINDOW_PX,
        margin_px=MARGIN_PX,
    )


@pytest.fixture(scope="module")
def cutting_path(bundle_path: Path) -> Path:
    """The same weights, cutting neighbours apart."""
    bundle = load_bundle(bundle_path)
    path = bundle_path.with_name("cutting.safetensors")
    meta = dataclasses.replace(bundle.meta, valley_depth=0.1)
    save_bundle(path, meta, bundle.state_dict)
    return path


def cut(segmenter: Segmenter, pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """A tile's probability with neighbours apart."""
    meta = segmenter.bundle.meta
    shape = (valid.shape[0] - 2 * segmenter.margin_px, valid.shape[1] - 2 * segmenter.margin_px)
    cores = segmenter.segment_cores(pixels, valid)
    parts = cut_cores(cores, floor=meta.threshold_uint8, depth=meta.valley_depth_uint8)
    return join_cores(parts, shape)


def town(num_rows: int, num_cols: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = (n * WINDOW_PX + 2 * MARGIN_PX for n in (num_rows, num_cols))
    valid = np.ones((height, width), bool)
    valid[60:75, 20:90] = False
    return synthetic.draw_town(height, width).pixels, valid


def test_each_core_is_cut_with_its_surroundings(bundle_path: Path, cutting_path: Path) -> None:
    pixels, valid = town(2, 3)
    segmenter = Segmenter.load(cutting_path, precision="fp32")
    assert segmenter.reach_px == REACH_PX
    found = cut(segmenter, pixels, valid)
    plain = Segmenter.load(bundle_path, precision="fp32").segment(pixels, valid)
    assert (found != plain).mean() > 0.01, "nothing is cut: the test says nothing"
    # The same windows with larger cores and smaller margins give the surroundings.
    wide = Segmenter.load(
        bundle_path,
        precision="fp32",
        window_px=WINDOW_PX + 2 * REACH_PX,
        margin_px=MARGIN_PX - REACH_PX,
    )
    side = WINDOW_PX + 2 * MARGIN_PX
    for row in range(0, 2 * WINDOW_PX, WINDOW_PX):
        for col in range(0, 3 * WINDOW_PX, WINDOW_PX):
            window = np.s_[row : row + side, col : col + side]
            raw = wide.segment(pixels[:, *window], valid[window])
            wanted = cut_valleys(raw, floor=51, depth=26)[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]
            core = np.s_[row : row + WINDOW_PX, col : col + WINDOW_PX]
            np.testing.assert_array_equal(found[core], wanted)
    assert set(np.unique(found[found != plain])) == {50}
    assert ndimage.label(found >= 51)[1] > ndimage.label(plain >= 51)[1]
    np.testing.assert_array_equal(segmenter.segment(pixels, valid), plain)


def test_tiles_agree(cutting_path: Path) -> None:
    pixels, valid = town(2, 3)
    segmenter = Segmenter.load(cutting_path, precision="fp32", batch_size=2)
    whole = cut(segmenter, pixels, valid)
    end = WINDOW_PX + 2 * MARGIN_PX
    west = cut(segmenter, pixels[:, :, :end], valid[:, :end])
    east = cut(segmenter, pixels[:, :, WINDOW_PX:], valid[:, WINDOW_PX:])
    np.testing.assert_array_equal(np.hstack([west, east]), whole)


def test_rims_of_tiles_agree(bundle_path: Path, cutting_path: Path) -> None:
    pixels, valid = town(2, 3)
    end = WINDOW_PX + 2 * MARGIN_PX
    plain = load_bundle(bundle_path)
    path = bundle_path.with_name("contrast.safetensors")
    meta = dataclasses.replace(plain.meta, confidence="contrast")
    save_bundle(path, meta, plain.state_dict)
    for bundle, reach in ((cutting_path, REACH_PX), (path, 1)):
        segmenter = Segmenter.load(bundle, precision="fp32", batch_size=2)
        assert segmenter.reach_px == reach

        def rim(columns: slice, segmenter: Segmenter = segmenter) -> Rim:
            cores = segmenter.segment_cores(pixels[:, :, columns], valid[:, columns])
            cut = cut_cores(cores, floor=51, depth=26) if segmenter.reach_px > 1 else cores
            width = pixels[:, :, columns].shape[2] - 2 * MARGIN_PX
            return join_rims(cores, cut, (2 * WINDOW_PX, width), floor=51)

        whole, west, east = (rim(part) for part in np.s_[:, :end, WINDOW_PX:])
        for name in ("total", "count"):
            parts = [getattr(side, name) for side in (west, east)]
            np.testing.assert_array_equal(np.hstack(parts), getattr(whole, name))
    # Where every window says the same of a pixel, cores side by side are the whole.
    levels = np.random.default_rng(0).integers(0, 256, (18, 34)).astype(np.uint8)
    cores = [
        CoreProbability(PixelWindow(col, 0, 16, 16), levels[:, col : col + 18]) for col in (0, 16)
    ]
    found, wanted = join_rims(cores, cores, (16, 32), floor=128), find_rim(levels, levels >= 128)
    np.testing.assert_array_equal(found.total, wanted.total[1:-1, 1:-1])
    np.testing.assert_array_equal(found.count, wanted.count[1:-1, 1:-1])


def test_a_rim_without_a_margin_ends_at_the_core() -> None:
    levels = np.random.default_rng(1).integers(0, 256, (8, 16)).astype(np.uint8)
    cores = [CoreProbability(PixelWindow(col, 0, 8, 8), levels[:, col : col + 8]) for col in (0, 8)]
    assert cores[0].reach_px == 0
    found = join_rims(cores, cores, (8, 16), floor=128)
    for col in (0, 8):
        part = np.s_[:, col : col + 8]
        wanted = find_rim(levels[part], levels[part] >= 128)
        np.testing.assert_array_equal(found.total[part], wanted.total)
        np.testing.assert_array_equal(found.count[part], wanted.count)
    none = join_rims([], [], (8, 16), floor=128)
    assert none.total.shape == (8, 16)
    assert not none.count.any()


def test_without_a_margin(bundle_path: Path, cutting_path: Path) -> None:
    pixels = synthetic.draw_town(WINDOW_PX, WINDOW_PX).pixels
    valid = np.ones(pixels.shape[1:], bool)
    plain = Segmenter.load(bundle_path, precision="fp32", margin_px=0).segment(pixels, valid)
    found = cut(Segmenter.load(cutting_path, precision="fp32", margin_px=0), pixels, valid)
    np.testing.assert_array_equal(found, cut_valleys(plain, floor=51, depth=26))
    assert (found != plain).any()


def test_several_images_are_averaged_first() -> None:
    """Each image alone has its valley elsewhere; their mean has one, and is cut there."""
    core = PixelWindow(0, 0, 8, 8)
    one, two = np.full((2, 8, 8), 240, np.uint8)
    one[:, 3], two[:, 4] = 40, 40
    everywhere = np.ones((8, 8), bool)
    layers = [[(CoreProbability(core, values), everywhere)] for values in (one, two)]
    mean = mean_of_layers(layers)
    assert np.unique(join_cores(mean, (8, 8))).tolist() == [140, 240]
    found = join_cores(cut_cores(mean, floor=51, depth=89), (8, 8))
    assert ndimage.label(found >= 51)[1] == 2
    assert (found == 50).sum() == 8


def test_the_mean_counts_images_that_have_the_pixel() -> None:
    west, east = PixelWindow(0, 0, 2, 2), PixelWindow(2, 0, 2, 2)
    everywhere = np.ones((2, 2), bool)
    half = np.array([[True, False], [True, False]])
    layers = [
        [(CoreProbability(west, np.full((2, 2), 100, np.uint8)), everywhere)],
        [
            (CoreProbability(east, np.full((2, 2), 60, np.uint8)), everywhere),
            (CoreProbability(west, np.array([[201, 0], [201, 0]], np.uint8)), half),
        ],
    ]
    mean = mean_of_layers(layers)
    assert [part.core for part in mean] == [west, east]
    # 150.5 is rounded up.
    assert join_cores(mean, (2, 4)).tolist() == [[151, 100, 60, 60]] * 2


def test_what_a_bundle_may_say(bundle_path: Path) -> None:
    meta = load_bundle(bundle_path).meta
    assert meta.valley_depth == 0.0
    assert meta.valley_depth_uint8 == 0
    assert dataclasses.replace(meta, valley_depth=0.001).valley_depth_uint8 == 1
    assert dataclasses.replace(meta, valley_depth=0.35).valley_depth_uint8 == 89
    with pytest.raises(ValueError, match=r"valley_depth = 1.0; expected 0"):
        dataclasses.replace(meta, valley_depth=1.0)
