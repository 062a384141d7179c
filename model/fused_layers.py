"""Layers of a network at work: a convolution with what follows it in one step.

On a CPU a step is one primitive of oneDNN, so that the result of a convolution goes to memory once
instead of once for every operation on it. torch has these primitives for its own compiler
(`torch.ops.mkldnn`, see torch/_inductor/mkldnn_ir.py) and promises nothing about them, so
`model.window_network` tries them before it relies on them. Elsewhere (`take_apart`) the same layers
take the ordinary way.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Scalars = tuple[float, ...]


@dataclass(frozen=True)
class Activation:
    """What follows a convolution.

    Attributes:
        name: oneDNN's name of it, as torch spells it.
        scalars: its numbers.
        module: the layer itself; None: nothing follows.
    """

    name: str = "none"
    scalars: Scalars = ()
    module: nn.Module | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """The activation alone."""
        return image if self.module is None else self.module(image)


def activation_of(module: nn.Module | None) -> Activation | None:
    """A layer as an activation that a convolution can take along; None if it is none."""
    if isinstance(module, nn.ReLU):
        return Activation("relu", (), module)
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one.
        return Activation("hardtanh", (float(module.min_val), float(module.max_val)), module)
    if isinstance(module, nn.SiLU):
        return Activation("swish", (), module)
    if isinstance(module, nn.Hardswish):
        return Activation("hardswish", (), module)
    return None


class FusedConv(nn.Module):
    """A convolution, then maybe an image added to it, then maybe an activation.

    Args:
        weight: shape (channels out, channels in / groups, height, width).
        bias: shape (channels out,).
        stride: as `torch.nn.functional.conv2d` takes it, likewise the others.
        padding: zeros above and below, left and right.
        dilation: likewise.
        groups: likewise.
        activation: what follows.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        *,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups, self.activation = groups, activation
        self.is_apart = False

    def forward(self, image: Tensor, added: Tensor | None = None) -> Tensor:
        """Image (N, channels out, height, width) of an image and maybe one to add."""
        shape = (self.padding, self.stride, self.dilation, self.groups)
        if self.is_apart:
            result = functional.conv2d(
                image, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
            return self.activation(result if added is None else result.add_(added))
        name, scalars = self.activation.name, list(self.activation.scalars)
        if added is None:
            fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
                image, self.weight, self.bias, *shape, name, scalars, ""
            )
            return fused
        # The primitive that adds as well takes no bias in float32, and these images are small.
        result = torch.ops.mkldnn._convolution_pointwise(
            image, self.weight, self.bias, *shape, "none", [], ""
        )
        return self.activation(result.add_(added))

    def cast(self, dtype: torch.dtype) -> None:
        """Take another number type; oneDNN adds the bias in float32 before it rounds.

        A bias rounded to bfloat16 makes as large an error as all of the weights together.
        """
        self.weight.data = _cast_kernel(self.weight.data, dtype)
        self.bias.data = self.bias.data.to(dtype if self.is_apart else torch.float32)

    @property
    def same_reach_px(self) -> int | None:
        """How far a pixel of the result looks, where it lies on the pixels of the image.

        None for a convolution that moves, shrinks or thins the image.
        """
        sides = self.weight.shape[2:]
        reach = sides[0] // 2
        is_same = (
            sides[0] == sides[1] == 2 * reach + 1
            and self.padding == (reach, reach)
            and self.stride == (1, 1)
            and self.dilation == (1, 1)
        )
        return reach if is_same else None


class UpConv(nn.Module):
    """A step of a decoder: an image doubled, another beside it, a 3 x 3 convolution over both.

    Doubling repeats each pixel, so of the nine pixels that a pixel of the result looks at only four
    are different ones, and which weights fall together depends on whether its row and column are
    even or odd. So the doubled image is never made: a 2 x 2 convolution of the small one gives the
    four pixels of a square as channels, with 4/9 of the products, and they are put in their places
    in one pass. The other image's part is added in place.

    (A transposed convolution with a 4 x 4 kernel is the same and as fast, but oneDNN's bits then
    depend on the number of threads.)

    Args:
        conv: the convolution, 3 x 3; its first channels see the doubled image.
        num_beside: channels of the image beside, 0 without one.

    Attributes:
        crop_px: cut off all sides of the image first.
        beside_crop_px: cut off all sides of the other one.
        border_px: 1 to leave on a border of one pixel that is wrong; 0 to leave it away.
        is_apart: take the ordinary way, doubling first.
    """

    def __init__(self, conv: FusedConv, num_beside: int) -> None:
        super().__init__()
        self.conv = conv
        self.crop_px = self.beside_crop_px = self.border_px = 0
        self.is_apart = False
        num_up = conv.weight.shape[1] - num_beside
        self.up_weight = nn.Parameter(phase_kernels(conv.weight[:, :num_up]), requires_grad=False)
        self.up_bias = nn.Parameter(conv.bias.detach().repeat(4), requires_grad=False)
        self.beside_weight: nn.Parameter | None = None
        if num_beside:
            beside = conv.weight[:, num_up:].detach().clone()
            self.beside_weight = nn.Parameter(beside, requires_grad=False)

    def forward(self, image: Tensor, beside: Tensor | None = None) -> Tensor:
        """Image (N, channels out, 2 h, 2 w) of (N, channels, h, w) and (N, others, 2 h, 2 w)."""
        image = _cropped(image, self.crop_px)
        beside = None if beside is None else _cropped(beside, self.beside_crop_px)
        if self.is_apart:
            doubled = functional.interpolate(image, scale_factor=2.0, mode="nearest")
            both = doubled if beside is None else torch.cat([doubled, beside], dim=1)
            result: Tensor = self.conv(both)
            return result
        name, scalars = self.conv.activation.name, list(self.conv.activation.scalars)
        first = (name, scalars, "") if beside is None else ("none", [], "")
        phases: Tensor = torch.ops.mkldnn._convolution_pointwise(
            image, self.up_weight, self.up_bias, (1, 1), (1, 1), (1, 1), 1, *first
        )
        doubled = _cropped(_interleaved(phases), 1 - self.border_px)
        if beside is None:
            return doubled
        unary = (None, [], None) if name == "none" else (name, scalars, "")
        sum_of_both: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            doubled, beside, self.beside_weight, None, (1, 1), (1, 1), (1, 1), 1, "add", 1.0, *unary
        )
        return sum_of_both

    def cast(self, dtype: torch.dtype) -> None:
        """Take another number type."""
        self.conv.cast(dtype)
        self.up_weight.data = _cast_kernel(self.up_weight.data, dtype)
        self.up_bias.data = self.up_bias.data.to(self.conv.bias.dtype)
        if self.beside_weight is not None:
            self.beside_weight.data = _cast_kernel(self.beside_weight.data, dtype)


def take_apart(network: nn.Module) -> None:
    """Have all such layers take the ordinary way, for devices without these primitives."""
    for module in network.modules():
        if isinstance(module, FusedConv | UpConv):
            module.is_apart = True


def cast_layers(network: nn.Module, dtype: torch.dtype) -> None:
    """Bring a network of such layers, and of others, to a number type, channels last."""
    own = {id(part) for module in network.modules() for part in _parameters_cast_here(module)}
    for module in network.modules():
        if isinstance(module, FusedConv | UpConv):
            module.cast(dtype)
    for tensor in (*network.parameters(), *network.buffers()):
        if id(tensor) not in own and tensor.is_floating_point():
            tensor.data = _cast_kernel(tensor.data, dtype)


def _parameters_cast_here(module: nn.Module) -> list[Tensor]:
    return list(module.parameters()) if isinstance(module, FusedConv | UpConv) else []


def _cast_kernel(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.dim() != 4:
        return tensor.to(dtype)
    return tensor.to(dtype).contiguous(memory_format=torch.channels_last)


def phase_kernels(weight: Tensor) -> Tensor:
    """The 2 x 2 kernels that do what doubling an image (nearest) and a 3 x 3 convolution do.

    Pixel 2 i + a of the result (a is 0 or 1) looks at pixels 2 i + a - 1 to 2 i + a + 1 of the
    doubled image, and so at pixels i + a - 1 and i + a of the image itself: what a 2 x 2 kernel
    sees at i + a where the image has a border of one zero. In the square that is made of pixel p of
    these, 2 p and 2 p + 1, it takes place 1 - a: 2 (i + a) + 1 - a = 2 i + a + 1, so that all come
    to lie one pixel further down, alike.

    Args:
        weight: shape (channels out, channels in, 3, 3).

    Returns:
        Shape (4 x channels out, channels in, 2, 2), the places of a square in scan order.
    """
    num_out, num_in = weight.shape[:2]
    kernels = weight.new_zeros(2, 2, num_out, num_in, 2, 2)
    weight = weight.detach()
    for odd_row, odd_col, row, col in itertools.product((0, 1), (0, 1), range(3), range(3)):
        tap_row, tap_col = _tap(odd_row, row), _tap(odd_col, col)
        kernels[1 - odd_row, 1 - odd_col, :, :, tap_row, tap_col] += weight[:, :, row, col]
    return kernels.reshape(4 * num_out, num_in, 2, 2)


def _tap(odd: int, index: int) -> int:
    """Which of two neighbouring pixels weight `index` of a 3 x 3 kernel looks at."""
    return (odd + index - 1) // 2 - odd + 1


def _interleaved(phases: Tensor) -> Tensor:
    """Channels as squares of pixels: (N, 4 C, h, w) to (N, C, 2 h, 2 w), channels last."""
    number, channels, height, width = phases.shape
    squares = phases.permute(0, 2, 3, 1).reshape(number, height, width, 2, 2, channels // 4)
    rows = squares.permute(0, 1, 3, 2, 4, 5).contiguous()
    return rows.view(number, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)


def _cropped(image: Tensor, crop_px: int) -> Tensor:
    """An image without some pixels at its sides, as one piece of memory."""
    if crop_px == 0:
        return image
    inner = image[:, :, crop_px:-crop_px, crop_px:-crop_px]
    return inner.contiguous(memory_format=torch.channels_last)
