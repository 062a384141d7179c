"""Exported networks against the eager one."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from random_bundles import save_random_unet
from torch import nn

from model import export
from model.bundle import BundleMeta, load_bundle, read_meta, save_bundle
from model.colour_bundle import save_colour_bundle
from model.errors import BundleError, ExportError, SegmentError
from model.export import MAX_DIFFERENCE, check_parity, export_bundle
from model.exported import ExportFormat, export_format, load_exported, read_export_facts
from model.segment import Segmenter
from model.separation import Separation
from model.unet import Architecture, NetworkConfig, build_network, register_architecture

WINDOW_PX, MARGIN_PX = 64, 32
SIDE_PX = WINDOW_PX + 2 * MARGIN_PX
KINDS = [("pt2", "fp32"), ("pt2", "bf16"), ("onnx", "fp32")]

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small U-Net of random weights whose probabilities are spread over 0 to 1."""
    return save_random_unet(
        tmp_path_factory.mktemp("bundles") / "unet.safetensors",
        NetworkConfig(encoder="resnet18", encoder_depth=3, decoder_channels=(32, 16, 8)),
        seed=5,
        mean=(0.4, 0.45, 0.5),
        std=(0.2, 0.25, 0.3),
        window_px=WINDOW_PX,
        margin_px=MARGIN_PX,
        calibration=((0.0, 0.1), (1.0, 0.9)),
        provenance={"licence": "CC BY 4.0"},
    )


@pytest.fixture(scope="module")
def exported(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundle in every format, by "format-precision"."""
    folder, paths = tmp_path_factory.mktemp("exported"), {}
    for kind, precision in KINDS:
        path = folder / f"{precision}.{kind}"
        parity = export_bundle(load_bundle(bundle_path), path, kind, precision=precision)
        assert parity.max_difference < 1e-4, (kind, precision)
        assert parity.share_flipped == 0
        assert parity.num_pixels == 4 * SIDE_PX**2
        paths[f"{kind}-{precision}"] = path
    return paths


def _tile(num_rows: int, num_cols: int) -> tuple[np.ndarray, np.ndarray]:
    """A drawn town with its margin, a hole in it and nothing along one side."""
    height, width = (n * WINDOW_PX + 2 * MARGIN_PX for n in (num_rows, num_cols))
    valid = np.ones((height, width), bool)
    valid[50:75, 60:110] = False
    valid[:, -45:] = False
    return synthetic.draw_town(height, width).pixels, valid


# --- the same answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("kind", ["pt2-fp32", "pt2-bf16", "onnx-fp32"])
def test_the_segmenter_gives_the_same_with_missing_ground(
    bundle_path: Path, exported: dict[str, Path], kind: str, batch_size: int
) -> None:
    pixels, valid = _tile(2, 3)
    eager = Segmenter.load(bundle_path, precision=kind[-4:], device="cpu", batch_size=batch_size)
    wanted = eager.segment(pixels, valid)
    other = Segmenter.load(exported[kind], device="cpu", batch_size=batch_size)
    found = other.segment(pixels, valid)
    assert np.ptp(wanted) > 100
    # In bfloat16 fused layers round less often than those of the export; each may be as far from
    # float32 as an export may.
    limit, share = (2 * 255 * MAX_DIFFERENCE["bf16"], 1e-2) if kind.endswith("bf16") else (1, 1e-3)
    assert np.abs(found.astype(int) - wanted).max() <= limit
    assert np.mean((found >= 128) != (wanted >= 128)) < share
    # And the mask is needed for that, or this would show nothing.
    unmasked = eager.segment(np.where(valid, pixels, 114).astype(np.uint8), np.ones_like(valid))
    assert np.abs(unmasked.astype(int) - wanted)[valid[32:-32, 32:-32]].max() > 10


def test_turns_and_reflections_too(bundle_path: Path, exported: dict[str, Path]) -> None:
    pixels, valid = _tile(1, 2)
    eager = Segmenter.load(bundle_path, precision="fp32", device="cpu", tta="d4")
    other = Segmenter.load(exported["onnx-fp32"], device="cpu", tta="d4")
    difference = eager.segment(pixels, valid).astype(int) - other.segment(pixels, valid)
    assert np.abs(difference).max() <= 1


def test_onnxruntime_alone_needs_only_the_metadata(
    bundle_path: Path, exported: dict[str, Path]
) -> None:
    pixels, valid = _tile(1, 1)
    path = exported["onnx-fp32"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["everyroof"])
    mean, std = (np.array(facts["bundle"][name])[:, None, None] for name in ("mean", "std"))
    images = np.where(valid, (pixels / 255 - mean) / std, 0).astype(np.float32)
    inputs = {"images": images[None], "known": valid[None, None]}
    (probability,) = session.run(["probability"], inputs)
    assert probability.shape == (1, SIDE_PX, SIDE_PX)
    core = slice(facts["bundle"]["margin_px"], -facts["bundle"]["margin_px"])
    wanted = Segmenter.load(bundle_path, precision="fp32", device="cpu").segment(pixels, valid)
    found = np.where(valid, np.rint(255 * probability[0]), 0)[core, core]
    assert np.abs(found - wanted).max() <= 1
    assert session.get_inputs()[0].shape == ["batch", 3, SIDE_PX, SIDE_PX]


def test_other_windows(bundle_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.pt2"
    export_bundle(load_bundle(bundle_path), path, "pt2", window_px=32, margin_px=16)
    segmenter = Segmenter.load(path, device="cpu")
    assert (segmenter.window_px, segmenter.margin_px) == (32, 16)
    meta = read_meta(path)
    assert (meta.window_px, meta.margin_px) == (32, 16)


@pytest.mark.parametrize(("separation", "kind"), [("border", "onnx"), ("distance", "pt2")])
def test_every_way_of_keeping_neighbours_apart(
    separation: Separation, kind: ExportFormat, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    config = NetworkConfig(
        encoder="resnet18",
        encoder_depth=3,
        decoder_channels=(32, 16, 8),
        separation=separation,
        border_exponent=0.5,
    )
    network = build_network(config).eval()
    path, bands = tmp_path / "two.safetensors", ("red", "green", "blue")
    meta = BundleMeta(
        name="two",
        network=config,
        bands=bands,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        gsd_m=0.3,
        window_px=32,
        margin_px=16,
    )
    save_bundle(path, meta, network.state_dict())
    exported = tmp_path / f"two.{kind}"
    assert export_bundle(load_bundle(path), exported, kind).max_difference < 1e-4
    images = torch.randn(1, 3, 64, 64)
    engine = load_exported(exported).open(torch.device("cpu"), 1)
    with torch.inference_mode():
        wanted = config.probability(network(images))
        found = engine(images, torch.ones(1, 1, 64, 64, dtype=torch.bool))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_a_network_without_normalisations(tmp_path: Path) -> None:
    bundle = load_bundle(save_colour_bundle(tmp_path / "colour.safetensors", window_px=64))
    assert export_bundle(bundle, tmp_path / "colour.pt2", "pt2").max_difference < 1e-5


# --- what the file says --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pt2-fp32", "pt2-bf16", "onnx-fp32"])
def test_the_metadata_is_in_the_file(
    bundle_path: Path, exported: dict[str, Path], kind: str
) -> None:
    bundle, path = load_bundle(bundle_path), exported[kind]
    assert read_meta(path) == bundle.meta
    facts = read_export_facts(path)
    assert (facts.bundle_sha256, facts.precision) == (bundle.sha256, kind[-4:])
    assert f"{export_format(path)}-{facts.precision}" == kind


def test_an_archive_holds_no_pickle(exported: dict[str, Path]) -> None:
    with zipfile.ZipFile(exported["pt2-fp32"]) as archive:
        for name in archive.namelist():
            assert not archive.read(name).startswith((b"PK", b"\x80\x02")), name


def test_the_fingerprint_tells_engines_apart(bundle_path: Path, exported: dict[str, Path]) -> None:
    prints = [Segmenter.load(bundle_path, device="cpu").fingerprint]
    prints += [Segmenter.load(path, device="cpu").fingerprint for path in exported.values()]
    assert [one["engine"] for one in prints] == ["fused", "pt2", "pt2", "onnx"]
    assert len({json.dumps(one, sort_keys=True) for one in prints}) == 4
    assert prints[-1]["onnxruntime"] == onnxruntime.__version__
    assert prints[-1]["num_threads"] == torch.get_num_threads()


# --- refused -------------------------------------------------------------------------------------


def test_settings_that_the_file_does_not_have(exported: dict[str, Path]) -> None:
    for settings, message in (
        ({"window_px": 32}, "was exported for 64 and 32"),
        ({"precision": "bf16"}, "was exported in fp32"),
        ({"compile": True}, "needs a bundle"),
        ({"device": "mps"}, "for mps use the bundle"),
    ):
        with pytest.raises(SegmentError, match=message):
            Segmenter.load(exported["onnx-fp32"], **settings)


def test_requests_that_make_no_sense(bundle_path: Path, tmp_path: Path) -> None:
    bundle = load_bundle(bundle_path)
    with pytest.raises(ExportError, match=r"needs the suffix \.onnx"):
        export_bundle(bundle, tmp_path / "a.pt2", "onnx")
    with pytest.raises(ExportError, match="no such convolution"):
        export_bundle(bundle, tmp_path / "a.onnx", "onnx", precision="bf16")
    with pytest.raises(SegmentError, match="multiple of 8"):
        export_bundle(bundle, tmp_path / "a.onnx", "onnx", window_px=61)
    with pytest.raises(ExportError, match="cannot be written"):
        export_bundle(bundle, tmp_path / "absent" / "a.pt2", "pt2", window_px=16, margin_px=8)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_when_the_answers_differ(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(export.MAX_DIFFERENCE, "fp32", -1.0)
    with pytest.raises(ExportError, match="differs from the bundle"):
        export_bundle(load_bundle(bundle_path), tmp_path / "a.pt2", "pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_several_outputs(tmp_path: Path) -> None:
    """Not exported by its first output alone, which would be another answer."""
    register_architecture(
        "two-outputs",
        Architecture(build=lambda config: nn.Conv2d(3, 2, 1), stride_px=lambda config: 1),
    )
    path = tmp_path / "two.safetensors"
    meta = BundleMeta(
        name="two",
        network=NetworkConfig(architecture="two-outputs"),
        bands=("red", "green", "blue"),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        gsd_m=0.3,
        window_px=16,
        margin_px=0,
    )
    save_bundle(path, meta, nn.Conv2d(3, 2, 1).state_dict())
    with pytest.raises(ExportError, match="has 2 outputs"):
        export_bundle(load_bundle(path), tmp_path / "two.pt2", "pt2")


def test_parity_sees_a_difference(bundle_path: Path, exported: dict[str, Path]) -> None:
    bundle = load_bundle(bundle_path)
    bundle.state_dict["segmentation_head.0.bias"] += 0.1
    parity = check_parity(bundle, load_exported(exported["onnx-fp32"]))
    assert parity.max_difference == pytest.approx(0.025, abs=2e-3)  # the steepest slope, 0.25
    assert parity.share_flipped > 0


def test_another_bundles_file(exported: dict[str, Path], tmp_path: Path) -> None:
    other = load_bundle(save_colour_bundle(tmp_path / "colour.safetensors"))
    with pytest.raises(ExportError, match="made of another bundle"):
        check_parity(other, load_exported(exported["onnx-fp32"]))


@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_files_that_are_none(suffix: str, exported: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no exported network"):
        load_exported(tmp_path / f"absent.{suffix}")
    noise = tmp_path / f"noise.{suffix}"
    noise.write_bytes(b"no network at all")
    with pytest.raises(ExportError, match="cannot be"):
        Segmenter.load(noise)
    whole = exported[f"{suffix}-fp32"].read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExportError, match="cannot be"):
        Segmenter.load(cut)


def test_foreign_files(tmp_path: Path) -> None:
    network = nn.Conv2d(3, 1, 1)
    program = torch.export.export(network, (torch.zeros(1, 3, 8, 8),))
    torch.export.save(program, tmp_path / "foreign.pt2")
    with pytest.raises(ExportError, match="was not made by `everyroof bundle export`"):
        read_meta(tmp_path / "foreign.pt2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"export_version": 7}, "has version 7"),
        ({"precision": "int8"}, "'int8' is unknown"),
        ({"bundle": {"format_version": 9}}, "format version 9"),
        ({"bundle_sha256": None, "bundle": None}, "format version None"),
    ],
)
def test_metadata_that_does_not_fit(
    exported: dict[str, Path], changes: dict[str, object], message: str
) -> None:
    facts = read_export_facts(exported["pt2-fp32"])
    text = json.dumps({**json.loads(facts.to_json()), **changes})
    with pytest.raises(ExportError, match=message):
        type(facts).from_json(text)
    with pytest.raises(ExportError, match="does not fit"):
        type(facts).from_json("{}")


def test_an_export_is_no_bundle_to_change(exported: dict[str, Path]) -> None:
    for path in exported.values():
        with pytest.raises(BundleError, match="can be run, not changed"):
            load_bundle(path)


def test_without_the_extra(
    bundle_path: Path,
    exported: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r"pip install 'everyroof\[export\]'"):
        Segmenter.load(exported["onnx-fp32"])
    with pytest.raises(ExportError, match=r"pip install 'everyroof\[export\]'"):
        export_bundle(load_bundle(bundle_path), tmp_path / "a.onnx", "onnx")
    # An archive needs torch alone.
    Segmenter.load(exported["pt2-fp32"], device="cpu")
