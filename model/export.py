"""Export of a bundle to torch.export (.pt2) or ONNX, checked against the eager network.

What is exported is the network as `Segmenter` runs it: batch normalisation folded, missing ground
masked at every layer (the mask is the second input), logits turned into the probability of a
building. The size of a window is fixed, the batch is free.
"""

import contextlib
import dataclasses
import io
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from geo.atomic_files import write_atomically
from model.bundle import Bundle
from model.bundle_file import METADATA_KEY
from model.devices import DTYPES
from model.errors import ExportError
from model.exported import (
    IMAGES,
    KNOWN,
    PROBABILITY,
    PT2_EXTRA_FILE,
    Engine,
    ExportedBundle,
    ExportFacts,
    ExportFormat,
    ExportPrecision,
    load_exported,
)
from model.folding import fold_batch_norms
from model.masking import LayerMasking
from model.separation import num_channels
from model.unet import NetworkConfig
from model.windows import check_window

MAX_DIFFERENCE = {"fp32": 1e-3, "bf16": 0.03}
"""Largest difference of a probability that an export may show, by precision."""
MAX_SHARE_FLIPPED = 1e-3
"""Largest share of pixels that may fall on the other side of the threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How an exported network compares with the eager one on the same windows.

    Attributes:
        max_difference: largest difference of a probability.
        share_flipped: share of pixels on the other side of the bundle's threshold.
        num_pixels: pixels compared.
    """

    max_difference: float
    share_flipped: float
    num_pixels: int


class ProbabilityNetwork(nn.Module):
    """A network with its masking and the step to probabilities, in one traceable module.

    Args:
        network: maps normalised images to logits; gets hooks.
        precision: number type of its layers.
        config: the network's.
    """

    def __init__(
        self, network: nn.Module, precision: ExportPrecision, config: NetworkConfig
    ) -> None:
        super().__init__()
        self._config = config
        self.dtype = DTYPES[precision]
        network = network.to(self.dtype)
        # mypy does not know this overload of Module.to.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._masking = LayerMasking(network)

    def forward(self, images: Tensor, known: Tensor) -> Tensor:
        """Probability (N, S, S), float32, of images (N, bands, S, S) where `known` (N, 1, S, S)."""
        with self._masking.using(known):
            # As the Segmenter does it, for the same bits; ONNX knows no memory formats.
            images = images.to(self.dtype).contiguous(memory_format=torch.channels_last)
            logits = self.network(images)
        separation = self._config.separation
        if logits.shape[1] != num_channels(separation):
            raise ExportError(
                f"the network has {logits.shape[1]} outputs, but separation = "
                f"{separation!r} takes {num_channels(separation)}"
            )
        return self._config.probability(logits)


def export_bundle(
    bundle: Bundle,
    path: Path,
    kind: ExportFormat,
    *,
    window_px: int | None = None,
    margin_px: int | None = None,
    precision: ExportPrecision = "fp32",
) -> Parity:
    """Export a bundle; the file appears only if it gives the answers of the eager network.

    Args:
        bundle: what to export.
        path: where to; the suffix is .pt2 or .onnx, as the format.
        kind: the format.
        window_px: side of a core; None takes the bundle's.
        margin_px: pixels around it; None takes the bundle's.
        precision: number type of the layers. bf16 is for .pt2 only: onnxruntime has no convolution
            in it on a CPU.

    Returns:
        How it compares.

    Raises:
        ExportError: if the network cannot be exported, the export differs, or the file cannot be
            written.
        SegmentError: if the windows do not fit the network.
    """
    _check_request(path, kind, precision)
    facts = _facts(bundle, window_px, margin_px, precision)
    network = _build(bundle, precision)
    content = _pt2_bytes(network, facts) if kind == "pt2" else _onnx_bytes(network, facts)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / f"trial.{kind}"
        trial.write_bytes(content)
        parity = check_parity(bundle, load_exported(trial))
    limit = MAX_DIFFERENCE[precision]
    if not (parity.max_difference <= limit and parity.share_flipped <= MAX_SHARE_FLIPPED):
        raise ExportError(
            f"the exported network differs from the bundle: {parity.max_difference:.2g} in "
            f"probability (allowed {limit:g}), {parity.share_flipped:.2%} of pixels flipped; "
            "nothing was written"
        )
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}") from error
    return parity


def check_parity(bundle: Bundle, exported: ExportedBundle, *, seed: int = 0) -> Parity:
    """Compare an exported file with the bundle that it was made of, on the CPU.

    The windows are drawn: smooth fields of colour with noise, some with missing ground, in batches
    of other sizes than the one it was traced with.

    Args:
        bundle: the bundle.
        exported: the file.
        seed: of the drawing.

    Raises:
        ExportError: if it was made of another bundle, or cannot be opened.
    """
    facts = exported.facts
    if facts.bundle_sha256 != bundle.sha256:
        raise ExportError(
            f"{exported.path} was made of another bundle ({facts.bundle_sha256[:8]}, not "
            f"{bundle.sha256[:8]})"
        )
    eager: Engine = _build(bundle, facts.precision)
    engine = exported.open(torch.device("cpu"), torch.get_num_threads())
    threshold, difference, num_flipped, num_pixels = bundle.meta.threshold, 0.0, 0, 0
    with torch.inference_mode():
        for images, known in _windows(len(bundle.meta.bands), facts.input_px, seed):
            wanted, found = eager(images, known), engine(images, known)
            difference = max(difference, float((wanted - found).abs().max()))
            num_flipped += int(((wanted >= threshold) != (found >= threshold)).sum())
            num_pixels += wanted.numel()
    return Parity(
        max_difference=difference, share_flipped=num_flipped / num_pixels, num_pixels=num_pixels
    )


def _check_request(path: Path, kind: ExportFormat, precision: ExportPrecision) -> None:
    if path.suffix.lower() != f".{kind}":
        raise ExportError(f"{path}: a file of format {kind} needs the suffix .{kind}")
    if kind == "onnx" and precision != "fp32":
        raise ExportError(
            f"precision = {precision} with ONNX: onnxruntime has no such convolution on a CPU; "
            "use fp32, or the format pt2"
        )


def _facts(
    bundle: Bundle, window_px: int | None, margin_px: int | None, precision: ExportPrecision
) -> ExportFacts:
    meta = bundle.meta
    window_px = meta.window_px if window_px is None else window_px
    margin_px = meta.margin_px if margin_px is None else margin_px
    check_window(window_px, margin_px, meta.network.stride_px)
    return ExportFacts(
        meta=dataclasses.replace(meta, window_px=window_px, margin_px=margin_px),
        precision=precision,
        bundle_sha256=bundle.sha256,
    )


def _build(bundle: Bundle, precision: ExportPrecision) -> ProbabilityNetwork:
    folded, _ = fold_batch_norms(bundle.build())
    return ProbabilityNetwork(folded, precision, bundle.meta.network).eval()


def _example(facts: ExportFacts) -> tuple[Tensor, Tensor]:
    # A batch of one would be taken for a constant.
    side, num_bands = facts.input_px, len(facts.meta.bands)
    return torch.zeros(2, num_bands, side, side), torch.ones(2, 1, side, side, dtype=torch.bool)


def _pt2_bytes(network: nn.Module, facts: ExportFacts) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    shapes = {IMAGES: {0: batch}, KNOWN: {0: batch}}
    content = io.BytesIO()
    with _as_export_error("torch.export"), torch.no_grad():
        program = torch.export.export(network, _example(facts), dynamic_shapes=shapes, strict=False)
        # The example is of no use, and would be the only pickle in the file.
        program.example_inputs = None
        torch.export.save(program, content, extra_files={PT2_EXTRA_FILE: facts.to_json()})
    return content.getvalue()


def _onnx_bytes(network: nn.Module, facts: ExportFacts) -> bytes:
    _require_onnx()
    shapes = {IMAGES: {0: "batch"}, KNOWN: {0: "batch"}}
    with _as_export_error("ONNX"), torch.no_grad():
        program = torch.onnx.export(
            network,
            _example(facts),
            input_names=[IMAGES, KNOWN],
            output_names=[PROBABILITY],
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[METADATA_KEY] = facts.to_json()
    content: bytes = program.model_proto.SerializeToString()
    return content


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"ONNX needs the package {error.name}: pip install 'everyroof[export]'"
        ) from error


@contextlib.contextmanager
def _as_export_error(name: str) -> Iterator[None]:
    """Errors of an exporter as ours, its warnings (of its own future) left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            # Exporters raise whatever the traced code did not allow.
            reason = str(error).strip().splitlines()
            raise ExportError(
                f"{name} cannot export this network: {reason[0] if reason else error!r}"
            ) from error


def _windows(num_bands: int, side: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of drawn windows: one whole, three with holes and missing edges."""
    generator = torch.Generator().manual_seed(seed)
    for size, share_known in ((1, 1.0), (3, 0.7)):
        coarse = torch.randn(size, num_bands, 8, 8, generator=generator)
        images = functional.interpolate(coarse, (side, side), mode="bicubic")
        images += 0.3 * torch.randn(size, num_bands, side, side, generator=generator)
        blocks = torch.rand(size, 1, 8, 8, generator=generator) <= share_known
        known = functional.interpolate(blocks.float(), (side, side)) > 0.5
        yield images * known, known
