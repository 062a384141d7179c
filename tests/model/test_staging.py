"""Staged windows against normalising them step by step."""

import numpy as np
import pytest
import torch
from torch import Tensor

from geo.missing_ground import ValidBox
from geo.pixel_window import PixelWindow
from model.staging import DeviceStage, TableStage, normalise_levels

DTYPES = [torch.float32, torch.bfloat16]


def _affine(bands: int) -> tuple[Tensor, Tensor]:
    """Scale and shift of ImageNet's mean and deviation, the most crooked in use."""
    mean, std = np.array([0.485, 0.456, 0.406, 0.5][:bands]), np.array([0.229, 0.224, 0.225, 0.5])
    scale, shift = 1 / (255 * std[:bands]), -mean / std[:bands]
    return tuple(
        torch.from_numpy(values.astype(np.float32)).view(1, -1, 1, 1) for values in (scale, shift)
    )


def _windows(
    bands: int, side: int, shares: list[float], seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    large = rng.integers(0, 256, (len(shares), bands, side + 8, side + 8), dtype=np.uint8)
    return [
        (pixels[:, 3 : 3 + side, 5 : 5 + side], rng.random((side, side)) < share)
        for pixels, share in zip(large, shares, strict=True)
    ]


def _step_by_step(windows: list, size: int, dtype: torch.dtype) -> Tensor:
    """As the network was fed before there were tables."""
    bands, side = windows[0][0].shape[:2]
    levels = torch.zeros((size, bands, side, side), dtype=torch.uint8)
    mask = torch.zeros((size, 1, side, side), dtype=torch.bool)
    for index, (pixels, valid) in enumerate(windows):
        levels.numpy()[index], mask.numpy()[index, 0] = pixels, valid
    scale, shift = _affine(bands)
    images = levels.to(torch.float32).mul_(scale).add_(shift).masked_fill_(~mask, 0.0)
    return images.to(dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_byte_of_each_band_becomes_the_same_bits(dtype: torch.dtype) -> None:
    scale, shift = _affine(4)
    # Long rows, so that torch takes its vector path.
    levels = torch.arange(256, dtype=torch.uint8).repeat(33)[None, None, None].expand(1, 4, 5, -1)
    expected = levels.to(torch.float32).mul_(scale).add_(shift).to(dtype)
    table = normalise_levels(scale, shift, dtype)
    assert table.shape == (4, 256)
    assert torch.equal(table.repeat(1, 33), expected[0, :, 2])
    assert torch.equal(table.repeat(1, 33), expected[0, :, 4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("shares", [[1.0], [0.6], [1.0, 0.3], [0.0, 1.0, 0.9]])
def test_windows_have_the_bits_and_strides_of_the_steps(
    bands: int, shares: list[float], dtype: torch.dtype
) -> None:
    size = max(len(shares), 2) if len(shares) > 1 else 1
    windows = _windows(bands, 16, shares)
    stage = TableStage(*_affine(bands), dtype)
    stage.stage(_windows(bands, 16, [0.5] * len(shares), seed=1), size)  # leaves old values
    staged = stage.stage(windows, size)
    expected = _step_by_step(windows, size, dtype)
    assert torch.equal(staged.images, expected)
    assert staged.images.stride() == expected.stride()
    assert staged.part == PixelWindow(0, 0, 16, 16)
    if min(shares) == 1.0:
        assert staged.known is None
    else:
        assert staged.known is not None
        assert torch.equal(
            staged.known, torch.from_numpy(np.stack([v for _, v in windows]))[:, None]
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_images_beyond_the_windows_are_empty(dtype: torch.dtype) -> None:
    windows = _windows(3, 8, [1.0, 0.5])
    stage = TableStage(*_affine(3), dtype)
    stage.stage(_windows(3, 8, [1.0] * 4), 4)
    for staged in (
        stage.stage(windows, 4),
        DeviceStage(*_affine(3), dtype, torch.device("cpu")).stage(windows, 4),
    ):
        assert torch.equal(staged.images, _step_by_step(windows, 4, dtype))
        assert staged.known is not None
        assert staged.known.sum(dim=(1, 2, 3)).tolist() == [64, int(windows[1][1].sum()), 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_on_a_device_the_bits_are_the_same(share: float, dtype: torch.dtype) -> None:
    windows = _windows(3, 24, [share])
    staged = DeviceStage(*_affine(3), dtype, torch.device("cpu")).stage(windows, 1)
    assert torch.equal(staged.images, _step_by_step(windows, 1, dtype))
    assert (staged.known is None) == (share == 1.0)


def test_a_crop_shows_its_part_and_says_so() -> None:
    pixels = np.arange(3 * 32 * 32, dtype=np.int64).astype(np.uint8).reshape(3, 32, 32)
    valid = np.zeros((32, 32), bool)
    valid[9:14, 17:32] = True
    asked: list[ValidBox] = []

    def crop(box: ValidBox) -> PixelWindow:
        asked.append(box)
        return PixelWindow(16, 8, 16, 8)

    stage = TableStage(*_affine(3), torch.bfloat16, crop)
    staged = stage.stage([(pixels, valid)], 1)
    assert asked == [ValidBox(9, 14, 17, 32, 75)]
    assert staged.part == PixelWindow(16, 8, 16, 8)
    whole = _step_by_step([(pixels, valid)], 1, torch.bfloat16)
    assert torch.equal(staged.images, whole[:, :, 8:16, 16:32])
    assert staged.known is not None
    np.testing.assert_array_equal(staged.known[0, 0].numpy(), valid[8:16, 16:32])
    # Of a part that is all valid nothing needs to be masked.
    valid[8:16, 16:32] = True
    assert stage.stage([(pixels, valid)], 1).known is None
    # Windows of a batch are shown as they are.
    assert stage.stage([(pixels, valid)] * 2, 2).images.shape == (2, 3, 32, 32)
