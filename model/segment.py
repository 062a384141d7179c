"""Segmenter: a tile's pixels to probabilities, window by window, in batches of one fixed size."""

import contextlib
import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geo.missing_ground import ValidBox
from geo.pixel_window import PixelWindow
from model.bundle import Bundle, BundleMeta, load_bundle
from model.cores import CoreProbability, join_cores
from model.cores_under_way import CoresUnderWay, NetworkThread, NothingToDo, UnderWay
from model.crops import pick_crop
from model.devices import (
    DTYPES,
    MIN_STABLE_CROP_PX,
    default_batch_size,
    device_fingerprint,
    is_thread_free,
    pick_device,
    pick_precision,
    stable_num_threads,
)
from model.errors import SegmentError
from model.exported import Engine, ExportedBundle, export_format, load_exported
from model.first_look import FirstLook
from model.quantise import Quantiser, to_bytes
from model.segment_config import SegmentConfig, SegmentStats
from model.staging import DeviceStage, StagedWindows, TableStage, Window
from model.streams import default_num_streams
from model.tta import NUM_SYMMETRIES, apply_symmetry, mean_to_uint8, to_fixed_point, undo_symmetry
from model.window_batches import WindowBatches
from model.window_network import Slices, WindowNetwork
from model.windows import FIRST_LOOK_FACTOR, check_first_look, check_window, plan_cores

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
_ALL = (slice(None), slice(None))
_Levels = tuple[Tensor, PixelWindow]
"""Levels of a batch, and of what part of its windows they are."""
_Done = list[tuple[Sequence[PixelWindow], _Levels | None]]
"""Batches of cores, and their levels; None for what a first look left out."""


class Segmenter:
    """A network, ready to turn tiles into probabilities.

    One per process; it may be called from several threads, which then take turns, so that memory
    holds no more forward passes than there are streams. A window's bits do not depend on its place
    in the batch, on what else is in it, nor on the streams. On a CPU, with windows of a sensible
    size, they depend neither on the batch size nor on the number of threads, as long as that is a
    power of two (`model.devices.is_thread_free`).
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
        # One for the network, one for what is counted: who begins does not wait for who runs.
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._thread = NetworkThread()
        self._exported: Engine | None = None
        if isinstance(bundle, ExportedBundle):
            self._exported = bundle.open(self.device, self.num_threads)
        else:
            self._network = self._prepare_network(bundle)
        self._quantiser = Quantiser(meta.network)
        self.stats.num_streams = self._pick_num_streams()
        self._batches = WindowBatches(
            input_px=self._input_px,
            device=self.device,
            num_threads=self.num_threads,
            stats=self.stats,
        )
        # One for each stream, and one for what runs alone.
        num_stages = self.stats.num_streams + 1
        self._stages = [self._make_stage(meta) for _ in range(num_stages)]
        self._look = self._make_first_look(meta)
        if self._look is not None:
            self._look_stages = [
                self._make_stage(meta, FIRST_LOOK_FACTOR) for _ in range(num_stages)
            ]
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
            The cores that have a valid pixel, in scan order; without those that a first look found
            empty.

        Raises:
            ValueError: if the arrays do not fit the bundle or each other.
            SegmentError: if memory does not even hold one window.
        """
        cores = self._plan(pixels, valid, active)
        return self._finish(self._take_turn(cores, pixels, valid), cores, valid)

    def begin_cores(
        self,
        pixels: UInt8Array,
        valid: BoolArray,
        *,
        active: BoolArray | None = None,
        is_last: bool = False,
    ) -> CoresUnderWay:
        """Begin to segment cores in other threads, behind those of tiles begun before.

        So that the network goes on with the next tile while this one's results are fetched.

        Args:
            pixels: as `segment` takes them; not to be changed before the end.
            valid: likewise.
            active: as `segment` takes it.
            is_last: no tile follows, as far as one knows. Changes no bits.

        Returns:
            What waits for the result of `segment_cores`.

        Raises:
            ValueError: if the arrays do not fit the bundle or each other.
        """
        cores = self._plan(pixels, valid, active)

        def take_turn() -> _Done:
            return self._take_turn(cores, pixels, valid)

        run: Callable[[int, Sequence[Window]], _Levels | None] = self._run_batch
        if self._look is not None and self.stats.batch_size == 1:
            run = self._look_and_run
        work: UnderWay | None = None
        if not cores:
            work = NothingToDo()
        elif self._look is None or self.stats.batch_size == 1:
            work = self._batches.begin(run, cores, pixels, valid, is_last=is_last, again=take_turn)
        if work is None:
            work = self._thread.begin(take_turn)
        return CoresUnderWay(work, lambda done: self._finish(done, cores, valid), len(cores))

    def look(self, pixels: UInt8Array, valid: BoolArray) -> dict[PixelWindow, int]:
        """Only the first look: the highest level (round(255 * probability)) it shows of each core.

        Args:
            pixels: as `segment` takes them.
            valid: likewise.

        Raises:
            ValueError: if the arrays do not fit the bundle or each other, or no look is set.
            SegmentError: if memory does not even hold one window.
        """
        if self._look is None:
            raise ValueError("first_look is None; expected a level, or there is no first look")
        self._check_arrays(pixels, valid)
        cores, _ = plan_cores(valid, self.window_px, self.margin_px)
        with self._lock:
            return self._first_levels(cores, pixels, valid)

    def stage_window(self, pixels: UInt8Array, valid: BoolArray) -> tuple[StagedWindows, Slices]:
        """One window as the network gets it, and what of it is looked at, for benchmarks.

        Args:
            pixels: uint8, shape (bands, side, side).
            valid: bool, shape (side, side).
        """
        staged = self._stages[-1].stage([(pixels, valid)], 1)
        seen = self._inner.intersect(staged.part).within(staged.part)
        known = None if staged.known is None else staged.known.clone()
        # The next window would be staged into the same memory.
        return StagedWindows(staged.images.clone(), known, staged.part), seen

    def forward_bare(self, windows: Sequence[tuple[StagedWindows, Slices]]) -> list[Tensor]:
        """Logits of staged windows from the very network of `segment`, and nothing else.

        What a benchmark takes for the network's own share of the time.
        """

        def forward(_: int, window: tuple[StagedWindows, Slices]) -> Tensor:
            staged, seen = window
            with torch.inference_mode(), self._exact_convolutions():
                return self._network(staged.images, staged.known, seen)

        with self._lock:
            num_whole = sum(staged.known is None for staged, _ in windows)
            return self._batches.on_streams(forward, windows, num_whole)

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
    def _inner(self) -> PixelWindow:
        """What of a window is looked at: the core, or somewhat more."""
        return self._core_and(self.reach_px)

    def _core_and(self, reach_px: int) -> PixelWindow:
        """A window's core and some pixels around it."""
        first, side = self.margin_px - reach_px, self.window_px + 2 * reach_px
        return PixelWindow(first, first, side, side)

    @property
    def _input_px(self) -> int:
        """Side of a network input."""
        return self.window_px + 2 * self.margin_px

    def _prepare_network(self, bundle: Bundle) -> WindowNetwork:
        """The network on its device, for windows of this size."""
        return WindowNetwork(
            bundle.build(),
            device=self.device,
            precision=self.precision,
            spare_px=self.margin_px - self.reach_px,
            stride_px=bundle.meta.network.stride_px,
            num_bands=len(bundle.meta.bands),
            has_compile=self.config.compile,
        )

    def _make_first_look(self, meta: BundleMeta) -> FirstLook | None:
        """What looks at windows first; None without.

        Raises:
            SegmentError: if windows or engine do not allow it.
        """
        level = self.config.first_look
        if level is None:
            return None
        if self._exported is not None or self.config.compile:
            raise SegmentError(
                f"first_look = {level} needs a network that takes windows of two sizes: a bundle "
                "(no exported file), without compile"
            )
        check_first_look(self._input_px, meta.network.stride_px)
        return FirstLook(self._network, self._quantiser, level)

    def _make_stage(self, meta: BundleMeta, factor: int = 1) -> TableStage | DeviceStage:
        """What stages windows, which can be shrunk by a factor."""
        # (level / 255 - mean) / std as one multiplication and one addition.
        mean, std = np.asarray(meta.mean), np.asarray(meta.std)
        scale, shift = _per_band(1.0 / (255.0 * std)), _per_band(-mean / std)
        if self._exported is not None:
            return DeviceStage(scale, shift, torch.float32, self.device)
        dtype = DTYPES[self.precision]
        if self.device.type != "cpu":
            return DeviceStage(scale, shift, dtype, self.device)
        # A compiled network takes one shape only.
        has_crops = meta.network.is_local and not self.config.compile
        crop = functools.partial(self._crop, factor=factor)
        return TableStage(scale, shift, dtype, crop if has_crops else None)

    def _crop(self, box: ValidBox, *, factor: int) -> PixelWindow:
        """The part of a window that goes through the network."""
        least_px = 1 if self.precision == "bf16" else MIN_STABLE_CROP_PX * factor
        stride_px = self.bundle.meta.network.stride_px * factor
        return pick_crop(box, self._input_px, stride_px=stride_px, least_px=least_px)

    @property
    def _is_thread_free(self) -> bool:
        """Whether any power of two of threads gives the same bits."""
        smallest_px = self._input_px // (1 if self.config.first_look is None else FIRST_LOOK_FACTOR)
        return is_thread_free(self.device, self.precision, smallest_px, self.num_threads)

    def _pick_num_streams(self) -> int:
        """Batches at once: as told, else as many as change no bits.

        Raises:
            SegmentError: if the number told does not fit the rest.
        """
        told = self.config.num_streams
        has_streams = (
            self.device.type == "cpu" and self._exported is None and not self.config.compile
        )
        is_free = self._is_thread_free
        if told is None:
            return default_num_streams(self.num_threads) if has_streams and is_free else 1
        if told > 1 and not has_streams:
            raise SegmentError(
                f"num_streams = {told} is for a bundle on a CPU without compile; leave it away"
            )
        if self.num_threads % told:
            raise SegmentError(
                f"num_streams = {told} does not divide num_threads = {self.num_threads}"
            )
        if told > 1 and not is_free:
            raise SegmentError(
                f"num_streams = {told}: in {self.precision} with windows of {self._input_px} px "
                f"and {self.num_threads} threads the bits depend on the threads of a pass; take "
                "bf16 or larger windows and a power of two of threads, or num_streams = 1"
            )
        return told

    def _make_fingerprint(self) -> dict[str, Any]:
        is_free = self._is_thread_free
        if isinstance(self.bundle, ExportedBundle):
            engine = {**self.bundle.runtime_facts(), "num_folded": 0}
            is_free = is_free and self.bundle.format == "pt2"
        else:
            engine = {"engine": self._network.kind, "num_folded": self._network.num_folded}
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
            "missing_ground": "zero at every layer",
            # Only where there is one: stored tiles of runs without it stay what they are.
            **({} if self._look is None else {"first_look": self.config.first_look}),
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

    def _plan(
        self, pixels: UInt8Array, valid: BoolArray, active: BoolArray | None
    ) -> list[PixelWindow]:
        """The cores of a tile that have a valid pixel, in scan order."""
        self._check_arrays(pixels, valid)
        cores, num_skipped = plan_cores(valid, self.window_px, self.margin_px, active=active)
        with self._counting:
            self.stats.num_skipped += num_skipped
        return cores

    def _take_turn(self, cores: list[PixelWindow], pixels: UInt8Array, valid: BoolArray) -> _Done:
        """Run the cores but those that a first look leaves out."""
        with self._lock:
            if self._look is not None:
                highest = self._first_levels(cores, pixels, valid)
                cores = [core for core in cores if highest[core] >= self._look.least]
            return self._batches.run(self._run_batch, cores, pixels, valid)

    def _finish(
        self, done: _Done, cores: list[PixelWindow], valid: BoolArray
    ) -> list[CoreProbability]:
        """What was made of cores, in their order, 0 where not valid; without those left out."""
        by_core = {
            core: self._on_inner(levels, part)
            for batch, result in done
            if result is not None
            for core, levels, part in _each_core(batch, *result)
        }
        with self._counting:
            self.stats.num_windows += len(by_core)
            self.stats.num_left_out += len(cores) - len(by_core)
            num_batches = sum(result is not None for _, result in done)
            self.stats.num_padding += num_batches * self.stats.batch_size - len(by_core)
        for core, values in by_core.items():
            values *= valid[self.surroundings(core)]
        return [CoreProbability(core, by_core[core]) for core in cores if core in by_core]

    def _on_inner(self, levels: UInt8Array, seen: PixelWindow) -> UInt8Array:
        """Levels of a part of the inner window, 0 around it."""
        inner = self._inner
        if seen == inner:
            return levels
        whole = np.zeros((inner.height, inner.width), np.uint8)
        whole[seen.within(inner)] = levels
        return whole

    def _run_batch(self, stream: int, windows: Sequence[Window]) -> _Levels:
        """A batch's probabilities, uint8, shape (N, h, w), and of what part of its windows."""
        with torch.inference_mode(), self._exact_convolutions():
            # Fewer may have become the rule since this batch was made.
            size = max(self.stats.batch_size, len(windows))
            staged = self._stages[stream].stage(windows, size)
            seen = self._inner.intersect(staged.part)
            probability = self._forward(staged, seen.within(staged.part))[: len(windows)]
        # On CUDA this lands in pinned memory; what calls this waits for it once, at the end.
        return probability.to("cpu", non_blocking=self.device.type == "cuda"), seen

    def _first_levels(
        self, cores: list[PixelWindow], pixels: UInt8Array, valid: BoolArray
    ) -> dict[PixelWindow, int]:
        """The highest level that a first look shows of each core."""
        looked = self._batches.run(self._look_at_batch, cores, pixels, valid)
        return {
            core: level
            for batch, levels in looked
            for core, level in zip(batch, levels.tolist(), strict=True)
        }

    def _look_and_run(self, stream: int, windows: Sequence[Window]) -> _Levels | None:
        """One window's probabilities; None where a first look finds it empty."""
        assert self._look is not None
        if int(self._look_at_batch(stream, windows)[0]) < self._look.least:
            return None
        return self._run_batch(stream, windows)

    def _look_at_batch(self, stream: int, windows: Sequence[Window]) -> Tensor:
        """The highest level that a first look shows of each window, uint8, shape (N,)."""
        assert self._look is not None
        with torch.inference_mode(), self._exact_convolutions():
            size = max(self.stats.batch_size, len(windows))
            staged = self._look_stages[stream].stage(windows, size)
            # Beyond the core as well: a building that ends just within it must not lose that end.
            beyond = self._core_and(self.margin_px // 2).intersect(staged.part)
            highest = self._look.highest(staged, beyond.within(staged.part))[: len(windows)]
        return highest.to("cpu", non_blocking=self.device.type == "cuda")

    def _forward(self, staged: StagedWindows, seen: Slices) -> Tensor:
        """uint8 probabilities (N, h, w) of some rows and columns of staged windows, there."""
        images, known = staged.images, staged.known
        if self.config.tta == "none":
            if self._exported is not None:
                return to_bytes(self._probability(images, known, seen))
            return self._quantiser.quantise(self._network(images, known, seen))
        # A whole window's inner part stays where it is when the window is turned; a part's not.
        is_whole = images.shape[2] == images.shape[3] == self._input_px
        first, then = (seen, _ALL) if is_whole else (_ALL, seen)
        total: Tensor | None = None
        for index in range(NUM_SYMMETRIES):
            turned_known = None if known is None else apply_symmetry(known, index)
            turned = self._probability(apply_symmetry(images, index), turned_known, first)
            term = undo_symmetry(to_fixed_point(turned), index)[:, *then]
            total = term if total is None else total.add_(term)
        assert total is not None
        return mean_to_uint8(total)

    def _probability(self, images: Tensor, known: Tensor | None, seen: Slices) -> Tensor:
        """float32 probabilities (N, h, w) of some rows and columns of normalised windows."""
        if self._exported is not None:
            return self._run_exported(self._exported, images, known)[:, *seen]
        return self.bundle.meta.network.probability(self._network(images, known, seen))

    def _run_exported(self, engine: Engine, images: Tensor, known: Tensor | None) -> Tensor:
        """The same from an exported network, which sees windows in float32 and always a mask."""
        if known is None:
            known = torch.ones_like(images[:, :1], dtype=torch.bool)
        return engine(images, known)

    def _exact_convolutions(self) -> contextlib.AbstractContextManager[None]:
        """On CUDA the same algorithm each time, and no TF32 in fp32."""
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        return torch.backends.cudnn.flags(  # type: ignore[no-untyped-call]
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )


def _each_core(
    batch: Sequence[PixelWindow], levels: Tensor, part: PixelWindow
) -> Iterator[tuple[PixelWindow, UInt8Array, PixelWindow]]:
    for core, values in zip(batch, levels.numpy(), strict=True):
        yield core, values, part


def _per_band(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).view(1, -1, 1, 1)


def _use_huge_pages() -> None:
    """Ask torch for huge pages, before its first allocation.

    A forward pass allocates and frees more than a gigabyte; with pages of 4 KiB faulting them in
    takes 15 % of the time. Linux only; elsewhere torch ignores the setting.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
