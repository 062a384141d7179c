import dataclasses
import hashlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from geo.errors import EveryroofError
from model.bundle import (
    BundleMeta,
    check_weights,
    load_bundle,
    read_meta,
    read_state_dict,
    save_bundle,
)
from model.bundle_file import METADATA_KEY
from model.colour_bundle import save_colour_bundle
from model.errors import BundleError, SegmentError
from model.pixel_net import colour_weights
from model.unet import NetworkConfig, build_network

RED = (178, 82, 60)


def _meta(**changes: object) -> BundleMeta:
    fields: dict[str, object] = {
        "name": "colour",
        "network": NetworkConfig(architecture="colour"),
        "bands": ("red", "green", "blue"),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "gsd_m": 0.3,
        "window_px": 64,
        "margin_px": 8,
    }
    return BundleMeta(**{**fields, **changes})  # type: ignore[arg-type]


def _weights() -> dict[str, torch.Tensor]:
    return colour_weights([RED], mean=(0.5,) * 3, std=(0.25,) * 3, tolerance=48.0, kernel_px=1)


def _write(path: Path, text: str | None, tensors: dict[str, torch.Tensor]) -> Path:
    """A safetensors file by hand, without any of our checks."""
    metadata = None if text is None else {METADATA_KEY: text}
    path.write_bytes(safetensors.torch.save(tensors, metadata=metadata))
    return path


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return save_colour_bundle(tmp_path / "colour.safetensors", roof_colours=[RED])


def test_everything_comes_back(tmp_path: Path) -> None:
    meta = _meta(
        threshold=0.4,
        erosion_px=1,
        calibration=((0.0, 0.1), (0.5, 0.5), (1.0, 0.9)),
        provenance={"licence": "CC BY 4.0", "data": ["a", {"b": 1.5}], "müller": None},
    )
    path = tmp_path / "bundle.safetensors"
    sha256 = save_bundle(path, meta, _weights())
    bundle = load_bundle(path)
    assert bundle.meta == meta == read_meta(path)
    assert bundle.sha256 == bundle.bundle_id == sha256
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert bundle.state_dict.keys() == _weights().keys()
    assert all(torch.equal(bundle.state_dict[name], tensor) for name, tensor in _weights().items())
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle.safetensors"]


def test_the_same_bundle_is_the_same_file(tmp_path: Path) -> None:
    reversed_weights = dict(reversed(_weights().items()))
    first = save_bundle(tmp_path / "a", _meta(), _weights())
    assert save_bundle(tmp_path / "b", _meta(), reversed_weights) == first
    assert save_bundle(tmp_path / "c", _meta(threshold=0.51), _weights()) != first


def test_reading_metadata_reads_no_tensors(bundle_path: Path) -> None:
    # Non-finite weights are found only when tensors are read.
    content = bytearray(bundle_path.read_bytes())
    content[-12:] = np.full(3, np.nan, np.float32).tobytes()
    bundle_path.write_bytes(content)
    assert read_meta(bundle_path).name == "colour"
    with pytest.raises(BundleError, match="not finite"):
        load_bundle(bundle_path)


def test_half_precision_weights_are_kept_and_built_in_float32(tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in _weights().items()}
    save_bundle(tmp_path / "half", _meta(), half)
    bundle = load_bundle(tmp_path / "half")
    assert {tensor.dtype for tensor in bundle.state_dict.values()} == {torch.float16}
    built = bundle.build().state_dict()
    assert {tensor.dtype for tensor in built.values()} == {torch.float32}
    assert all(torch.equal(built[name], half[name].float()) for name in half)


def test_threshold_is_where_the_rounded_probability_reaches_it() -> None:
    assert _meta(threshold=0.5).threshold_uint8 == 128
    assert _meta(threshold=0.001).threshold_uint8 == 1
    assert _meta(threshold=0.999).threshold_uint8 == 255
    assert _meta(threshold=0.4).threshold_uint8 == 102


def test_calibration_is_linear_between_knots() -> None:
    meta = _meta(calibration=((0.5, 0.4), (0.9, 0.8), (1.0, 1.0)))
    np.testing.assert_allclose(
        meta.calibrate([0.2, 0.5, 0.7, 0.95, 1.0]), [0.4, 0.4, 0.6, 0.9, 1.0], atol=1e-12
    )
    np.testing.assert_array_equal(_meta().calibrate([0.3, 0.8]), [0.3, 0.8])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name = ''"),
        ({"name": "a\nb"}, "printable"),
        ({"bands": ("red", "green")}, "takes 3 channels"),
        ({"bands": ("red", "green", "red")}, "different names"),
        ({"mean": (0.5, 0.5)}, "mean = .* 3 bands"),
        ({"mean": (0.5, 0.5, 120.0)}, r"mean = 120\.0"),
        ({"std": (0.25, 0.25, 0.0)}, r"std = 0\.0"),
        ({"std": (0.25, 0.25, float("nan"))}, "std = nan"),
        ({"gsd_m": 0.0}, r"gsd_m = 0\.0"),
        ({"gsd_m": float("inf")}, "gsd_m = inf"),
        ({"threshold": 1.0}, r"threshold = 1\.0"),
        ({"erosion_px": -1}, "erosion_px = -1"),
        ({"calibration": ((0.0, 0.0),)}, "two knots"),
        ({"calibration": ((0.0, 0.0), (0.0, 1.0))}, "rising"),
        ({"calibration": ((0.0, 0.5), (1.0, 0.4))}, "never falling"),
        ({"calibration": ((0.0, 0.0), (1.0, 1.5))}, "0 to 1"),
    ],
)
def test_metadata_out_of_range_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _meta(**changes)


def test_windows_must_fit_the_network() -> None:
    unet = NetworkConfig(encoder="resnet18")
    with pytest.raises(SegmentError, match=r"window_px = 1000 .* window_px = 992 fits"):
        _meta(network=unet, window_px=1000, margin_px=128)
    assert _meta(network=unet, window_px=992, margin_px=128).network.stride_px == 32


# Files that are no bundle.


def test_a_missing_file(tmp_path: Path) -> None:
    for read in (load_bundle, read_meta, read_state_dict):
        with pytest.raises(BundleError, match=r"no bundle at .*nowhere\.safetensors"):
            read(tmp_path / "nowhere.safetensors")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read: Is a directory"):
        load_bundle(tmp_path)


def test_bundle_errors_are_everyroof_errors() -> None:
    assert issubclass(BundleError, EveryroofError)


class _Trap:
    """Unpickling it would raise something else than BundleError."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_plain_pickle_is_named_and_not_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps({"weight": _Trap()}, protocol=protocol))
    with pytest.raises(BundleError, match=r"PyTorch pickle.* machine you trust"):
        load_bundle(path)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_torch_pickle_is_named(tmp_path: Path, is_zip: bool) -> None:
    buffer = io.BytesIO()
    torch.save(_weights(), buffer, _use_new_zipfile_serialization=is_zip)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(BundleError, match="PyTorch pickle"):
        load_bundle(path)


def test_a_header_that_begins_like_a_pickle_is_read(tmp_path: Path) -> None:
    """A header of 0x0280 bytes starts with the two bytes of a protocol 2 pickle."""
    path = tmp_path / "bundle"
    padding = 0
    while True:
        meta = _meta(provenance={"note": "x" * padding})
        save_bundle(path, meta, _weights())
        header_bytes = int.from_bytes(path.read_bytes()[:8], "little")
        if header_bytes % 0x10000 in (0x0280, 0x0380, 0x0480, 0x0580):
            break
        padding += 8
        assert padding < 2000
    assert path.read_bytes()[:1] == b"\x80"
    assert load_bundle(path).meta == meta


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x10", "not a safetensors file"),
        (b"GARBAGE!" * 20, "not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        ((10**9).to_bytes(8, "little") + b"{" + bytes(50), "header of 1000000000 bytes"),
        ((2**64 - 1).to_bytes(8, "little") + b"{}", "header of 18446744073709551615 bytes"),
        ((500).to_bytes(8, "little") + b'{"a": 1}', "truncated: its header alone has 500"),
        ((8).to_bytes(8, "little") + b"{nojson}", "not JSON"),
        ((8).to_bytes(8, "little") + b'{"a": 1}', "'a' wrongly"),
        ((20000).to_bytes(8, "little") + b'{"a":' + b"[" * 19995, "not JSON"),
        ((2).to_bytes(8, "little") + b"{}" + b"tail", "4 bytes after its tensors"),
    ],
)
def test_foreign_and_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    for read in (load_bundle, read_meta, read_state_dict):
        with pytest.raises(BundleError, match=message):
            read(path)


def test_every_truncation_is_refused(bundle_path: Path) -> None:
    content = bundle_path.read_bytes()
    for num_bytes in [*range(0, 64), *range(64, len(content), 37), len(content) - 1]:
        bundle_path.write_bytes(content[:num_bytes])
        with pytest.raises(BundleError):
            read_meta(bundle_path)
        with pytest.raises(BundleError):
            load_bundle(bundle_path)


def test_overlapping_tensors_are_refused(tmp_path: Path, bundle_path: Path) -> None:
    content = bundle_path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["score.bias"]["data_offsets"] = header["score.weight"]["data_offsets"]
    text = json.dumps(header).encode()
    bundle_path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(BundleError, match="damaged"):
        load_bundle(bundle_path)


def test_plain_weights_point_to_the_import(tmp_path: Path) -> None:
    path = _write(tmp_path / "plain.safetensors", None, _weights())
    with pytest.raises(BundleError, match=r"everyroof bundle import plain\.safetensors"):
        load_bundle(path)
    assert read_state_dict(path).keys() == _weights().keys()


def _change(**changes: object) -> str:
    fields = {**json.loads(_meta().to_json()), **changes}
    return json.dumps({key: value for key, value in fields.items() if value != "absent"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "format version None"),
        (_change(format_version=2), "format version 2, this everyroof reads 1"),
        (_change(format_version="absent"), "format version None"),
        (_change(network="absent"), "lacks 'network'"),
        (_change(gsd_m="absent"), "gsd_m"),
        (_change(colour_space="sRGB"), "colour_space: not known"),
        (_change(bands="red"), "bands = 'red'"),
        (_change(gsd_m="0.3"), "gsd_m = '0.3'"),
        (_change(window_px=64.5), r"window_px = 64\.5"),
        (_change(erosion_px=True), "erosion_px = True"),
        (_change(mean=["a", "b", "c"]), "mean = "),
        (_change(calibration=[[0, 0, 0], [1, 1, 1]]), "calibration = "),
        (_change(calibration=[0, 1]), "calibration = "),
        (_change(provenance=[]), "provenance = "),
        (_change(network=[]), "does not fit"),
        (_change(network={"architecture": "transformer"}), "'transformer' is unknown.*unet"),
        (_change(network={"architecture": "colour", "layers": 3}), "layers: not known"),
        (_change(network={"architecture": "colour", "kernel_px": 2}), "kernel_px = 2"),
        (_change(network={"decoder_attention": "cbam"}), "decoder_attention = 'cbam'"),
        (_change(network={"architecture": "colour", "in_channels": 4}), "takes 4 channels"),
        (_change(network={"architecture": "unet"}, window_px=60), "multiple of 32"),
    ],
)
def test_metadata_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    path = _write(tmp_path / "bad.safetensors", text, _weights())
    with pytest.raises(BundleError, match=message) as caught:
        read_meta(path)
    assert str(path) in str(caught.value)


def test_an_unknown_encoder(tmp_path: Path) -> None:
    text = _change(network={"encoder": "resnet19"}, window_px=64, margin_px=0)
    path = _write(tmp_path / "bad.safetensors", text, _weights())
    with pytest.raises(BundleError, match="encoder 'resnet19'"):
        load_bundle(path)


def _without(name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in _weights().items() if key != name}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (_without("score.bias"), "missing: score.bias"),
        ({}, r"missing: difference.bias, .* and 1 more"),
        ({**_weights(), "extra": torch.zeros(1)}, "does not have: extra"),
        (
            {**_weights(), "score.bias": torch.zeros(2)},
            r"wrong shape: score.bias \(2,\) instead of \(1,\)",
        ),
        ({**_weights(), "score.bias": torch.zeros(1, dtype=torch.int64)}, "wrong type: score.bias"),
        ({**_weights(), "score.bias": torch.zeros(1).double()}, "wrong type: score.bias"),
        ({**_weights(), "score.bias": torch.full((1,), torch.nan)}, "not finite in score.bias"),
        ({**_weights(), "score.bias": torch.full((1,), -torch.inf)}, "not finite in score.bias"),
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    path = _write(tmp_path / "bad.safetensors", _meta().to_json(), tensors)
    with pytest.raises(BundleError, match=message):
        load_bundle(path)
    with pytest.raises(BundleError, match=message):
        save_bundle(tmp_path / "never", _meta(), tensors)
    assert not (tmp_path / "never").exists()


def test_integer_buffers_keep_their_type() -> None:
    config = NetworkConfig(encoder="resnet18")
    tensors = {
        name: torch.zeros_like(tensor)
        for name, tensor in build_network(config).state_dict().items()
    }
    check_weights(config, tensors)
    counter = next(name for name in tensors if name.endswith("num_batches_tracked"))
    with pytest.raises(BundleError, match=f"wrong type: .*{counter}"):
        check_weights(config, {**tensors, counter: torch.zeros(())})


def test_provenance_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="provenance of 'colour'"):
        save_bundle(tmp_path / "never", _meta(provenance={"a": {1, 2}}), _weights())
    with pytest.raises(BundleError, match="provenance of 'colour'"):
        save_bundle(tmp_path / "never", _meta(provenance={"a": float("nan")}), _weights())


def test_saving_where_it_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be written"):
        save_bundle(tmp_path / "no" / "folder" / "bundle", _meta(), _weights())


def test_metadata_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _meta().name = "other"  # type: ignore[misc]
