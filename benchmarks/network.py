"""The network itself, one optimisation after the other: time of a window, error against float32.

    python benchmarks/network.py BUNDLE [--window 1280] [--spare 64] [--rounds 7] [--precision bf16]

Plain is the network as it is built; folded has its batch normalisations in the convolutions; fused
takes activations and additions along (`model.fusing`); phases never makes a doubled image; trimmed
leaves away what of the decoder reaches nothing that is looked at, which is what the segmenter runs
on whole ground. They take turns on one drawn window; ms are medians, *times* is plain over each.
The error is the mean difference of the inner part's probabilities from those of the plain network
in float32. With --openvino (needs the package), OpenVINO's own compilation of the same network
beside them.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from results import RESULTS, ROOT, facts_as_text, machine_facts, markdown_table, write_part
from torch import Tensor, nn

sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

import synthetic

from model.bundle import Bundle, load_bundle
from model.devices import DTYPES
from model.folding import fold_batch_norms
from model.fused_layers import cast_layers
from model.fusing import fuse_doubling, fuse_layers, trim_decoder

Run = Callable[[Tensor], Tensor]


def make_window(bundle: Bundle, side_px: int) -> Tensor:
    """A drawn town, normalised, float32."""
    levels = torch.from_numpy(synthetic.draw_town(side_px, side_px, seed=2).pixels.copy())
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (bundle.meta.mean, bundle.meta.std))
    image: Tensor = ((levels.float() / 255 - mean) / std)[None]
    return image.contiguous(memory_format=torch.channels_last)


def make_variants(bundle: Bundle, dtype: torch.dtype, spare_px: int) -> dict[str, Run]:
    """The network after each step, in the number type."""
    stride, bands = bundle.meta.network.stride_px, len(bundle.meta.bands)
    small = torch.zeros(1, bands, 2 * stride, 2 * stride)
    plain = bundle.build().eval()
    folded, _ = fold_batch_norms(plain)
    fused = fuse_layers(folded, small)  # type: ignore[arg-type]
    trimmed = fuse_doubling(fused, small)
    trim_decoder(trimmed, spare_px)
    graphs: dict[str, nn.Module] = {
        "plain": plain,
        "folded": copy.deepcopy(folded),
        "fused": copy.deepcopy(fused),
        "phases": fuse_doubling(copy.deepcopy(fused), small),
        "trimmed": trimmed,
    }
    for graph in graphs.values():
        cast_layers(graph, dtype)
    return dict(graphs)


def make_openvino(bundle: Bundle, image: Tensor, precision: str) -> Run:
    """OpenVINO's compilation, with as many threads as torch has."""
    import openvino

    model = openvino.convert_model(
        bundle.build().eval(), example_input=image, input=list(image.shape)
    )
    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision),
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    # Its input stays float32, as it takes it.
    return lambda images: torch.from_numpy(request.infer({0: image.numpy()})[0])


def inner_probability(bundle: Bundle, logits: Tensor, side_px: int, spare_px: int) -> Tensor:
    """The inner part, whatever of the window the logits are of."""
    rest = spare_px - (side_px - logits.shape[2]) // 2
    inner = logits[:, :, rest : logits.shape[2] - rest, rest : logits.shape[3] - rest]
    return bundle.meta.network.probability(inner)


def main() -> None:
    """Take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--window", type=int, default=1280)
    parser.add_argument("--spare", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--openvino", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    bundle, facts, dtype = load_bundle(args.bundle), machine_facts(), DTYPES[args.precision]
    image = make_window(bundle, args.window)
    with torch.inference_mode():
        exact = inner_probability(bundle, bundle.build().eval()(image), args.window, args.spare)
        variants = make_variants(bundle, dtype, args.spare)
        if args.openvino:
            variants["OpenVINO"] = make_openvino(bundle, image, args.precision)
        cast = image.to(dtype).contiguous(memory_format=torch.channels_last)
        errors = {
            name: float(
                (inner_probability(bundle, run(cast).float(), args.window, args.spare) - exact)
                .abs()
                .mean()
            )
            for name, run in variants.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(args.rounds):
            for name, run in variants.items():
                begin = time.perf_counter()
                run(cast)
                seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = [
        (name, f"{1e3 * ms:.0f}", f"{medians['plain'] / ms:.2f}", f"{errors[name]:.5f}")
        for name, ms in medians.items()
    ]
    table = markdown_table(("", "ms a window", "times", "error"), rows)
    text = f"# The network, {args.window} px, {args.precision}\n\n{facts_as_text(facts)}\n{table}"
    write_part(args.results, "network", text, {"machine": facts, "seconds": seconds})
    print(text)


if __name__ == "__main__":
    main()
