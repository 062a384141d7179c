"""Segmenter: a tile's pixels to probabilities, window by window, in batches of one fixed size."""

import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geo.pixel_window import PixelWindow
from model.bundle import Bundle, BundleMeta, load_bundle
from model.cores import CoreProbability, join_cores
from model.devices import (
    DTYPES,
    Device,
    Precision,
    default_batch_size,
    device_fingerprint,
    is_out_of_memory,
    is_thread_free,
    pick_device,
    pick_precision,
    stable_num_threads,
)
from model.errors import SegmentError
from model.exported import Engine, ExportedBundle, export_format, load_exported
from model.folding import fold_batch_norms
from model.masking import LayerMasking, masks_nothing
from model.tta import NUM_SYMMETRIES, apply_symmetry, mean_to_uint8, to_fixed_point, undo_symmetry
from model.windows import check_window, plan_cores

logger = logging.getLogger(__name__)

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """How the network is run."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    device: Device = "auto"
    """`auto` takes CUDA, then MPS, then the CPU."""
    precision: Precision = "auto"
    """`auto` takes bf16 where the device has instructions for it."""
    window_px: int | None = None
    """Side of a core; a tile is a whole number of cores. None takes the bundle's (mostly 1024)."""
    margin_px: int | None = None
    """Pixels seen around a core. None takes the bundle's (mostly 128)."""
    batch_size: int | None = None
    """Windows per batch. None takes 1 on a CPU, on a GPU what half of its memory holds."""
    tta: Literal["none", "d4"] = "none"
    """`d4` averages over the eight turns and reflections: eight times the work."""
    compile: bool = False
    """Use torch.compile: about 10 % faster on a CPU, after half a minute of compiling."""
    num_threads: int | None = None
    """Threads of one forward pass on a CPU. None takes torch's number rounded down to a power of
    two: these give equal bits. Others now and then do not, so they enter the fingerprint."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, low in (
            ("window_px", 1),
            ("margin_px", 0),
            ("batch_size", 1),
            ("num_threads", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} = {value}; expected at least {low}, or none")


@dataclass
class SegmentStats:
    """What a segmenter has done so far.

    Attributes:
        batch_size: windows per batch now.
        num_windows: windows that went through the network.
        num_skipped: cores without a valid pixel.
        num_padding: empty windows that filled batches up.
        num_halvings: how often the batch was halved because memory ran out.
    """

    batch_size: int
    num_windows: int = 0
    num_skipped: int = 0
    num_padding: int = 0
    num_halvings: int = 0


class Segmenter:
    """A network, ready to turn tiles into probabilities.

    One per process; it may be called from several threads, which then take turns, so that memory
    holds one forward pass. A window's bits do not depend on its place in the batch nor on what else
    is in it. On a CPU, with windows of a sensible size, they depend neither on the batch size nor
    on the number of threads, as long as that is a power of two (`model.devices.is_thread_free`).
    `fingerprint` tells what they do depend on. The number of threads is torch's own, so it holds
    for the whole process.

    Args:
        bundle: weights and metadata, or an exported file (`model.export`), whose windows and number
            type are fixed.
        config: how to run them.

    Raises:
        SegmentError: if the windows do not fit the network or the device is not available.
        ExportError: if an exported file cannot be opened.
    """

    def __init__(self, bundle: Bundle | ExportedBundle, config: SegmentConfig) -> None:
        meta = bundle.meta
        self.bundle = bundle
        self.window_px = meta.window_px if config.window_px is None else config.window_px
        self.margin_px = meta.margin_px if config.margin_px is None else config.margin_px
        check_window(self.window_px, self.margin_px, meta.network.stride_px)
        if isinstance(bundle, ExportedBundle):
            bundle.check_settings(
                self.window_px, self.margin_px, config.precision, has_compile=config.compile
            )
            self.device = bundle.pick_device(config.device)
            self.precision: str = bundle.facts.precision
        else:
            self.device = pick_device(config.device)
            self.precision = pick_precision(config.precision, self.device)
        self.reach_px = self._needed_reach_px(meta)
        self.config = config
        self.stats = SegmentStats(
            batch_size=config.batch_size or default_batch_size(self.device, self._input_px)
        )
        self.num_threads = config.num_threads or stable_num_threads(torch.get_num_threads())
        torch.set_num_threads(self.num_threads)
        self._lock = threading.Lock()
        self._exported: Engine | None = None
        self._num_folded = 0
        if isinstance(bundle, ExportedBundle):
            self._exported = bundle.open(self.device, self.num_threads)
        else:
            self._network, self._masking, self._num_folded = self._prepare_network(bundle)
        # (level / 255 - mean) / std as one multiplication and one addition.
        mean, std = np.asarray(meta.mean), np.asarray(meta.std)
        self._scale = self._per_band(1.0 / (255.0 * std))
        self._shift = self._per_band(-mean / std)
        self.fingerprint = self._make_fingerprint()

    @classmethod
    def load(
        cls,
        bundle_path: str | os.PathLike[str],
        config: SegmentConfig | None = None,
        **settings: Any,
    ) -> "Segmenter":
        """Load a bundle and make it ready.

        Args:
            bundle_path: the bundle, or an exported file of it (.pt2, .onnx).
            config: how to run it; None takes the defaults.
            settings: fields of `SegmentConfig` that replace those of `config`.

        Raises:
            BundleError: if the file is no usable bundle.
            ExportError: if it is an exported file that cannot be used.
            SegmentError: if the windows do not fit the network or the device is not available.
        """
        _use_huge_pages()
        config = dataclasses.replace(config or SegmentConfig(), **settings)
        if export_format(bundle_path) is not None:
            return cls(load_exported(bundle_path), config)
        return cls(load_bundle(bundle_path), config)

    def segment(
        self, pixels: UInt8Array, valid: BoolArray, *, active: BoolArray | None = None
    ) -> UInt8Array:
        """Probability of building for every pixel of a tile.

        Args:
            pixels: uint8, shape (bands, H + 2m, W + 2m), m being the margin; H and W whole numbers
                of cores. Not changed.
            valid: bool, shape (H + 2m, W + 2m); where False the pixel's value is not looked at and
                the network sees the bundle's mean colour.
            active: which cores to segment, bool, shape (H / window_px, W / window_px); None: all.
                The others come out as 0, though windows beside them see their pixels.

        Returns:
            uint8, shape (H, W): round(255 * probability), 0 where not valid.

        Raises:
            ValueError: if the arrays do not fit the bundle or each other.
            SegmentError: if memory does not even hold one window.
        """
        margin = self.margin_px
        height, width = (side - 2 * margin for side in valid.shape)
        return join_cores(self.segment_cores(pixels, valid, active=active), (height, width))

    def segment_cores(
        self, pixels: UInt8Array, valid: BoolArray, *, active: BoolArray | None = None
    ) -> list[CoreProbability]:
        """The same by core, each with `reach_px` pixels around it as its own window sees them.

        Args:
            pixels: as `segment` takes them.
            valid: likewise.
            active: likewise.

        Returns:
            The cores that have a valid pixel, in scan order.

        Raises:
            ValueError: if the arrays do not fit the bundle or each other.
            SegmentError: if memory does not even hold one window.
        """
        self._check_arrays(pixels, valid)
        cores, num_skipped = plan_cores(valid, self.window_px, self.margin_px, active=active)
        with self._lock:
            self.stats.num_skipped += num_skipped
            results = self._run(cores, pixels, valid)
        for core, values in results:
            values[~valid[self.surroundings(core)]] = 0
        return [CoreProbability(core, values) for core, values in results]

    def forward_bare(self, images: Tensor, known: Tensor | None) -> Tensor:
        """Logits of windows that are normalised already: the network of a bundle and nothing else.

        What a benchmark holds the rest against.

        Args:
            images: (N, bands, side, side) on the device, in the network's number type, channels
                last; N is the batch size.
            known: bool, shape (N, 1, side, side), False where ground is missing; None: nowhere.
        """
        with torch.inference_mode(), self._exact_convolutions(), self._masking.using(known):
            return self._network(images)

    def surroundings(self, core: PixelWindow) -> tuple[slice, slice]:
        """A core with what is seen around it, as slices of a tile with its margin."""
        first, side = self.margin_px - self.reach_px, self.window_px + 2 * self.reach_px
        row, col = core.row_off + first, core.col_off + first
        return slice(row, row + side), slice(col, col + side)

    def _needed_reach_px(self, meta: BundleMeta) -> int:
        # The rim of a core's last pixels lies beyond it.
        for_rim = min(self.margin_px, 1) if meta.confidence == "contrast" else 0
        # Where neighbours are cut apart the window is looked at beyond its core, as far as the
        # network still knows what it says: half of the margin.
        for_cuts = self.margin_px // 2 if meta.valley_depth > 0 else 0
        return max(for_rim, for_cuts)

    @property
    def _inner(self) -> slice:
        """Rows, or columns, of a window that are looked at: the core, or somewhat more."""
        first = self.margin_px - self.reach_px
        return slice(first, self._input_px - first)

    @property
    def _input_px(self) -> int:
        """Side of a network input."""
        return self.window_px + 2 * self.margin_px

    def _prepare_network(
        self, bundle: Bundle
    ) -> tuple[Callable[[Tensor], Tensor], LayerMasking, int]:
        """The network on its device, folded and in its precision; its masking; folded layers."""
        folded, num_folded = fold_batch_norms(bundle.build())
        folded = folded.to(device=self.device, dtype=DTYPES[self.precision])
        # mypy does not know this overload of Module.to.
        network = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        masking = LayerMasking(network)
        if self.config.compile:
            return torch.compile(network, dynamic=False), masking, num_folded
        return network, masking, num_folded

    def _per_band(self, values: npt.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).view(1, -1, 1, 1).to(self.device)

    def _make_fingerprint(self) -> dict[str, Any]:
        is_free = is_thread_free(self.device, self.precision, self._input_px, self.num_threads)
        engine: dict[str, Any] = {"engine": "eager"}
        if isinstance(self.bundle, ExportedBundle):
            engine = self.bundle.runtime_facts()
            is_free = is_free and self.bundle.format == "pt2"
        return {
            **device_fingerprint(self.device),
            **engine,
            "num_threads": "any power of two" if is_free else self.num_threads,
            "bundle": self.bundle.bundle_id,
            "precision": self.precision,
            "window_px": self.window_px,
            "margin_px": self.margin_px,
            "batch_size": self.stats.batch_size,
            "tta": self.config.tta,
            "compile": self.config.compile,
            "num_folded": self._num_folded,
            "missing_ground": "zero at every layer",
        }

    def _check_arrays(self, pixels: UInt8Array, valid: BoolArray) -> None:
        num_bands = len(self.bundle.meta.bands)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != num_bands:
            raise ValueError(
                f"pixels are {pixels.dtype} of shape {pixels.shape}; expected uint8 with "
                f"{num_bands} bands {list(self.bundle.meta.bands)} first"
            )
        if valid.dtype != np.bool_ or valid.shape != pixels.shape[1:]:
            raise ValueError(
                f"valid is {valid.dtype} of shape {valid.shape}; expected bool of shape "
                f"{pixels.shape[1:]}"
            )

    def _run(
        self, cores: list[PixelWindow], pixels: UInt8Array, valid: BoolArray
    ) -> list[tuple[PixelWindow, UInt8Array]]:
        """Probabilities of all cores; halves the batch and goes on when memory runs out."""
        results: list[Tensor] = []
        done = 0
        while done < len(cores):
            batch = cores[done : done + self.stats.batch_size]
            error = self._try_batch(batch, pixels, valid, results)
            if error is None:
                done += len(batch)
            else:
                # Outside the except block, since a live traceback keeps the tensors alive.
                self._halve_batch(error)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        self.stats.num_windows += len(cores)
        arrays = (array for result in results for array in result.numpy())
        return list(zip(cores, arrays, strict=True))

    def _try_batch(
        self,
        batch: list[PixelWindow],
        pixels: UInt8Array,
        valid: BoolArray,
        results: list[Tensor],
    ) -> str | None:
        """Append a batch's probabilities; the message when memory ran out, else None."""
        try:
            levels, mask, is_whole = self._stage(batch, pixels, valid)
            with torch.inference_mode(), self._exact_convolutions():
                probability = self._forward(levels, mask, is_whole)[: len(batch)]
            # On CUDA this lands in pinned memory; `_run` waits for it once, at the end.
            is_cuda = self.device.type == "cuda"
            results.append(probability.to("cpu", non_blocking=is_cuda))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return str(error)
        self.stats.num_padding += levels.shape[0] - len(batch)
        return None

    def _halve_batch(self, reason: str) -> None:
        if self.stats.batch_size == 1:
            raise SegmentError(
                f"memory does not hold one window of {self._input_px} px on {self.device}; lower "
                f"window_px or free memory ({reason})"
            )
        self.stats.batch_size //= 2
        self.stats.num_halvings += 1
        logger.warning(
            "out of memory on %s: batches of %d windows from now on (%s)",
            self.device,
            self.stats.batch_size,
            reason.splitlines()[0],
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _stage(
        self, batch: list[PixelWindow], pixels: UInt8Array, valid: BoolArray
    ) -> tuple[Tensor, Tensor, bool]:
        """Windows of a batch on the device: uint8 (N, bands, h, w) and bool (N, 1, h, w).

        The third value tells whether every pixel of the batch's windows is valid. N is always the
        batch size; what is left over is invalid. On CUDA the copies start from pinned memory and
        nothing waits for them; torch keeps that memory until they are done.
        """
        is_cuda = self.device.type == "cuda"
        size, side = self.stats.batch_size, self._input_px
        levels = torch.zeros((size, len(pixels), side, side), dtype=torch.uint8, pin_memory=is_cuda)
        mask = torch.zeros((size, 1, side, side), dtype=torch.bool, pin_memory=is_cuda)
        for index, core in enumerate(batch):
            rows = slice(core.row_off, core.row_off + side)
            cols = slice(core.col_off, core.col_off + side)
            levels.numpy()[index] = pixels[:, rows, cols]
            mask.numpy()[index, 0] = valid[rows, cols]
        return (
            levels.to(self.device, non_blocking=is_cuda),
            mask.to(self.device, non_blocking=is_cuda),
            masks_nothing(mask[: len(batch)]),
        )

    def _forward(self, levels: Tensor, mask: Tensor, is_whole: bool) -> Tensor:
        """uint8 probabilities (N, side, side) of the inner part of staged windows, there."""
        images = levels.to(torch.float32).mul_(self._scale).add_(self._shift)
        if not is_whole:
            # The mean colour is 0 after normalising.
            images.masked_fill_(~mask, 0.0)
        if self._exported is None:
            images = images.to(DTYPES[self.precision])
        if self.config.tta == "none":
            known = None if is_whole else mask
            return torch.round(self._probability(images, known).mul_(255.0)).to(torch.uint8)
        total: Tensor | None = None
        for index in range(NUM_SYMMETRIES):
            known = None if is_whole else apply_symmetry(mask, index)
            turned = self._probability(apply_symmetry(images, index), known)
            term = undo_symmetry(to_fixed_point(turned), index)
            total = term if total is None else total.add_(term)
        assert total is not None
        return mean_to_uint8(total)

    def _probability(self, images: Tensor, known: Tensor | None) -> Tensor:
        """float32 probabilities (N, side, side) of the inner part of normalised windows."""
        if self._exported is not None:
            return self._run_exported(self._exported, images, known)
        with self._masking.using(known):
            logits = self._network(images.contiguous(memory_format=torch.channels_last))
        return self.bundle.meta.network.probability(logits[:, :, self._inner, self._inner])

    def _run_exported(self, engine: Engine, images: Tensor, known: Tensor | None) -> Tensor:
        """The same from an exported network, which sees windows in float32 and always a mask."""
        if known is None:
            known = torch.ones_like(images[:, :1], dtype=torch.bool)
        return engine(images, known)[:, self._inner, self._inner]

    def _exact_convolutions(self) -> contextlib.AbstractContextManager[None]:
        """On CUDA the same algorithm each time, and no TF32 in fp32."""
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        return torch.backends.cudnn.flags(  # type: ignore[no-untyped-call]
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )


def _use_huge_pages() -> None:
    """Ask torch for huge pages, before its first allocation.

    A forward pass allocates and frees more than a gigabyte; with pages of 4 KiB faulting them in
    takes 15 % of the time. Linux only; elsewhere torch ignores the setting.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
