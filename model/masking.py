"""Ground without a valid pixel contributes nothing to any layer, as if the image ended there.

A convolution pads the edge of its input with zeros, and that is what a network saw around the chips
it learned from. Ground that is missing inside a window (beyond an image, in a hole) starts as zeros
too, but the first bias and normalisation make a texture of it, which later layers take for
something. Setting each layer's input to zero there makes a hole the same as an edge. With the seed
checkpoint, AP50 of small scenes, all of whose windows reach beyond the image, rises by 0.02 to
0.03 (kampala_a .68 to .70, nacala .385 to .41, means over 12 pixel phases of the whole scene).

On a CPU only the runs of missing ground are written (`geo.missing_ground`), in place: a product
with the whole mask, forty times a forward pass, cost half as much as the network itself, and
products with the rectangles that hold missing ground still a fifth.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from geo.missing_ground import (
    BoolArray,
    Int32Array,
    find_missing_runs,
    known_blocks,
    zero_runs,
)
from model.fused_layers import FusedConv

# All that look beyond a single pixel of their input.
_SPATIAL_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, FusedConv)


@dataclass
class _Mask:
    """A mask, and what layers need of it, made when the first of them asks.

    Attributes:
        mask: bool, shape (N, 1, H, W).
        by_factor: 1 where a pixel under one of an image has a value, by how much smaller that is.
        known: the same as arrays, one for each image of the batch.
        runs: missing ground of each image, likewise.
    """

    mask: Tensor
    by_factor: dict[int, Tensor] = field(default_factory=dict)
    known: dict[int, list[BoolArray]] = field(default_factory=dict)
    runs: dict[int, list[Int32Array]] = field(default_factory=dict)

    def factor_of(self, image: Tensor) -> int | None:
        """How many pixels of the mask are one of the image; None if it is not to be masked."""
        height, width = self.mask.shape[2:]
        factor: int = height // image.shape[2]
        fits = (image.shape[2] * factor, image.shape[3] * factor) == (height, width)
        return factor if fits else None

    def runs_at(self, factor: int) -> list[Int32Array]:
        """Runs of missing ground at a factor, for each image of the batch."""
        if factor not in self.runs:
            self.runs[factor] = [find_missing_runs(known) for known in self._known_at(factor)]
        return self.runs[factor]

    def mask_at(self, factor: int, dtype: torch.dtype) -> Tensor:
        """1 where any pixel under a pixel of the image is valid, in the image's dtype."""
        if factor not in self.by_factor:
            full = self.mask.to(dtype)
            self.by_factor[factor] = full if factor == 1 else functional.max_pool2d(full, factor)
        return self.by_factor[factor]

    def _known_at(self, factor: int) -> list[BoolArray]:
        """Whether any pixel under a pixel of the image is valid, for each image of the batch."""
        if not self.known:
            self.known[1] = list(self.mask[:, 0].contiguous().numpy())
        if factor not in self.known:
            # From the coarsest that will do, which is the shortest way.
            base = max(other for other in self.known if factor % other == 0)
            finer = self.known[base]
            self.known[factor] = [known_blocks(known, factor // base) for known in finer]
        return self.known[factor]


class LayerMasking:
    """Masks the inputs of a network's spatial layers while `using` a mask; else does nothing.

    Inputs may be masked in place, so a layer beside a masked one may see the zeros too. Threads may
    use masks of their own at the same time.

    Args:
        network: gets hooks; every spatial layer must see an image whose sides are those of the
            input divided by the same whole number. Others are left alone.
    """

    def __init__(self, network: nn.Module) -> None:
        self._of_thread = threading.local()
        for module in network.modules():
            if isinstance(module, _SPATIAL_LAYERS):
                module.register_forward_pre_hook(self._mask_input)

    @contextmanager
    def using(self, mask: Tensor | None) -> Iterator[None]:
        """Mask all inputs in the block, in this thread.

        Args:
            mask: bool, shape (N, 1, H, W), False where nothing is known; None masks nothing.
        """
        self._of_thread.mask = None if mask is None else _Mask(mask)
        try:
            yield
        finally:
            self._of_thread.mask = None

    def _mask_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        mask: _Mask | None = getattr(self._of_thread, "mask", None)
        image = inputs[0]
        factor = None if mask is None else mask.factor_of(image)
        if mask is None or factor is None:
            return inputs
        if _is_eager_on_cpu(image) and zero_missing(image, mask.runs_at(factor)):
            return inputs
        return (image * mask.mask_at(factor, image.dtype), *inputs[1:])


def zero_missing(images: Tensor, runs: list[Int32Array]) -> bool:
    """Set missing ground to zero, in place.

    Args:
        images: shape (N, C, H, W), on the CPU.
        runs: missing ground of each image, see `geo.missing_ground.find_missing_runs`.

    Returns:
        Whether that was done; False where the images lie in memory otherwise than channels last or
        channels first without gaps, and then nothing was.
    """
    num, channels, height, width = images.shape
    if images.is_contiguous():
        pixel_bytes, flat = images.element_size(), images.reshape(-1)
    elif images.is_contiguous(memory_format=torch.channels_last):
        pixel_bytes, flat = channels * images.element_size(), images.permute(0, 2, 3, 1).reshape(-1)
    else:
        return False
    # Of memory without gaps `reshape` is a view.
    rows = flat.detach().view(torch.uint8).view(num, -1, height, width * pixel_bytes).numpy()
    for image, missing in zip(rows, runs, strict=True):
        if len(missing):
            zero_runs(image, missing, pixel_bytes)
    return True


def masks_nothing(mask: Tensor) -> bool:
    """Whether every pixel of a mask is valid; waits for the device, so ask on the CPU."""
    return bool(torch.all(mask))


def _is_eager_on_cpu(image: Tensor) -> bool:
    """Whether the mask's values may be looked at: not in a trace, and not across a bus."""
    return image.device.type == "cpu" and not torch.compiler.is_compiling()
