"""Crops of windows: they hold what is valid, fit the network, and change no bit."""

from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_bundles import save_random_unet

from geo.missing_ground import ValidBox
from geo.pixel_window import PixelWindow
from model.crops import pick_crop
from model.segment import Segmenter
from model.shipped import shipped_bundle_path
from model.unet import Architecture, NetworkConfig, register_architecture

META = {
    "mean": (0.45, 0.45, 0.45),
    "std": (0.25, 0.25, 0.25),
    "window_px": 256,
    "margin_px": 64,
}


@given(
    ends=st.tuples(*[st.integers(0, 1280)] * 4),
    stride_px=st.sampled_from([1, 8, 32]),
    least_px=st.sampled_from([1, 512, 2000]),
    side=st.sampled_from([32, 96, 512, 1280]),
)
def test_a_crop_holds_the_valid_pixels_and_fits(
    ends: tuple[int, int, int, int], stride_px: int, least_px: int, side: int
) -> None:
    row, row_end = sorted(end * side // 1281 for end in ends[:2])
    col, col_end = sorted(end * side // 1281 for end in ends[2:])
    box = ValidBox(row, row_end + 1, col, col_end + 1, 1)
    crop = pick_crop(box, side, stride_px=stride_px, least_px=least_px)
    assert 0 <= crop.row_off <= row
    assert row_end < crop.row_end <= side
    assert 0 <= crop.col_off <= col
    assert col_end < crop.col_end <= side
    for value in (crop.row_off, crop.col_off, crop.width, crop.height):
        assert value % stride_px == 0
    assert min(crop.width, crop.height) >= min(least_px, side)


def test_sides_have_five_sizes() -> None:
    crops = [
        pick_crop(ValidBox(0, end, 1280 - end, 1280, 1), 1280, stride_px=32, least_px=1)
        for end in range(1, 1281)
    ]
    assert {crop.height for crop in crops} == {256, 512, 768, 1024, 1280}
    assert {crop.width for crop in crops} == {256, 512, 768, 1024, 1280}
    assert crops[-1] == PixelWindow(0, 0, 1280, 1280)


def _edges(side: int, seed: int) -> np.ndarray:
    """Valid pixels of a window at an image's slanted edge, with specks."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:side, :side]
    first_row, first_col = rng.integers(0, side - 40, 2)
    height, width = rng.integers(40, side, 2)
    valid = (rows >= first_row) & (rows < first_row + height)
    valid &= (cols >= first_col) & (cols < first_col + width)
    valid &= rows + rng.uniform(-0.3, 0.3) * cols > first_row + 8
    return valid & (rng.random((side, side)) > 1e-3)


def _both(path: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> list[Segmenter]:
    """A segmenter that crops, and one that does not."""
    cropping = Segmenter.load(path, **options)
    with monkeypatch.context() as patch:
        patch.setattr(NetworkConfig, "is_local", property(lambda config: False))
        return [cropping, Segmenter.load(path, **options)]


@pytest.fixture(scope="module")
def lite_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = NetworkConfig(encoder="tu-tf_efficientnet_lite0", separation="border")
    path = tmp_path_factory.mktemp("crops") / "lite.safetensors"
    return save_random_unet(path, config, seed=5, **META)


@pytest.fixture(scope="module")
def resnet_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = NetworkConfig(encoder="resnet18", decoder_channels=(64, 32, 16, 8, 8))
    path = tmp_path_factory.mktemp("crops") / "resnet.safetensors"
    return save_random_unet(path, config, seed=3, **META)


def _count_shapes(segmenter: Segmenter) -> set[tuple[int, ...]]:
    shapes = set()
    for network in {segmenter._network._masked, segmenter._network._whole}:
        network.register_forward_pre_hook(lambda _, inputs: shapes.add(inputs[0].shape[2:]))
    return shapes


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lite_bundle", {"precision": "bf16"}),
        ("lite_bundle", {"precision": "bf16", "num_threads": 1}),
        ("lite_bundle", {"precision": "fp32", "window_px": 576}),
        ("resnet_bundle", {"precision": "bf16"}),
        ("resnet_bundle", {"precision": "bf16", "tta": "d4"}),
        ("colour_bundle", {"precision": "bf16"}),
        ("colour_bundle", {"precision": "fp32", "window_px": 576, "tta": "d4"}),
    ],
)
def test_a_crop_changes_no_bit(
    name: str,
    options: dict[str, object],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = request.getfixturevalue(name)
    options = {"window_px": 256, "margin_px": 64, **options}
    cropping, plain = _both(path, monkeypatch, **options)
    shapes = _count_shapes(cropping)
    side = cropping.window_px + 2 * cropping.margin_px
    pixels = synthetic.draw_town(side, side, seed=2).pixels
    has_buildings = False
    for seed in (1, 2, 3):
        valid = _edges(side, seed)
        found = cropping.segment(pixels, valid)
        np.testing.assert_array_equal(found, plain.segment(pixels, valid))
        has_buildings |= np.ptp(found) > 50
    assert has_buildings  # else the comparison says little
    assert any(shape != (side, side) for shape in shapes)


def test_the_shipped_network_is_cropped_and_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cropping, plain = _both(shipped_bundle_path(), monkeypatch, window_px=512, margin_px=64)
    shapes = _count_shapes(cropping)
    pixels = synthetic.draw_town(640, 640, seed=8).pixels
    for seed in (11, 12):
        valid = _edges(640, seed)
        ours, theirs = (s.segment_cores(pixels, valid) for s in (cropping, plain))
        assert [core.core for core in ours] == [core.core for core in theirs]
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(our.values, their.values)
    assert any(shape != (640, 640) for shape in shapes)


def test_windows_without_missing_ground_and_batches_are_not_cropped(resnet_bundle: Path) -> None:
    pixels, valid = synthetic.draw_town(384, 384).pixels, np.ones((384, 384), bool)
    single = Segmenter.load(resnet_bundle, precision="bf16")
    batches = Segmenter.load(resnet_bundle, precision="bf16", batch_size=2)
    shapes = [_count_shapes(single), _count_shapes(batches)]
    single.segment(pixels, valid)
    valid[:, 200:] = False
    np.testing.assert_array_equal(batches.segment(pixels, valid), single.segment(pixels, valid))
    assert shapes[0] == {(384, 384), (384, 288)}
    assert shapes[1] == {(384, 384)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"encoder": "tu-tf_efficientnet_lite0"}, True),
        ({"encoder": "efficientnet-b0"}, False),
        ({"decoder_attention": "scse"}, False),
        ({"decoder_interpolation": "bilinear"}, False),
        ({"architecture": "colour"}, True),
    ],
)
def test_what_looks_at_the_whole_image_is_not_local(
    changes: dict[str, str], expected: bool
) -> None:
    assert NetworkConfig(**changes).is_local is expected


def test_a_registered_network_is_not_local_unless_it_says_so() -> None:
    for is_local in (False, True):
        options = {"is_local": lambda config: True} if is_local else {}
        register_architecture(
            "flat", Architecture(lambda config: torch.nn.Identity(), lambda config: 1, **options)
        )
        assert NetworkConfig(architecture="flat").is_local is is_local


@pytest.mark.parametrize(
    "changes", [{"decoder_interpolation": "bilinear"}, {"decoder_attention": "scse"}]
)
def test_without_that_rule_bits_would_change(
    tmp_path: Path, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = NetworkConfig(encoder="resnet18", decoder_channels=(64, 64, 32, 32, 16), **changes)
    path = save_random_unet(tmp_path / "b.safetensors", config, seed=3, **META)
    pixels, valid = synthetic.draw_town(384, 384, seed=2).pixels, np.zeros((384, 384), bool)
    # Up to the crop's edges.
    valid[96:288, 96:288] = True
    plain = Segmenter.load(path, precision="bf16").segment(pixels, valid)
    monkeypatch.setattr(NetworkConfig, "is_local", property(lambda config: True))
    cropped = Segmenter.load(path, precision="bf16").segment(pixels, valid)
    assert not np.array_equal(plain, cropped)
