"""Networks exported for other runtimes: torch.export archives (.pt2) and ONNX files (.onnx).

Such a file holds the whole computation of a window, from normalised image to probability, missing
ground included, and under the key `everyroof` one JSON text: the bundle's metadata, the windows it
was made for and its number type. Inputs are `images` (float32, N x bands x S x S, normalised with
the metadata's mean and std, 0 where nothing is known) and `known` (bool, N x 1 x S x S); the output
is `probability` (float32, N x S x S). S is window_px + 2 margin_px, N is free.

A bundle is safe to open, whoever made it. A .pt2 archive is not: torch may unpickle parts of it,
which can run code. Open only those that you trust.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from model.bundle import BundleMeta
from model.bundle_file import METADATA_KEY
from model.devices import Device, pick_device
from model.errors import ExportError, ModelError, SegmentError

ExportFormat = Literal["pt2", "onnx"]
ExportPrecision = Literal["fp32", "bf16"]
Engine = Callable[[Tensor, Tensor], Tensor]
"""(images, known) to probability; all on the engine's device."""

EXPORT_VERSION = 1
PT2_EXTRA_FILE = f"{METADATA_KEY}.json"
IMAGES, KNOWN, PROBABILITY = "images", "known", "probability"


@dataclass(frozen=True, kw_only=True)
class ExportFacts:
    """What an exported file says about itself.

    Attributes:
        meta: the bundle's metadata; `window_px` and `margin_px` are those of the file.
        precision: number type of the layers.
        bundle_sha256: hash of the bundle that it was made of.
    """

    meta: BundleMeta
    precision: ExportPrecision
    bundle_sha256: str

    @property
    def input_px(self) -> int:
        """Side of a network input."""
        return self.meta.window_px + 2 * self.meta.margin_px

    def to_json(self) -> str:
        """The text that stands in the file."""
        fields = {
            "export_version": EXPORT_VERSION,
            "precision": self.precision,
            "bundle_sha256": self.bundle_sha256,
            "bundle": json.loads(self.meta.to_json()),
        }
        return json.dumps(fields, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ExportFacts":
        """Facts of their text.

        Raises:
            ExportError: naming what does not fit.
        """
        try:
            fields = json.loads(text)
            version = fields["export_version"]
            if version != EXPORT_VERSION:
                raise ExportError(
                    f"the export has version {version!r}, this everyroof reads {EXPORT_VERSION}; "
                    "export the bundle again"
                )
            if fields["precision"] not in get_args(ExportPrecision):
                raise ExportError(f"precision = {fields['precision']!r} is unknown")
            meta = BundleMeta.from_json(json.dumps(fields["bundle"]))
            return cls(
                meta=meta,
                precision=fields["precision"],
                bundle_sha256=str(fields["bundle_sha256"]),
            )
        except ModelError as error:
            raise ExportError(str(error)) from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ExportError(f"the export's metadata does not fit: {error}") from error


@dataclass(frozen=True)
class ExportedBundle:
    """An exported file, as `Segmenter` takes it in place of a bundle.

    Attributes:
        path: the file.
        format: what it is.
        facts: what it says about itself.
        sha256: hexadecimal hash of the file.
    """

    path: Path
    format: ExportFormat
    facts: ExportFacts
    sha256: str

    @property
    def meta(self) -> BundleMeta:
        """The bundle's metadata, with the windows of the file."""
        return self.facts.meta

    @property
    def bundle_id(self) -> str:
        """Identifies the file in the hashes of tiles; the same as `sha256`."""
        return self.sha256

    def check_settings(
        self, window_px: int, margin_px: int, precision: str, *, has_compile: bool
    ) -> None:
        """Refuse settings that the file does not have.

        Raises:
            SegmentError: naming the setting and what the file has.
        """
        meta, name = self.facts.meta, self.path.name
        if (window_px, margin_px) != (meta.window_px, meta.margin_px):
            raise SegmentError(
                f"window_px = {window_px}, margin_px = {margin_px}, but {name} was exported for "
                f"{meta.window_px} and {meta.margin_px}; leave them out, or export with these"
            )
        if precision not in ("auto", self.facts.precision):
            raise SegmentError(
                f"precision = {precision!r}, but {name} was exported in {self.facts.precision}; "
                "leave it out, or export in another one"
            )
        if has_compile:
            raise SegmentError(f"compile = true needs a bundle; {name} is an exported network")

    def pick_device(self, device: Device) -> torch.device:
        """The device to run on; `auto` takes CUDA where the runtime has it, else the CPU.

        Raises:
            SegmentError: if the device, or the runtime for it, is not there.
        """
        if device == "mps":
            raise SegmentError(f"{self.path.name} runs on cpu or cuda; for mps use the bundle")
        has_cuda = torch.cuda.is_available() and (
            self.format == "pt2"
            or "CUDAExecutionProvider" in _onnx_runtime().get_available_providers()
        )
        if device == "auto":
            device = "cuda" if has_cuda else "cpu"
        if device == "cuda" and torch.cuda.is_available() and not has_cuda:
            raise SegmentError(
                "this onnxruntime has no CUDA; install onnxruntime-gpu, or use device: cpu"
            )
        return pick_device(device)

    def open(self, device: torch.device, num_threads: int) -> Engine:
        """Make the network ready.

        Args:
            device: where to run it.
            num_threads: threads of one pass on a CPU; a .pt2 takes torch's own number.

        Raises:
            ExportError: if the file cannot be opened.
        """
        if self.format == "pt2":
            return _open_pt2(self.path, device)
        return _open_onnx(self.path, device, num_threads)

    def runtime_facts(self) -> dict[str, Any]:
        """What the bits of a result depend on besides device and file."""
        version = {} if self.format == "pt2" else {"onnxruntime": _onnx_runtime().__version__}
        return {"engine": self.format, **version}


def export_format(path: str | os.PathLike[str]) -> ExportFormat | None:
    """What an exported file is, by its suffix; None for a bundle and anything else."""
    formats: dict[str, ExportFormat] = {".pt2": "pt2", ".onnx": "onnx"}
    return formats.get(Path(path).suffix.lower())


def load_exported(path: str | os.PathLike[str]) -> ExportedBundle:
    """Read an exported file's metadata and hash; the network itself is opened later.

    Raises:
        ExportError: if the file is missing, none, or was not made by everyroof.
    """
    path = Path(path)
    facts = read_export_facts(path)
    kind = export_format(path)
    assert kind is not None
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedBundle(path=path, format=kind, facts=facts, sha256=sha256)


def read_export_facts(path: str | os.PathLike[str]) -> ExportFacts:
    """What an exported file says about itself; nothing in it is run or unpickled.

    Raises:
        ExportError: if the file is missing, none, or was not made by everyroof.
    """
    path = Path(path)
    if not path.is_file():
        raise ExportError(f"there is no exported network at {path}")
    text = _pt2_text(path) if export_format(path) == "pt2" else _onnx_text(path)
    try:
        return ExportFacts.from_json(text)
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error


def _pt2_text(path: Path) -> str:
    """The metadata of a .pt2, which is a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(f"/extra/{PT2_EXTRA_FILE}"):
                    return archive.read(name).decode()
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} cannot be read as a torch.export archive: {error}") from error
    raise ExportError(
        f"{path} was not made by `everyroof bundle export`: it has no {PT2_EXTRA_FILE}"
    )


def _onnx_text(path: Path) -> str:
    """The metadata of an ONNX file."""
    options = _onnx_runtime().SessionOptions()
    # Nothing is run here, so nothing need be optimised.
    options.graph_optimization_level = _onnx_runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
    session = _onnx_session(path, options, ["CPUExecutionProvider"])
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in metadata:
        raise ExportError(
            f"{path} was not made by `everyroof bundle export`: it has no {METADATA_KEY!r}"
        )
    return metadata[METADATA_KEY]


def _open_pt2(path: Path, device: torch.device) -> Engine:
    try:
        program = torch.export.load(path)
    except Exception as error:
        # Whatever torch raises for a damaged archive, and it raises many things.
        raise ExportError(f"{path} cannot be opened by torch.export: {error}") from error
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module: Engine = program.module()
    return module


def _open_onnx(path: Path, device: torch.device, num_threads: int) -> Engine:
    options = _onnx_runtime().SessionOptions()
    options.intra_op_num_threads = num_threads
    kind = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    session = _onnx_session(path, options, [kind])

    def run(images: Tensor, known: Tensor) -> Tensor:
        # Through host memory: windows are small beside the work done on them.
        inputs = {IMAGES: images.cpu().numpy(), KNOWN: known.cpu().numpy()}
        return torch.from_numpy(session.run([PROBABILITY], inputs)[0]).to(device)

    return run


def _onnx_session(path: Path, options: Any, providers: list[str]) -> Any:
    runtime = _onnx_runtime()
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        # onnxruntime's errors have no base of their own.
        raise ExportError(f"{path} cannot be opened by onnxruntime: {error}") from error


def _onnx_runtime() -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise ExportError("ONNX files need onnxruntime: pip install 'everyroof[export]'") from error
    return onnxruntime
