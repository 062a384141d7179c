"""Batch normalisation folded into the convolution before it: the same function, fewer passes."""

import logging

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

logger = logging.getLogger(__name__)


def fold_batch_norms(network: nn.Module) -> tuple[nn.Module, int]:
    """Fold every batch normalisation that directly follows a convolution into it.

    The weights change by rounding in float32 only, so fold before going to a shorter type. A
    network that cannot be traced symbolically (control flow that depends on values) comes back
    as it is.

    Args:
        network: in evaluation mode, float32, on the CPU; it is not changed.

    Returns:
        The network to use and the number of folded normalisations.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network, 0
    try:
        traced = fx.symbolic_trace(network)
    except (fx.proxy.TraceError, TypeError, NotImplementedError, RuntimeError) as error:
        logger.info("batch normalisations stay apart, the network cannot be traced: %s", error)
        return network, 0
    modules = dict(traced.named_modules())
    num_folded = 0
    for node in list(traced.graph.nodes):
        conv_node = _folding_partner(node, modules)
        if conv_node is None:
            continue
        conv, norm = modules[str(conv_node.target)], modules[str(node.target)]
        with torch.no_grad():
            fused = fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var]
        parent, _, name = str(conv_node.target).rpartition(".")
        setattr(traced.get_submodule(parent), name, fused)
        node.replace_all_uses_with(conv_node)
        traced.graph.erase_node(node)
        num_folded += 1
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced, num_folded


def _folding_partner(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The convolution that a normalisation can go into; None where there is none.

    The convolution's result must go nowhere else, and its module must be called only once.
    """
    if node.op != "call_module" or type(modules[str(node.target)]) is not nn.BatchNorm2d:
        return None
    source = node.args[0]
    if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
        return None
    if type(modules[str(source.target)]) is not nn.Conv2d:
        return None
    calls = [other for other in node.graph.nodes if other.target == source.target]
    return source if len(calls) == 1 else None
