import copy
import itertools

import pytest
import synthetic
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

from model.bundle import load_bundle
from model.folding import fold_batch_norms
from model.fused_layers import Activation, FusedConv, UpConv, cast_layers, take_apart
from model.fusing import fuse_doubling, fuse_layers, trim_decoder
from model.layer_graph import trace_layers
from model.shipped import shipped_bundle_path
from model.unet import NetworkConfig, build_network
from model.window_network import WindowNetwork

CHANNELS_LAST = torch.channels_last


def _noise(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=CHANNELS_LAST) if len(shape) == 4 else values


def _conv(out: int, inner: int, activation: Activation, *, side: int = 3) -> FusedConv:
    return FusedConv(
        _noise(out, inner, side, side),
        _noise(out),
        stride=(1, 1),
        padding=(side // 2, side // 2),
        dilation=(1, 1),
        groups=1,
        activation=activation,
    )


def _random_unet(encoder: str, depth: int = 3, **settings: str) -> nn.Module:
    channels = (32, 32, 24, 16, 16)[:depth]
    torch.manual_seed(0)
    config = NetworkConfig(
        encoder=encoder, encoder_depth=depth, decoder_channels=channels, **settings
    )
    network = build_network(config).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.3, 0.8)
            module.running_mean.normal_(0.0, 0.1)
    return network


def _assert_like(found: Tensor, wanted: Tensor) -> None:
    """Equal but for rounding, which grows with the size of what is added up on the way."""
    assert (found - wanted).abs().max() < 3e-4 * wanted.abs().max()


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    inner=st.integers(1, 17),
    beside=st.integers(0, 9),
    out=st.integers(1, 17),
    number=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_a_doubled_image_convolved(
    height: int, width: int, inner: int, beside: int, out: int, number: int
) -> None:
    conv = _conv(out, inner + beside, Activation("relu", (), nn.ReLU()))
    step = UpConv(conv, beside)
    image = _noise(number, inner, height, width, seed=1)
    others = _noise(number, beside, 2 * height, 2 * width, seed=2) if beside else None
    doubled = functional.interpolate(image, scale_factor=2.0)
    both = doubled if others is None else torch.cat([doubled, others], 1)
    wanted = functional.conv2d(both, conv.weight, conv.bias, padding=1).relu()
    with torch.inference_mode():
        torch.testing.assert_close(step(image, others), wanted, rtol=1e-4, atol=1e-4)
        step.border_px = 1
        wide = step(image, None if others is None else functional.pad(others, (1, 1, 1, 1)))
        assert wide.shape[2:] == (2 * height + 2, 2 * width + 2)
        # Beside the border nothing changes but for what a border of the other image would add.
        torch.testing.assert_close(wide[:, :, 1:-1, 1:-1], wanted, rtol=1e-4, atol=1e-4)
        take_apart(step)
        torch.testing.assert_close(step(image, others), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "module", [None, nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7), nn.SiLU(), nn.Hardswish()]
)
@pytest.mark.parametrize("is_added", [False, True])
def test_what_follows_a_convolution(module: nn.Module | None, is_added: bool) -> None:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            self.module = module or nn.Identity()

        def forward(self, image: Tensor) -> Tensor:
            after = self.conv(image)
            return self.module(after + image if is_added else after) * 2.0

    step, image = Step(), 3 * _noise(2, 4, 16, 24)
    graph = fuse_layers(trace_layers(step), image)
    layers = [layer for layer in graph.modules() if isinstance(layer, FusedConv)]
    assert len(layers) == 1
    nodes = [node for node in graph.graph.nodes if node.op == "call_module"]
    # One step takes it all: convolution, addition and activation (an Identity is none).
    assert len(nodes) == (1 if module else 2)
    assert len(nodes[0].args) == (2 if is_added else 1)
    with torch.inference_mode():
        torch.testing.assert_close(graph(image), step(image), rtol=1e-5, atol=1e-5)
        take_apart(graph)
        torch.testing.assert_close(graph(image), step(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size_px", [16, 24, 25])
def test_padding_as_in_tensorflow(side: int, stride: int, size_px: int) -> None:
    conv = nn.Sequential(Conv2dSame(6, 6, side, stride=stride, groups=3), nn.ReLU())
    image = _noise(1, 6, size_px, size_px)
    graph = fuse_layers(trace_layers(conv), image)
    is_fused = any(isinstance(layer, FusedConv) for layer in graph.modules())
    # What is neither centred nor halving is left as it is.
    expected = side % 2 == 1 and (stride == 1 or (stride == 2 and size_px % 2 == 0 and side > 1))
    assert is_fused is expected
    with torch.inference_mode():
        torch.testing.assert_close(graph(image), conv(image), rtol=1e-4, atol=1e-4)


def test_additions_that_are_not_taken_along() -> None:
    class Twice(nn.Module):
        """A result that is seen twice, sizes that differ, and a number."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, image: Tensor) -> Tensor:
            once = self.first(image)
            wide = self.second(image) + image.amax(dim=(2, 3), keepdim=True)
            return once + once + wide + 1

    network, image = Twice(), _noise(1, 2, 8, 8)
    graph = fuse_layers(trace_layers(network), image)
    with torch.inference_mode():
        torch.testing.assert_close(graph(image), network(image), rtol=1e-5, atol=1e-5)


ENCODERS = ["resnet18", "tu-tf_efficientnet_lite0", "mobilenet_v2"]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("spare_px", "crop_px"), [(0, 0), (1, 0), (6, 0), (17, 0), (40, 3)])
def test_a_trimmed_decoder_keeps_the_inner_pixels(
    encoder: str, spare_px: int, crop_px: int
) -> None:
    network = _random_unet(encoder)
    folded, _ = fold_batch_norms(network)
    example = torch.zeros(1, 3, 16, 16)
    whole = fuse_doubling(fuse_layers(copy.deepcopy(folded), example), example)
    apart = copy.deepcopy(whole)
    take_apart(apart)
    image = _noise(1, 3, 128, 112, seed=3)
    inner = (..., slice(spare_px, 128 - spare_px), slice(spare_px, 112 - spare_px))
    steps = [step for step in whole.modules() if isinstance(step, UpConv)]
    assert len(steps) == 3
    with torch.inference_mode():
        wanted = network(image)[inner]
        for graph in (whole, apart):
            missing_px = trim_decoder(graph, spare_px)
            found = graph(image)
            assert found.shape[2:] == (128 - 2 * missing_px, 112 - 2 * missing_px)
            assert missing_px <= spare_px
            rest = spare_px - missing_px
            found = found[..., rest : found.shape[2] - rest, rest : found.shape[3] - rest]
            _assert_like(found, wanted)
    assert steps[0].crop_px == crop_px


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("attention", ["scse", "none"])
def test_other_decoders_stay_right(interpolation: str, attention: str) -> None:
    network = _random_unet(
        "resnet18", decoder_interpolation=interpolation, decoder_attention=attention
    )
    image = _noise(1, 3, 96, 96, seed=4)
    with torch.inference_mode():
        wanted = network(image)[..., 20:-20, 20:-20]
    ready = _ready(network, spare_px=20)
    assert ready.kind == "fused"
    with torch.inference_mode():
        _assert_like(_inner(ready, image), wanted)


def _ready(network: nn.Module, *, spare_px: int = 10, precision: str = "fp32") -> WindowNetwork:
    return WindowNetwork(
        copy.deepcopy(network),
        device=torch.device("cpu"),
        precision=precision,
        spare_px=spare_px,
        stride_px=32,
        num_bands=3,
    )


def _inner(ready: WindowNetwork, image: Tensor, known: Tensor | None = None) -> Tensor:
    """Logits of what lies `spare_px` from the sides."""
    rows, cols = (slice(ready._spare_px, side - ready._spare_px) for side in image.shape[2:])
    return ready(image.clone(), known, (rows, cols))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_missing_ground_is_masked_as_before(encoder: str) -> None:
    network = _random_unet(encoder, depth=5)
    image = _noise(2, 3, 128, 128, seed=5)
    known = torch.ones(2, 1, 128, 128, dtype=torch.bool)
    known[0, :, :50, 70:] = False
    known[1, :, 90:100] = False
    image *= known
    plain = _ready(network)
    plain._masked = plain._whole = folded = fold_batch_norms(network)[0]
    plain._masking = type(plain._masking)(folded)
    plain._missing_px = 0
    ready = _ready(network)
    assert ready.kind == "fused"
    with torch.inference_mode():
        wanted = _inner(plain, image, known)
        assert (wanted - _inner(plain, image)).abs().max() > 0.01
        found = _inner(ready, image, known)
        _assert_like(found, wanted)


@pytest.mark.parametrize("fault", ["missing", "wrong"])
def test_without_the_primitives_layers_stay_apart(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(image: Tensor, weight: Tensor, *rest: object) -> Tensor:
        if fault == "missing":
            raise RuntimeError("mkldnn is not built in")
        result: Tensor = working(image, weight, *rest)
        return result * 0.5

    working = torch.ops.mkldnn._convolution_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", faulty)
    network, image = _random_unet("resnet18"), _noise(1, 3, 160, 160)
    ready = _ready(network, spare_px=50)
    assert ready.kind == "trimmed"
    assert ready._missing_px > 0
    assert ("fused ones differ by" in caplog.text) is (fault == "wrong")
    with torch.inference_mode():
        wanted = network(image)[..., 50:-50, 50:-50]
        _assert_like(_inner(ready, image), wanted)


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.BatchNorm2d(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images) if images.sum() > 0 else images[:, :1]


def test_a_network_that_cannot_be_traced_is_run_as_it_is() -> None:
    network = _Branching().eval()
    ready = _ready(network, spare_px=3)
    assert (ready.kind, ready.num_folded) == ("eager", 0)
    image = _noise(1, 3, 32, 32).abs()
    with torch.inference_mode():
        assert torch.equal(_inner(ready, image), network(image)[..., 3:-3, 3:-3])


def test_fused_layers_are_nearer_to_float32_than_plain_ones() -> None:
    bundle = load_bundle(shipped_bundle_path())
    network = bundle.build().eval()
    town = torch.from_numpy(synthetic.draw_town(320, 320, seed=2).pixels.copy()).float() / 255
    mean, std = (
        torch.tensor(values).view(-1, 1, 1) for values in (bundle.meta.mean, bundle.meta.std)
    )
    image = ((town - mean) / std)[None].contiguous(memory_format=CHANNELS_LAST)
    plain = copy.deepcopy(network)
    cast_layers(plain, torch.bfloat16)
    ready = _ready(network, spare_px=64, precision="bf16")
    assert (ready.kind, ready.num_folded) == ("fused", 58)
    with torch.inference_mode():
        wanted = bundle.meta.network.probability(network(image))[:, 64:-64, 64:-64]
        before = bundle.meta.network.probability(plain(image.bfloat16()))[:, 64:-64, 64:-64]
        after = bundle.meta.network.probability(_inner(ready, image))
    assert (after - wanted).abs().mean() < 0.9 * (before - wanted).abs().mean()


def test_all_phases_of_a_known_kernel() -> None:
    # One hot weight after the other: doubling then shifting is known by hand.
    image = torch.arange(6.0).reshape(1, 1, 2, 3).contiguous(memory_format=CHANNELS_LAST)
    doubled = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    padded = functional.pad(doubled, (1, 1, 1, 1))
    for row, col in itertools.product(range(3), range(3)):
        conv = _conv(1, 1, Activation())
        conv.weight.data.zero_()
        conv.weight.data[0, 0, row, col] = 1.0
        conv.bias.data.zero_()
        with torch.inference_mode():
            found = UpConv(conv, 0)(image)
        assert torch.equal(found, padded[:, :, row : row + 4, col : col + 6])
