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

from collections.abc import Iterator
from contextlib import contextmanager

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


class LayerMasking:
    """Masks the inputs of a network's spatial layers while `using` a mask; else does nothing.

    Inputs may be masked in place, so a layer beside a masked one may see the zeros too.

    Args:
        network: gets hooks; every spatial layer must see an image whose sides are those of the
            input divided by the same whole number. Others are left alone.
    """

    def __init__(self, network: nn.Module) -> None:
        self._by_factor: dict[int, Tensor] = {}
        self._known: dict[int, list[BoolArray]] = {}
        self._runs: dict[int, list[Int32Array]] = {}
        self._mask: Tensor | None = None
        for module in network.modules():
            if isinstance(module, _SPATIAL_LAYERS):
                module.register_forward_pre_hook(self._mask_input)

    @contextmanager
    def using(self, mask: Tensor | None) -> Iterator[None]:
        """Mask all inputs in the block.

        Args:
            mask: bool, shape (N, 1, H, W), False where nothing is known; None masks nothing.
        """
        self._mask = mask
        try:
            yield
        finally:
            self._mask = None
            self._by_factor.clear()
            self._known.clear()
            self._runs.clear()

    def _mask_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        image = inputs[0]
        factor = self._factor_of(image)
        if factor is None:
            return inputs
        if _is_eager_on_cpu(image) and zero_missing(image, self._runs_at(factor)):
            return inputs
        return (image * self._mask_at(factor, image.dtype), *inputs[1:])

    def _factor_of(self, image: Tensor) -> int | None:
        """How many pixels of the mask are one of the image; None if it is not to be masked."""
        if self._mask is None:
            return None
        height, width = self._mask.shape[2:]
        factor: int = height // image.shape[2]
        fits = (image.shape[2] * factor, image.shape[3] * factor) == (height, width)
        return factor if fits else None

    def _runs_at(self, factor: int) -> list[Int32Array]:
        """Runs of missing ground at a factor, for each image of the batch."""
        if factor not in self._runs:
            self._runs[factor] = [find_missing_runs(known) for known in self._known_at(factor)]
        return self._runs[factor]

    def _known_at(self, factor: int) -> list[BoolArray]:
        """Whether any pixel under a pixel of the image is valid, for each image of the batch."""
        assert self._mask is not None
        if not self._known:
            self._known[1] = list(self._mask[:, 0].contiguous().numpy())
        if factor not in self._known:
            # From the coarsest that will do, which is the shortest way.
            base = max(other for other in self._known if factor % other == 0)
            finer = self._known[base]
            self._known[factor] = [known_blocks(known, factor // base) for known in finer]
        return self._known[factor]

    def _mask_at(self, factor: int, dtype: torch.dtype) -> Tensor:
        """1 where any pixel under a pixel of the image is valid, in the image's dtype."""
        assert self._mask is not None
        if factor not in self._by_factor:
            full = self._mask.to(dtype)
            self._by_factor[factor] = full if factor == 1 else functional.max_pool2d(full, factor)
        return self._by_factor[factor]


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
