"""Windows of a tile as a network takes them: normalised, where it runs, missing ground at 0."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geo.level_kernels import look_up_levels
from geo.missing_ground import ValidBox, find_valid_box
from geo.pixel_window import PixelWindow
from model.masking import masks_nothing

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
Window = tuple[UInt8Array, BoolArray]
"""Pixels, uint8, shape (bands, side, side), and which of them are valid, bool, (side, side)."""

_BITS = {2: (torch.int16, np.uint16), 4: (torch.int32, np.uint32)}
"""By bytes of a number: an integer that torch can see it as, and the one of the kernel."""


@dataclass(frozen=True, slots=True)
class StagedWindows:
    """A batch of windows.

    Attributes:
        images: normalised, shape (N, bands, h, w).
        known: bool, shape (N, 1, h, w), which pixels are valid; None where all are.
        part: the part of the windows that the images show; beyond it no pixel is valid.
    """

    images: Tensor
    known: Tensor | None
    part: PixelWindow


class TableStage:
    """Stages windows on the CPU, into memory that it keeps.

    A byte has 256 values, so what normalising makes of it is looked up: one pass from the tile's
    bytes to the network's memory instead of five (copy, to float32, times, plus, to bf16, channels
    last).

    Not for several threads at once; and what `stage` gave is overwritten by the next `stage`.

    Args:
        scale: of each band, float32, shape (1, bands, 1, 1): a byte becomes level * scale + shift.
        shift: likewise.
        dtype: number type of the network, of two or four bytes.
        crop: the part of a window to show, of the box of its valid pixels; asked where a batch is
            one window.
    """

    def __init__(
        self,
        scale: Tensor,
        shift: Tensor,
        dtype: torch.dtype,
        crop: Callable[[ValidBox], PixelWindow] | None = None,
    ) -> None:
        self._dtype = dtype
        self._tables = _bits(normalise_levels(scale, shift, dtype))
        self._crop = crop
        self._memory = torch.empty(0, dtype=dtype)

    def stage(self, windows: Sequence[Window], size: int) -> StagedWindows:
        """Normalise windows; images are channels last.

        Args:
            windows: at least one.
            size: number of images made; those beyond the windows are all 0.
        """
        boxes = [find_valid_box(valid) for _, valid in windows]
        side = len(windows[0][1])
        part = PixelWindow(0, 0, side, side)
        if self._crop is not None and size == 1:
            part = self._crop(boxes[0])
        rows, cols = part.within(PixelWindow(0, 0, side, side))
        windows = [(pixels[:, rows, cols], valid[rows, cols]) for pixels, valid in windows]
        is_whole = all(box.num_valid == part.height * part.width for box in boxes)
        known = None
        if not is_whole:
            known = torch.zeros((size, 1, part.height, part.width), dtype=torch.bool)
            for index, (_, valid) in enumerate(windows):
                known.numpy()[index, 0] = valid
        return StagedWindows(self._fill(windows, size), known, part)

    def _fill(self, windows: Sequence[Window], size: int) -> Tensor:
        bands, height, width = windows[0][0].shape
        length = size * height * width * bands
        if len(self._memory) < length:
            self._memory = torch.empty(length, dtype=self._dtype)
        images = self._memory[:length].view(size, height, width, bands)
        bits = _bits(images)
        for index, (pixels, valid) in enumerate(windows):
            look_up_levels(pixels, valid, self._tables, bits[index])
        images[len(windows) :].zero_()
        if bands == 1:
            # One band first or last is the same memory, but torch goes by the strides.
            return images.view(size, 1, height, width)
        return images.permute(0, 3, 1, 2)


class DeviceStage:
    """Stages windows by sending bytes to a device, which normalises them.

    On CUDA the copies start from pinned memory and nothing waits for them; torch keeps that memory
    until they are done.

    Args:
        scale: as `TableStage` takes it.
        shift: likewise.
        dtype: number type of the images.
        device: where the network runs.
    """

    def __init__(
        self, scale: Tensor, shift: Tensor, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._scale, self._shift = scale.to(device), shift.to(device)
        self._dtype, self._device = dtype, device

    def stage(self, windows: Sequence[Window], size: int) -> StagedWindows:
        """Send and normalise windows.

        Args:
            windows: at least one.
            size: number of images made; those beyond the windows are all 0.
        """
        is_cuda = self._device.type == "cuda"
        (bands, height, width), num = windows[0][0].shape, len(windows)
        levels = torch.empty((size, bands, height, width), dtype=torch.uint8, pin_memory=is_cuda)
        mask = torch.empty((size, 1, height, width), dtype=torch.bool, pin_memory=is_cuda)
        for index, (pixels, valid) in enumerate(windows):
            levels.numpy()[index] = pixels
            mask.numpy()[index, 0] = valid
        levels[num:].zero_()
        mask[num:].zero_()
        known = None
        if not masks_nothing(mask[:num]):
            known = mask.to(self._device, non_blocking=is_cuda)
        images = levels.to(self._device, non_blocking=is_cuda)
        images = images.to(torch.float32).mul_(self._scale).add_(self._shift)
        if known is not None:
            # The mean colour is 0 after normalising.
            images.masked_fill_(~known, 0.0)
        part = PixelWindow(0, 0, width, height)
        return StagedWindows(images.to(self._dtype), known, part)


def normalise_levels(scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """What each byte of each band becomes, shape (bands, 256).

    Args:
        scale: as `TableStage` takes it.
        shift: likewise.
        dtype: number type of the network.
    """
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256)
    return (levels.to(torch.float32) * scale + shift).to(dtype)[0, :, 0].contiguous()


def _bits(values: Tensor) -> npt.NDArray[np.uint16] | npt.NDArray[np.uint32]:
    """The same memory as integers of numpy, which knows no bf16."""
    torch_type, numpy_type = _BITS[values.element_size()]
    bits: npt.NDArray[np.uint16] | npt.NDArray[np.uint32] = (
        values.view(torch_type).numpy().view(numpy_type)
    )
    return bits
