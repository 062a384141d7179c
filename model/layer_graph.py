"""A network as a graph of its layers, for passes that put several layers into one."""

from typing import Any

from torch import Tensor, fx, nn

TRACE_ERRORS = (fx.proxy.TraceError, TypeError, NotImplementedError, RuntimeError)
"""What tracing raises where a network's control flow depends on values."""

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)


class _LayerTracer(fx.Tracer):
    """Keeps convolutions and normalisations whole, whatever package they are from.

    timm's convolutions with padding as in TensorFlow, and its normalisations with an activation in
    them, have control flow that cannot be traced, but are layers like others.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one node."""
        return isinstance(m, _LAYERS) or super().is_leaf_module(m, module_qualified_name)


def trace_layers(network: nn.Module) -> fx.GraphModule:
    """A network as a graph with a node for each layer.

    Args:
        network: in evaluation mode; its layers are shared with the result.

    Raises:
        TRACE_ERRORS: if its control flow depends on values.
    """
    graph = _LayerTracer().trace(network)
    return fx.GraphModule(network, graph)


class NodeShapes(fx.Interpreter):
    """Runs a graph once, noting the shape of what every node gives."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.by_node: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node; shapes of tensors are noted."""
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.by_node[n] = tuple(value.shape)
        return value


def module_of(node: Any, modules: dict[str, nn.Module]) -> nn.Module | None:
    """The layer that a node calls; None for anything else."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return modules[str(node.target)]
    return None


def is_called_once(node: fx.Node) -> bool:
    """Whether no other node of the graph calls the same layer."""
    return sum(other.target == node.target for other in node.graph.nodes) == 1


def replace_module(graph_module: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Put another layer in the place of the one that a node calls."""
    parent, _, name = str(node.target).rpartition(".")
    setattr(graph_module.get_submodule(parent), name, module)
