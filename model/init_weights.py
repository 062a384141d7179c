"""Weights to start from: a bundle or a plain state dict, as far as they fit."""

import logging
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from model.errors import TrainingError

logger = logging.getLogger(__name__)

_HEAD = "segmentation_head."


def load_initial_weights(network: nn.Module, path: str) -> None:
    """Copy the weights of a .safetensors file into a network.

    A head with another number of channels stays random, and is named in the log.

    Args:
        network: is changed.
        path: a bundle or a plain state dict.

    Raises:
        TrainingError: if the file is missing, no safetensors file, fits in less than half of its
            tensors, or has a layer of another shape, as after another number of bands.
    """
    if not Path(path).is_file():
        raise TrainingError(f"init = {path}: there is no such file; give a .safetensors file")
    try:
        found = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise TrainingError(f"init = {path} is no safetensors file: {error}") from error
    own = network.state_dict()
    fitting = {k: v for k, v in found.items() if k in own and v.shape == own[k].shape}
    if 2 * len(fitting) < len(own):
        raise TrainingError(
            f"init = {path}: only {len(fitting)} of the network's {len(own)} tensors are in it; "
            "it was made for another network"
        )
    wrong = [k for k in own if k in found and k not in fitting and not k.startswith(_HEAD)]
    if wrong:
        raise TrainingError(
            f"init = {path}: {wrong[0]} has shape {tuple(found[wrong[0]].shape)}, expected "
            f"{tuple(own[wrong[0]].shape)}; it was made for another number of bands or channels"
        )
    left = sorted(set(own) - set(fitting))
    if left:
        logger.warning("%s does not hold %s; they start at random", path, ", ".join(left[:8]))
    network.load_state_dict({**own, **{k: v.to(own[k].dtype) for k, v in fitting.items()}})
