"""Freezing the first stages of an encoder, whatever its layers are called."""

import torch
from torch import Tensor, nn

from model.errors import TrainingError

_PROBE_PX = 128


def freeze_stages(network: nn.Module, num_stages: int) -> list[nn.Module]:
    """Stop the learning of all layers before the encoder has halved the image once more.

    Early stages see edges and textures, which another region shares; frozen, a few labels cannot
    spoil them, and their backward passes, the dearest, are saved.

    Args:
        network: with an attribute `encoder`; its parameters are changed.
        num_stages: how many halvings of the image are frozen; 0: nothing, the encoder's depth: all
            of it.

    Returns:
        The frozen layers. They must be kept in evaluation mode, since normalisation would go on
        following the data.

    Raises:
        TrainingError: if the encoder halves less often.
    """
    if num_stages == 0:
        return []
    encoder = network.get_submodule("encoder")
    strides = _strides_in_order(encoder)
    depth = max(stride for _, stride in strides if stride < _PROBE_PX).bit_length() - 1
    if num_stages > depth:
        raise TrainingError(
            f"frozen_stages = {num_stages}; expected 0 to {depth}, the stages of the encoder"
        )
    frozen = []
    for layer, stride in strides:
        # Layers that see the whole image at once say nothing of the stage that they are in.
        if 2**num_stages < stride < _PROBE_PX:
            break
        frozen.append(layer.requires_grad_(False).eval())
    if not frozen:
        raise TrainingError(
            f"frozen_stages = {num_stages}; the encoder's first layer is coarser already, so "
            "nothing would be frozen: give more, or 0"
        )
    return frozen


def _strides_in_order(encoder: nn.Module) -> list[tuple[nn.Module, int]]:
    """Layers that compute something, as they are run, and how much smaller than the image they are.

    A layer that sees the whole image at once (squeeze-and-excitation) has a stride of its side.
    """
    strides: list[tuple[nn.Module, int]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        strides.append((layer, _PROBE_PX // output.shape[-1]))

    # Some normalisations hold their activation as a child, so children alone do not tell.
    layers = [
        layer
        for layer in encoder.modules()
        if not any(layer.children()) or any(True for _ in layer.parameters(recurse=False))
    ]
    handles = [layer.register_forward_hook(note) for layer in layers]
    was_training = encoder.training
    first = next(encoder.parameters())
    bands = next(p.shape[1] for p in encoder.parameters() if p.dim() == 4)
    with torch.no_grad():
        encoder.eval()(torch.zeros(1, bands, _PROBE_PX, _PROBE_PX, device=first.device))
    encoder.train(was_training)
    for handle in handles:
        handle.remove()
    return strides
