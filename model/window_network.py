"""A bundle's network made ready for windows of one size: folded, fused, trimmed, masked.

Windows on whole ground take the fast way: few, large layers (`model.fusing`), and no more of the
decoder than reaches the pixels that are looked at. Where ground is missing every layer's input has
to be masked (`model.masking`), doubled images among them, so there the doubling stays apart.
"""

import copy
import logging
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from model.devices import DTYPES
from model.folding import fold_batch_norms
from model.fused_layers import cast_layers, take_apart
from model.fusing import fuse_doubling, fuse_layers, trim_decoder
from model.layer_graph import TRACE_ERRORS, trace_layers
from model.masking import LayerMasking

logger = logging.getLogger(__name__)

Kind = Literal["eager", "compiled", "fused", "trimmed"]
Slices = tuple[slice, slice]
"""Rows and columns."""

_MAX_DIFFERENCE, _MAX_DIFFERENCE_FP32_CPU = 0.1, 1e-3
"""Mean difference of logits that a fused network may show, over their mean size: on noise it is
some 0.02 in bfloat16 and 1e-5 in float32, and about 1 where a layer is wrong. A GPU may compute
float32 with fewer bits."""
_CHECK_STRIDES = 2
"""Side of what is looked at when a network is tried, at least, in strides of the network."""


class WindowNetwork:
    """Logits of what is looked at of windows.

    Args:
        network: in evaluation mode, float32, on the CPU; its layers may be used.
        device: where to run it.
        precision: `bf16`, `fp16` or `fp32`.
        spare_px: pixels at each side of a window's logits that nobody looks at.
        stride_px: the sides of a window are a multiple of this.
        num_bands: channels of a window.
        has_compile: use torch.compile.

    Attributes:
        kind: how it is run; bits depend on it.
        num_folded: batch normalisations that went into convolutions.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device,
        precision: str,
        spare_px: int,
        stride_px: int,
        num_bands: int,
        has_compile: bool = False,
    ) -> None:
        self._dtype, self._spare_px, self._missing_px = DTYPES[precision], spare_px, 0
        self._stride_px, self._num_bands = stride_px, num_bands
        plain, self.num_folded = fold_batch_norms(network)
        # A copy, since the graphs below are made of the weights in float32.
        folded = self._ready(copy.deepcopy(plain), device)
        self.kind: Kind = "compiled" if has_compile else "eager"
        self._masked = self._whole = folded
        if not has_compile:
            self._fuse(plain, device)
        self._masking = LayerMasking(self._masked)
        if has_compile:
            compiled: Any = torch.compile(folded, dynamic=False)
            self._masked = self._whole = compiled

    def _fuse(self, plain: nn.Module, device: torch.device) -> None:
        """Take the fastest way that gives what the plain network gives."""
        small = torch.zeros(1, self._num_bands, 2 * self._stride_px, 2 * self._stride_px)
        # Without oneDNN's primitives the decoder can be trimmed all the same.
        ways: tuple[Kind, ...] = ("fused", "trimmed") if device.type == "cpu" else ("trimmed",)
        for way in ways:
            found = _fused_graphs(plain, small, self._spare_px, is_apart=way == "trimmed")
            if found is None:
                continue
            masked, graph, missing_px = found
            whole = self._ready(graph, device)
            if self._is_like(self._masked, whole, missing_px):
                self._masked, self._whole = self._ready(masked, device), whole
                self._missing_px, self.kind = missing_px, way
                return

    def _ready(self, network: nn.Module, device: torch.device) -> nn.Module:
        """A network on its device, in its number type."""
        network = network.to(device=device)
        cast_layers(network, self._dtype)
        return network

    def __call__(self, images: Tensor, known: Tensor | None, seen: Slices) -> Tensor:
        """Logits (N, channels, rows, columns) of what is looked at of windows.

        Args:
            images: normalised, on the device, shape (N, bands, h, w); cast if need be.
            known: bool, shape (N, 1, h, w), False where ground is missing; None: nowhere.
            seen: the rows and columns that are looked at.
        """
        images = images.to(self._dtype).contiguous(memory_format=torch.channels_last)
        if known is None and self._is_inner(images, seen):
            return self._whole(images)[:, :, *(_moved(part, self._missing_px) for part in seen)]
        with self._masking.using(known):
            return self._masked(images)[:, :, *seen]

    def _is_inner(self, images: Tensor, seen: Slices) -> bool:
        """Whether what is looked at lies as far from the sides as the trimmed decoder needs."""
        return all(
            part.start is not None and min(part.start, side - part.stop) >= self._spare_px
            for part, side in zip(seen, images.shape[2:], strict=True)
        )

    def _is_like(self, folded: nn.Module, whole: nn.Module, missing_px: int) -> bool:
        """Whether the graph says what the plain network says, here and now."""
        strides = 2 * self._spare_px // self._stride_px + 1 + _CHECK_STRIDES
        shape = (1, self._num_bands, strides * self._stride_px, strides * self._stride_px)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        parameter = next(folded.parameters())
        images = noise.to(parameter.device, self._dtype).contiguous(
            memory_format=torch.channels_last
        )
        is_exact = self._dtype == torch.float32 and parameter.device.type == "cpu"
        limit = _MAX_DIFFERENCE_FP32_CPU if is_exact else _MAX_DIFFERENCE
        try:
            with torch.inference_mode():
                wanted = _inner(folded(images), self._spare_px).float()
                found = _inner(whole(images), self._spare_px - missing_px)
                size = wanted.abs().mean().clamp(min=1e-6)
                difference = float((found - wanted).abs().mean() / size)
        except (RuntimeError, AttributeError, TypeError) as error:
            logger.info("layers stay apart, this torch has no fused ones: %s", error)
            return False
        if not difference <= limit:
            logger.warning("layers stay apart: fused ones differ by %.2g", difference)
        return difference <= limit


def _fused_graphs(
    folded: nn.Module, small: Tensor, spare_px: int, *, is_apart: bool
) -> tuple[fx.GraphModule, fx.GraphModule, int] | None:
    """The graphs for windows with missing ground and for whole ones, and what the latter omits."""
    try:
        graph = folded if isinstance(folded, fx.GraphModule) else trace_layers(folded)
        masked = fuse_layers(graph, small)
        if is_apart:
            take_apart(masked)
        whole = fuse_doubling(masked, small)
        if is_apart:
            take_apart(whole)
        return masked, whole, trim_decoder(whole, spare_px)
    except (*TRACE_ERRORS, AttributeError, KeyError) as error:
        logger.info("layers stay apart, the network cannot be run as a graph: %s", error)
        return None


def _moved(part: slice, by_px: int) -> slice:
    return slice(part.start - by_px, part.stop - by_px)


def _inner(logits: Tensor, spare_px: int) -> Tensor:
    end = logits.shape[2] - spare_px
    return logits[:, :, spare_px:end, spare_px:end]
