from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from random_bundles import save_random_unet

from model.bundle import load_bundle
from model.colour_bundle import save_colour_bundle
from model.errors import SegmentError
from model.export import export_bundle
from model.segment import Segmenter
from model.segment_config import SegmentConfig
from model.unet import NetworkConfig

ROOF = (200, 40, 40)
WINDOW_PX, MARGIN_PX = 96, 16


@pytest.fixture(scope="module")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that finds the colour of roofs, at any resolution."""
    path = tmp_path_factory.mktemp("bundles") / "colour.safetensors"
    return save_colour_bundle(path, roof_colours=[ROOF], window_px=WINDOW_PX, margin_px=MARGIN_PX)


def _ground(num_rows: int, num_cols: int) -> tuple[np.ndarray, np.ndarray]:
    """Green ground with its margin, all valid."""
    height, width = (n * WINDOW_PX + 2 * MARGIN_PX for n in (num_rows, num_cols))
    pixels = np.empty((3, height, width), np.uint8)
    pixels[:] = np.array((40, 90, 30), np.uint8)[:, None, None]
    return pixels, np.ones((height, width), bool)


def _put_roof(pixels: np.ndarray, row: int, col: int, side: int = 10) -> None:
    """A roof whose corner is a pixel of the tile without its margin."""
    rows = slice(row + MARGIN_PX, row + MARGIN_PX + side)
    cols = slice(col + MARGIN_PX, col + MARGIN_PX + side)
    pixels[:, rows, cols] = np.array(ROOF, np.uint8)[:, None, None]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_windows_with_a_building_are_looked_at_again(
    colour_bundle: Path, precision: str
) -> None:
    pixels, valid = _ground(2, 3)
    _put_roof(pixels, 20, 30)
    _put_roof(pixels, WINDOW_PX + 50, 2 * WINDOW_PX + 40)
    options = {"device": "cpu", "precision": precision}
    whole = Segmenter.load(colour_bundle, **options)
    segmenter = Segmenter.load(colour_bundle, **options, first_look=0.3)
    cores = segmenter.segment_cores(pixels, valid)
    assert [(each.core.row_off, each.core.col_off) for each in cores] == [
        (0, 0),
        (WINDOW_PX, 2 * WINDOW_PX),
    ]
    stats = segmenter.stats
    assert (stats.num_windows, stats.num_left_out, stats.num_skipped) == (2, 4, 0)
    expected = whole.segment(pixels, valid)
    assert expected.max() > 200
    found = segmenter.segment(pixels, valid)
    for each in cores:
        rows, cols = (
            slice(first, first + WINDOW_PX) for first in (each.core.row_off, each.core.col_off)
        )
        np.testing.assert_array_equal(found[rows, cols], expected[rows, cols])
        expected[rows, cols] = found[rows, cols] = 0
    assert found.max() == 0
    assert expected.max() < 10


def test_empty_ground_is_left_out_whole(colour_bundle: Path) -> None:
    segmenter = Segmenter.load(colour_bundle, device="cpu", first_look=0.3)
    assert segmenter.segment_cores(*_ground(2, 2)) == []
    assert (segmenter.stats.num_windows, segmenter.stats.num_left_out) == (0, 4)


def test_what_lies_in_the_margin_only_is_its_neighbours(colour_bundle: Path) -> None:
    pixels, valid = _ground(1, 2)
    # In the outer half of the first window's margin.
    _put_roof(pixels, 40, WINDOW_PX + MARGIN_PX // 2 + 1, side=6)
    segmenter = Segmenter.load(colour_bundle, device="cpu", first_look=0.3)
    (only,) = segmenter.segment_cores(pixels, valid)
    assert only.core.col_off == WINDOW_PX


@pytest.mark.parametrize("beyond_px", [0, 1, 4])
def test_a_building_at_a_cores_edge_is_seen_from_both_sides(
    colour_bundle: Path, beyond_px: int
) -> None:
    """Or it would lose what little of it lies in the other core."""
    pixels, valid = _ground(1, 2)
    _put_roof(pixels, 40, WINDOW_PX - 10 + beyond_px, side=10)
    segmenter = Segmenter.load(colour_bundle, device="cpu", first_look=0.3)
    assert len(segmenter.segment_cores(pixels, valid)) == 2


def test_missing_ground_is_not_looked_at(colour_bundle: Path) -> None:
    """What lies under pixels that are not valid neither keeps a window nor hides a roof."""
    pixels, valid = _ground(1, 2)
    _put_roof(pixels, 10, 10)
    valid[: MARGIN_PX + 40, : MARGIN_PX + 40] = False
    _put_roof(pixels, 60, WINDOW_PX + 60)
    valid[:, MARGIN_PX + WINDOW_PX + 75 :] = False
    segmenter = Segmenter.load(colour_bundle, device="cpu", first_look=0.3)
    (only,) = segmenter.segment_cores(pixels, valid)
    assert only.core.col_off == WINDOW_PX


def test_a_low_level_looks_at_everything_and_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With a U-Net, streams, batches, missing ground and crops."""
    path = save_random_unet(
        tmp_path_factory.mktemp("bundles") / "unet.safetensors",
        NetworkConfig(encoder="resnet18", decoder_channels=(64, 32, 16, 8, 8)),
        seed=3,
        sample_px=256,
        mean=(0.4, 0.45, 0.5),
        std=(0.2, 0.25, 0.3),
        window_px=128,
        margin_px=32,
    )
    pixels = synthetic.draw_town(320, 448).pixels
    valid = np.ones((320, 448), bool)
    valid[150:, 300:] = False
    options = {"device": "cpu", "precision": "bf16", "num_threads": 2}
    expected = Segmenter.load(path, **options).segment(pixels, valid)
    for batch_size in (1, 3):
        segmenter = Segmenter.load(path, **options, batch_size=batch_size, first_look=0.01)
        np.testing.assert_array_equal(segmenter.segment(pixels, valid), expected)
        assert segmenter.stats.num_left_out == 0


def test_the_fingerprint_has_it_only_where_there_is_one(colour_bundle: Path) -> None:
    without = Segmenter.load(colour_bundle, device="cpu").fingerprint
    with_it = Segmenter.load(colour_bundle, device="cpu", first_look=0.3).fingerprint
    assert "first_look" not in without
    assert with_it == {**without, "first_look": 0.3}


def test_the_look_alone(colour_bundle: Path) -> None:
    pixels, valid = _ground(1, 2)
    _put_roof(pixels, 40, 30)
    highest = Segmenter.load(colour_bundle, device="cpu", first_look=0.3).look(pixels, valid)
    assert [core.col_off for core in highest] == [0, WINDOW_PX]
    with_roof, without = highest.values()
    assert with_roof > 200
    assert without < 10
    with pytest.raises(ValueError, match="first_look is None"):
        Segmenter.load(colour_bundle, device="cpu").look(pixels, valid)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 20.0])
def test_levels_that_are_none(level: float) -> None:
    with pytest.raises(ValueError, match=f"first_look = {level}; expected a probability between"):
        SegmentConfig(first_look=level)


def test_networks_and_windows_that_do_not_allow_it(colour_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match=r"two sizes: a bundle \(no exported file\), without"):
        Segmenter.load(colour_bundle, device="cpu", first_look=0.2, compile=True)
    exported = export_bundle(load_bundle(colour_bundle), tmp_path / "colour.pt2", "pt2")
    assert exported.num_pixels > 0
    with pytest.raises(SegmentError, match=r"a bundle \(no exported file\)"):
        Segmenter.load(tmp_path / "colour.pt2", device="cpu", first_look=0.2)
    odd = save_random_unet(
        tmp_path / "odd.safetensors",
        NetworkConfig(encoder="resnet18", decoder_channels=(64, 32, 16, 8, 8)),
        seed=0,
        sample_px=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        window_px=96,
        margin_px=32,
    )
    with pytest.raises(SegmentError, match=r"are 160 px; .* multiple of 64, such as 128"):
        Segmenter.load(odd, device="cpu", first_look=0.2)


def test_float32_is_thread_free_only_where_the_shrunk_window_is(colour_bundle: Path) -> None:
    options = {"device": "cpu", "precision": "fp32", "num_threads": 2, "window_px": 1280}
    assert Segmenter.load(colour_bundle, **options).fingerprint["num_threads"] != 2
    looked = Segmenter.load(colour_bundle, **options, first_look=0.3)
    assert looked.fingerprint["num_threads"] == 2
    assert looked.stats.num_streams == 1
    assert torch.get_num_threads() == 2
