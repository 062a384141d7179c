"""Batch normalisation folded into the convolution before it: the same function, fewer passes."""

import copy
import logging

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.layer_graph import (
    TRACE_ERRORS,
    is_called_once,
    module_of,
    replace_module,
    trace_layers,
)

logger = logging.getLogger(__name__)


def fold_batch_norms(network: nn.Module) -> tuple[nn.Module, int]:
    """Fold every batch normalisation that directly follows a convolution into it.

    The weights change by rounding in float32 only, so fold before going to a shorter type. A
    network that cannot be traced symbolically (control flow that depends on values) comes back
    as it is. Of a normalisation that holds an activation (timm's), the activation stays.

    Args:
        network: in evaluation mode, float32, on the CPU; it is not changed.

    Returns:
        The network to use and the number of folded normalisations.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network, 0
    try:
        traced = trace_layers(copy.deepcopy(network))
    except TRACE_ERRORS as error:
        logger.info("batch normalisations stay apart, the network cannot be traced: %s", error)
        return network, 0
    num_folded = sum(_fold(traced, node) for node in list(traced.graph.nodes))
    _drop_identities(traced)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced, num_folded


def _fold(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Fold one normalisation; False where the node is none, or has no convolution before it."""
    modules = dict(traced.named_modules())
    norm = module_of(node, modules)
    conv_node = _folding_partner(node, modules)
    if norm is None or conv_node is None:
        return False
    conv = modules[str(conv_node.target)]
    with torch.no_grad():
        fused = fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var, arg-type]
    replace_module(traced, conv_node, fused)
    activation = getattr(norm, "act", nn.Identity())
    replace_module(traced, node, activation)
    return True


def _folding_partner(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The convolution that a normalisation can go into; None where there is none.

    The convolution's result must go nowhere else, and both modules must be called only once.
    """
    if not _is_plain_norm(module_of(node, modules)) or not is_called_once(node):
        return None
    source = node.args[0]
    if not isinstance(source, fx.Node) or len(source.users) != 1:
        return None
    if not isinstance(module_of(source, modules), nn.Conv2d):
        return None
    return source if is_called_once(source) else None


def _is_plain_norm(module: nn.Module | None) -> bool:
    """A normalisation, maybe with an activation behind it as timm's `BatchNormAct2d` has it."""
    if type(module) is nn.BatchNorm2d:
        return True
    return (
        isinstance(module, nn.BatchNorm2d)
        and isinstance(getattr(module, "act", None), nn.Module)
        and isinstance(getattr(module, "drop", nn.Identity()), nn.Identity)
    )


def _drop_identities(traced: fx.GraphModule) -> None:
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if isinstance(module_of(node, modules), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
