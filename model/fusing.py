"""A network's graph with fewer, larger layers: the same function up to rounding."""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from model.fused_layers import Activation, FusedConv, UpConv, activation_of
from model.layer_graph import NodeShapes, module_of

_ADDITIONS = (operator.add, operator.iadd, torch.add)


def fuse_layers(folded: fx.GraphModule, example: Tensor) -> fx.GraphModule:
    """Convolutions take along the additions and activations behind them.

    Args:
        folded: see `model.folding.fold_batch_norms`; not changed.
        example: an input, shape (1, bands, height, width); sides that the network takes.

    Returns:
        A graph that shares the layers it does not change.
    """
    fused = _copy(folded)
    shapes = _shapes(fused, example)
    for node in list(fused.graph.nodes):
        conv = module_of(node, _modules(fused))
        if isinstance(conv, nn.Conv2d):
            _fuse_conv(fused, node, conv, shapes)
    for node in list(fused.graph.nodes):
        if node.op == "call_function" and node.target in _ADDITIONS:
            _fuse_addition(fused, node, shapes)
    return _finished(fused)


def fuse_doubling(fused: fx.GraphModule, example: Tensor) -> fx.GraphModule:
    """The steps of a decoder, doubling and what stands beside, as one layer each.

    Args:
        fused: from `fuse_layers`; not changed.
        example: as there.
    """
    joined = _copy(fused)
    shapes = _shapes(joined, example)
    for node in list(joined.graph.nodes):
        if isinstance(module_of(node, _modules(joined)), FusedConv):
            _fuse_up(joined, node, shapes)
    return _finished(joined)


def trim_decoder(joined: fx.GraphModule, spare_px: int) -> int:
    """Leave away what of a decoder's images only reaches pixels that nobody looks at.

    At each doubling the image is cut so far that all pixels but `spare_px` at each side of the
    network's output still are what they were: a convolution of 3 x 3 makes one more pixel wrong at
    a side that was cut, doubling doubles them.

    Args:
        joined: from `fuse_doubling`; its layers are changed.
        spare_px: pixels at each side of the output that may be missing or wrong.

    Returns:
        Pixels that are missing at each side.
    """
    steps = _decoder_steps(joined)
    # How many pixels may be missing or wrong of what each step gives, from the last to the first.
    allowed = [spare_px]
    for step in reversed(steps):
        reach = step.same_reach_px if isinstance(step, FusedConv) else 1
        rest = max(allowed[0] - (reach or 0), 0)
        allowed.insert(0, rest // 2 if isinstance(step, UpConv) else rest)
    missing = 0
    for step, may_miss in zip(steps, allowed[:-1], strict=True):
        if isinstance(step, UpConv):
            step.crop_px = may_miss - missing
            step.border_px = int(may_miss > 0 and not step.is_apart)
            missing = step.beside_crop_px = 2 * may_miss - step.border_px
    return missing


def _decoder_steps(joined: fx.GraphModule) -> list[FusedConv | UpConv]:
    """The layers, one after the other, that lead from the first doubling to the output."""
    modules, steps = _modules(joined), list[FusedConv | UpConv]()
    (output,) = (node for node in joined.graph.nodes if node.op == "output")
    node = output.args[0]
    while isinstance(node, fx.Node) and len(node.users) == 1:
        step = module_of(node, modules)
        is_plain = isinstance(step, FusedConv) and len(node.args) == 1
        if is_plain and step.same_reach_px is None:  # type: ignore[union-attr]
            break
        if not is_plain and not isinstance(step, UpConv):
            break
        steps.insert(0, step)  # type: ignore[arg-type]
        node = node.args[0]
    first = next((i for i, step in enumerate(steps) if isinstance(step, UpConv)), len(steps))
    return steps[first:]


def _fuse_conv(
    fused: fx.GraphModule, node: fx.Node, conv: nn.Conv2d, shapes: dict[fx.Node, tuple[int, ...]]
) -> None:
    """Replace a convolution, and the activation that alone looks at it, by one layer."""
    settings = _settings(conv, shapes[node.args[0]], shapes[node])  # type: ignore[index]
    if settings is None:
        return
    weight, padding = settings
    last, activation = _following(fused, node)
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias
    layer = FusedConv(
        weight,
        bias,
        stride=conv.stride,  # type: ignore[arg-type]
        padding=padding,
        dilation=conv.dilation,  # type: ignore[arg-type]
        groups=conv.groups,
        activation=activation,
    )
    _replace(fused, node, last, layer, (node.args[0],), shapes)


def _settings(
    conv: nn.Conv2d, before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[Tensor, tuple[int, int]] | None:
    """Kernel and padding of a convolution; None where it is no ordinary one.

    timm's convolutions pad as TensorFlow does. With a stride of 2 that is one more zero below and
    right than above and left; a kernel with one more row and column, of zeros, above and left makes
    it the same on all sides, and no padded copy of the image is needed.
    """
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return None
    if type(conv) is nn.Conv2d:
        return conv.weight, conv.padding  # type: ignore[return-value]
    side = conv.kernel_size[0]
    is_same = type(conv).__name__ == "Conv2dSame" and conv.dilation == (1, 1)
    halves = tuple(2 * pixels for pixels in after[2:]) == before[2:]
    if not is_same or conv.kernel_size != (side, side) or side % 2 == 0:
        return None
    if conv.stride == (1, 1):
        return conv.weight, (side // 2, side // 2)
    if conv.stride != (2, 2) or not halves or side < 3:
        return None
    return functional.pad(conv.weight, (1, 0, 1, 0)), (side // 2, side // 2)


def _following(graph_module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, Activation]:
    """The activation that alone looks at a node; the node itself where there is none."""
    if len(node.users) == 1:
        (user,) = node.users
        activation = activation_of(module_of(user, _modules(graph_module)))
        if activation is not None:
            return user, activation
    return node, Activation()


def _fuse_addition(
    fused: fx.GraphModule, node: fx.Node, shapes: dict[fx.Node, tuple[int, ...]]
) -> None:
    """Let a convolution without activation, seen by an addition only, take the addition along."""
    if len(node.args) != 2 or node.kwargs:
        return
    for source, other in (node.args, node.args[::-1]):
        layer = module_of(source, _modules(fused))
        if not isinstance(layer, FusedConv) or layer.activation.module is not None:
            continue
        assert isinstance(source, fx.Node)
        if len(source.users) != 1 or len(source.args) != 1 or source is other:
            continue
        if not isinstance(other, fx.Node) or shapes.get(other) != shapes[source]:
            continue
        last, layer.activation = _following(fused, node)
        image = source.args[0]
        _replace(fused, node, last, layer, (image, other), shapes)
        fused.graph.erase_node(source)
        return


def _fuse_up(joined: fx.GraphModule, node: fx.Node, shapes: dict[fx.Node, tuple[int, ...]]) -> None:
    """Replace doubling, joining and a convolution by one layer."""
    conv = joined.get_submodule(str(node.target))
    assert isinstance(conv, FusedConv)
    if conv.same_reach_px != 1 or conv.groups != 1 or len(node.args) != 1:
        return
    source = node.args[0]
    assert isinstance(source, fx.Node)
    doubled, *beside = _joined_images(source)
    if len(source.users) != 1 or not _is_doubling(doubled, shapes) or len(beside) > 1:
        return
    num_beside = sum(shapes[image][1] for image in beside)
    _replace(joined, node, node, UpConv(conv, num_beside), (doubled.args[0], *beside), shapes)


def _joined_images(node: fx.Node) -> list[fx.Node]:
    """What a node puts side by side as channels; the node itself if it does not."""
    is_cat = node.op == "call_function" and node.target is torch.cat
    parts = node.args[0] if is_cat else None
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    if dim != 1 or not isinstance(parts, list | tuple):
        return [node]
    return [part for part in parts if isinstance(part, fx.Node)]


def _is_doubling(node: fx.Node, shapes: dict[fx.Node, tuple[int, ...]]) -> bool:
    """Whether a node repeats each pixel of an image twice along both sides, for one other node."""
    if node.target is not functional.interpolate or len(node.users) != 1:
        return False
    if node.kwargs.get("mode", "nearest") != "nearest" or len(node.args) != 1:
        return False
    image = node.args[0]
    assert isinstance(image, fx.Node)
    return tuple(2 * pixels for pixels in shapes[image][2:]) == shapes[node][2:]


def _replace(
    graph_module: fx.GraphModule,
    first: fx.Node,
    last: fx.Node,
    layer: nn.Module,
    inputs: tuple[Any, ...],
    shapes: dict[fx.Node, tuple[int, ...]],
) -> None:
    """Put a layer in the place of a node, or of a node and its activation."""
    # A layer's name tells where it came from.
    name = "fused_" + first.name
    graph_module.add_submodule(name, layer)
    with graph_module.graph.inserting_after(last):
        new = graph_module.graph.call_module(name, inputs)
    shapes[new] = shapes[last]
    last.replace_all_uses_with(new)
    if last is not first:
        graph_module.graph.erase_node(last)
    graph_module.graph.erase_node(first)


def _modules(graph_module: fx.GraphModule) -> dict[str, nn.Module]:
    """All layers by their names; one layer may have several."""
    return dict(graph_module.named_modules(remove_duplicate=False))


def _copy(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A graph of its own over the same layers."""
    graph = fx.Graph()
    output = graph.graph_copy(graph_module.graph, {})
    graph.output(output)
    return fx.GraphModule(graph_module, graph)


def _shapes(graph_module: fx.GraphModule, example: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    run = NodeShapes(graph_module)
    with torch.inference_mode():
        run.run(example)
    return run.by_node


def _finished(graph_module: fx.GraphModule) -> fx.GraphModule:
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module
