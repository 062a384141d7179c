"""A bundle: one safetensors file with a network's weights and all that is needed to use them.

Its metadata holds one JSON text under the key `everyroof`: `format_version` and the fields of
`BundleMeta`. Nothing is unpickled; a file in which anything does not fit is refused.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from geo.atomic_files import write_atomically
from geo.rim import CONFIDENCES, Confidence
from model.bundle_file import METADATA_KEY, read_bytes, read_header
from model.errors import BundleError, ModelError
from model.unet import NetworkConfig, build_network
from model.uninitialised import Uninitialised
from model.windows import check_window

FORMAT_VERSION = 1
EXPORT_SUFFIXES = (".pt2", ".onnx")
"""What `model.export` writes; such files are run like bundles."""
_FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_MAX_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class BundleMeta:
    """What a bundle says about its weights.

    Raises:
        ValueError: if a field is out of its range or fields contradict each other.
        SegmentError: if the network cannot take windows of the given sides.
    """

    name: str
    """Name of the model; becomes `model_id` of the footprints."""
    network: NetworkConfig
    """How to build the network."""
    bands: tuple[str, ...]
    """Names of the bands in the order of the input, for example red, green, blue."""
    mean: tuple[float, ...]
    """Per band, on 0 to 1: subtracted from level / 255."""
    std: tuple[float, ...]
    """Per band, on 0 to 1: divides what is left."""
    gsd_m: float
    """Pixel size that the network expects, in metres."""
    threshold: float = 0.5
    """Probability from which a pixel is building."""
    valley_depth: float = 0.0
    """Neighbours are cut apart where the probability falls by this much between them
    (`geo.watershed`); the threshold may then be low. 0: nothing is cut."""
    confidence: Confidence = "mean"
    """Of a footprint, before calibration. `mean`: of the probability inside. `contrast`: that times
    one minus the mean just outside (`geo.rim`)."""
    window_px: int = 1024
    """Recommended side of a core."""
    margin_px: int = 128
    """Pixels around a core that the network should see."""
    erosion_px: int = 0
    """By how much labels were eroded in training; detections are grown back by it."""
    calibration: tuple[tuple[float, float], ...] = ()
    """Knots (raw, calibrated) of the confidence, both rising; empty leaves it as it is."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Free: data, licence, source, date and whatever else is known. JSON values only."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.name or not self.name.isprintable() or len(self.name) > 100:
            raise ValueError(f"name = {self.name!r}; expected 1 to 100 printable characters")
        self._check_bands()
        _check_range("gsd_m", self.gsd_m, 0.01, 100.0)
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold = {self.threshold}; expected between 0 and 1")
        if not 0.0 <= self.valley_depth < 1.0:
            raise ValueError(f"valley_depth = {self.valley_depth}; expected 0 to below 1")
        if self.confidence not in CONFIDENCES:
            raise ValueError(
                f"confidence = {self.confidence!r}; expected one of {', '.join(CONFIDENCES)}"
            )
        if not 0 <= self.erosion_px <= 100:
            raise ValueError(f"erosion_px = {self.erosion_px}; expected 0 to 100")
        check_window(self.window_px, self.margin_px, self.network.stride_px)
        self._check_calibration()

    def _check_bands(self) -> None:
        num_bands = len(self.bands)
        if num_bands != self.network.in_channels:
            raise ValueError(
                f"bands = {list(self.bands)}, but the network takes "
                f"{self.network.in_channels} channels"
            )
        if len(set(self.bands)) != num_bands or not all(self.bands):
            raise ValueError(f"bands = {list(self.bands)}; expected different names")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != num_bands:
                raise ValueError(
                    f"{name} = {list(values)}; expected one value for each of {num_bands} bands"
                )
        for value in self.mean:
            _check_range("mean", value, 0.0, 1.0)
        for value in self.std:
            _check_range("std", value, 1e-3, 10.0)

    def _check_calibration(self) -> None:
        knots = np.asarray(self.calibration, np.float64).reshape(-1, 2)
        if len(knots) == 0:
            return
        if not (np.isfinite(knots).all() and knots.min() >= 0.0 and knots.max() <= 1.0):
            raise ValueError(f"calibration = {knots.tolist()}; expected values in 0 to 1")
        raw, calibrated = np.diff(knots, axis=0).T
        if len(knots) < 2 or (raw <= 0).any() or (calibrated < 0).any():
            raise ValueError(
                f"calibration = {knots.tolist()}; expected two knots or more, raw values rising, "
                "calibrated values never falling"
            )

    @property
    def threshold_uint8(self) -> int:
        """The least uint8 probability that is building, 1 to 255."""
        return min(max(round(255 * self.threshold), 1), 255)

    @property
    def valley_depth_uint8(self) -> int:
        """The depth of a valley in uint8 probability, 1 to 255; 0: nothing is cut."""
        return max(round(255 * self.valley_depth), 1) if self.valley_depth > 0 else 0

    def calibrate(self, confidence: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Calibrated confidences of raw ones (0 to 1, any shape): straight lines between knots."""
        raw = np.asarray(confidence, np.float64)
        if not self.calibration:
            return raw.copy()
        knots = np.asarray(self.calibration, np.float64)
        return np.asarray(np.interp(raw, knots[:, 0], knots[:, 1]), np.float64)

    def to_json(self) -> str:
        """The metadata as it stands in the file: sorted keys, so that equal metadata is equal text.

        Raises:
            BundleError: if the provenance holds something that JSON cannot say.
        """
        fields = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        try:
            return json.dumps(fields, sort_keys=True, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise BundleError(f"provenance of {self.name!r} is not plain JSON: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> "BundleMeta":
        """Metadata of its text.

        Raises:
            BundleError: naming what does not fit.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the metadata is not JSON: {error}") from error
        version = fields.pop("format_version", None) if isinstance(fields, dict) else None
        if version != FORMAT_VERSION:
            raise BundleError(
                f"the bundle has format version {version!r}, this everyroof reads "
                f"{FORMAT_VERSION}; use the everyroof that wrote it, or a newer one"
            )
        try:
            network = NetworkConfig(**_typed(NetworkConfig, fields.pop("network")))
            return cls(network=network, **_typed(cls, fields))
        except KeyError as error:
            raise BundleError(f"the metadata lacks {error}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"the metadata does not fit: {error}") from error


def cut_words(meta: BundleMeta) -> str:
    """How neighbours are kept apart, for reports."""
    if meta.valley_depth == 0.0:
        return "as they come"
    return f"cut where the probability falls by {meta.valley_depth:g}"


def confidence_words(meta: BundleMeta) -> str:
    """What confidence is, for reports."""
    words = "mean probability inside"
    if meta.confidence == "contrast":
        words += " times one minus the mean just outside"
    return f"{words}, calibrated" if meta.calibration else words


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        meta: what it says about itself.
        state_dict: tensors by name, on the CPU, in the file's types; they fit the network.
        sha256: hexadecimal hash of the whole file, so of weights and metadata.
    """

    meta: BundleMeta
    state_dict: dict[str, Tensor]
    sha256: str

    @property
    def bundle_id(self) -> str:
        """Identifies the bundle in the hashes of tiles; the same as `sha256`."""
        return self.sha256

    def build(self) -> nn.Module:
        """The network with these weights: float32, on the CPU, in evaluation mode."""
        with Uninitialised():
            network = build_network(self.meta.network)
        network.load_state_dict(self.state_dict, strict=True)
        return network.float().eval()


def read_meta(path: str | os.PathLike[str]) -> BundleMeta:
    """Metadata of a bundle, or of an exported file of one; reads the file's header only.

    Raises:
        BundleError: if the file is no bundle, is truncated, or its metadata does not fit.
        ExportError: if it is an exported file that cannot be used.
    """
    path = Path(path)
    if path.suffix.lower() in EXPORT_SUFFIXES:
        # Here, since that module needs this one.
        from model.exported import read_export_facts

        return read_export_facts(path).meta
    metadata = read_header(path).get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get(METADATA_KEY), str):
        raise BundleError(
            f"{path} holds plain weights without everyroof's metadata; make a bundle of it with "
            f"`everyroof bundle import {path.name} OUT ...`"
        )
    try:
        return BundleMeta.from_json(metadata[METADATA_KEY])
    except ModelError as error:
        raise BundleError(f"{path}: {error}") from error


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Load a bundle and check every tensor of it.

    Raises:
        BundleError: if the file is no bundle or anything in it does not fit.
    """
    path = Path(path)
    if path.suffix.lower() in EXPORT_SUFFIXES:
        raise BundleError(
            f"{path} is an exported network: it can be run, not changed; use the bundle that it "
            "was made of"
        )
    meta = read_meta(path)
    content = read_bytes(path)
    tensors = _load_tensors(path, content)
    try:
        check_weights(meta.network, tensors)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    return Bundle(meta=meta, state_dict=tensors, sha256=hashlib.sha256(content).hexdigest())


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors of a plain safetensors file, or of a bundle.

    Raises:
        BundleError: if the file is none.
    """
    path = Path(path)
    read_header(path)
    return _load_tensors(path, read_bytes(path))


def save_bundle(
    path: str | os.PathLike[str], meta: BundleMeta, state_dict: Mapping[str, Tensor]
) -> str:
    """Write a bundle; the file appears whole or not at all, and an older one is replaced.

    The same metadata and weights give the same bytes.

    Args:
        path: where to.
        meta: its metadata.
        state_dict: weights that fit `meta.network`; float16, bfloat16 or float32, kept as they are.

    Returns:
        The file's sha256.

    Raises:
        BundleError: if the weights do not fit the network, or the file cannot be written.
    """
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    check_weights(meta.network, tensors)
    # Only one key: the order of several is random in the file.
    content = safetensors.torch.save(tensors, metadata={METADATA_KEY: meta.to_json()})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror or error}") from error
    return hashlib.sha256(content).hexdigest()


def check_weights(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> None:
    """Check that tensors are the network's weights: names, shapes, types, finite values.

    Raises:
        BundleError: naming the first tensors that do not fit.
    """
    try:
        # Not on the meta device: some encoders compute with values while they are built.
        with Uninitialised():
            expected = build_network(config).state_dict()
    except ModelError as error:
        raise BundleError(str(error)) from error
    _refuse("tensors are missing:", sorted(expected.keys() - tensors.keys()), config)
    _refuse(
        "there are tensors that the network does not have:",
        sorted(tensors.keys() - expected.keys()),
        config,
    )
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if tensors[name].shape != tensor.shape
    ]
    _refuse("tensors have the wrong shape:", wrong, config)
    wrong = [
        f"{name} {tensors[name].dtype}"
        for name, tensor in expected.items()
        if not _is_fitting_dtype(tensors[name].dtype, tensor.dtype)
    ]
    _refuse("tensors have the wrong type:", wrong, config)
    wrong = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    _refuse("values are not finite in", wrong, config)


def _is_fitting_dtype(actual: torch.dtype, expected: torch.dtype) -> bool:
    return actual in _FLOAT_DTYPES if expected.is_floating_point else actual == expected


def _refuse(what: str, names: list[str], config: NetworkConfig) -> None:
    """Raise where there are names, with the first few of them."""
    if not names:
        return
    named = ", ".join(names[:_MAX_NAMED])
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    kind = config.architecture
    if kind == "unet":
        kind = f"unet with encoder {config.encoder!r} and {config.in_channels} bands"
    raise BundleError(f"{what} {named}{more} (network: {kind})")


def _load_tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error


def _typed(cls: type, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields read from JSON for a dataclass: lists as tuples, every value of its declared type.

    Raises:
        TypeError: naming an unknown field or a value of another type.
    """
    declared = {item.name: item.type for item in dataclasses.fields(cls)}
    unknown = sorted(fields.keys() - declared.keys())
    if unknown:
        raise TypeError(f"{', '.join(unknown)}: not known here; a newer everyroof may know")
    typed = {name: _tuples(value, declared[name]) for name, value in fields.items()}
    for name, value in typed.items():
        if not _is_of_type(value, declared[name]):
            raise TypeError(f"{name} = {value!r}; expected {declared[name]}")
    return typed


def _tuples(value: Any, expected: Any) -> Any:
    """Lists as tuples, nested ones too, where tuples are expected."""
    if get_origin(expected) is not tuple or not isinstance(value, list):
        return value
    return tuple(_tuples(item, get_args(expected)[0]) for item in value)


def _is_of_type(value: Any, expected: Any) -> bool:
    """Whether a value has one of the types that bundles use."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        is_open = arguments[-1] is ...
        return (
            isinstance(value, tuple)
            and (is_open or len(value) == len(arguments))
            and all(_is_of_type(item, arguments[0]) for item in value)
        )
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or expected)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} = {value}; expected {low} to {high}")
