"""The windows of tiles in batches, on several streams, with less of both when memory runs out."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from geo.pixel_window import PixelWindow
from model.devices import is_out_of_memory
from model.errors import SegmentError
from model.segment_config import SegmentStats
from model.staging import Window
from model.streams import StreamedItems, Streams

logger = logging.getLogger(__name__)

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Results = list[tuple[Sequence[PixelWindow], _Result]]
"""Batches of cores, and what became of each."""


class TileWindows(Generic[_Result]):
    """The windows of one tile on their way through the streams; made by `WindowBatches.begin`."""

    def __init__(
        self,
        batches: Sequence[Sequence[PixelWindow]],
        streamed: StreamedItems[Sequence[Window], _Result],
        with_less: Callable[[str], _Results[_Result]],
    ) -> None:
        self._batches, self._streamed, self._with_less = batches, streamed, with_less
        self._retried_s: float | None = None

    @property
    def begun_s(self) -> float | None:
        """When the first window was begun (`time.perf_counter`); None before."""
        return self._streamed.begun_s

    @property
    def ended_s(self) -> float | None:
        """When the last window so far ended; None before."""
        return self._retried_s or self._streamed.ended_s

    @property
    def is_over(self) -> bool:
        """Whether no stream works on any window, nor will."""
        return self._streamed.is_over

    def stop(self) -> None:
        """Begin no more windows, and wait for those that have begun."""
        self._streamed.stop()

    def results(self) -> _Results[_Result]:
        """Batches of the tile's cores, and what work made of each; to be called once.

        Raises:
            SegmentError: if memory does not even hold one window.
        """
        results = _unless_out_of_memory(self._streamed.results)
        if isinstance(results, str):
            # Outside the except block, since a live traceback keeps the tensors alive.
            again = self._with_less(results)
            self._retried_s = time.perf_counter()
            return again
        return list(zip(self._batches, results, strict=True))


class WindowBatches:
    """Hands windows to what works on them.

    Not for several threads at once, but for what `begin` has begun.

    Args:
        input_px: side of a window.
        device: where the work is done.
        num_threads: of all streams together.
        stats: says how many streams there are and how many windows in a batch; is changed when
            memory runs out.
    """

    def __init__(
        self, *, input_px: int, device: torch.device, num_threads: int, stats: SegmentStats
    ) -> None:
        self._input_px, self._device, self._num_threads = input_px, device, num_threads
        self._stats = stats
        self._streams = Streams(stats.num_streams, num_threads)
        self._deciding = threading.Lock()

    def begin(
        self,
        work: Callable[[int, Sequence[Window]], _Result],
        cores: list[PixelWindow],
        pixels: UInt8Array,
        valid: BoolArray,
        *,
        is_last: bool,
        again: Callable[[], _Results[_Result]],
    ) -> TileWindows[_Result] | None:
        """Begin to work on the windows of cores, behind those of the tile before.

        Args:
            work: as `run` takes it.
            cores: likewise.
            pixels: likewise; not to be changed before the end.
            valid: likewise.
            is_last: no tile follows, as far as one knows.
            again: does the same by `run`, at its turn; called when memory ran out.

        Returns:
            None where there is a better way: `run`, for want of streams, or since a single tile's
            streams should end together.
        """
        size = self._stats.batch_size
        if self._stats.num_streams == 1 or (is_last and self._streams.is_idle):
            return None
        ordered, num_whole = self._largest_first(cores, valid)
        batches = _in_batches(ordered, num_whole, size)
        windows = [[self._window(core, pixels, valid) for core in batch] for batch in batches]

        def with_less(reason: str) -> _Results[_Result]:
            # What runs beside it would take the memory that this is to have.
            self._streams.settle()
            with self._deciding:
                if self._stats.num_streams > 1:
                    self._do_with_less(reason)
            return again()

        return TileWindows(batches, self._streams.begin(work, windows), with_less)

    def run(
        self,
        work: Callable[[int, Sequence[Window]], _Result],
        cores: list[PixelWindow],
        pixels: UInt8Array,
        valid: BoolArray,
    ) -> _Results[_Result]:
        """Work on the windows of cores; again from the first one, with less memory, if need be.

        Args:
            work: called with the stream (-1 where a batch has all threads for itself) and a batch's
                windows.
            cores: of a tile, in pixels of the tile without its margin.
            pixels: of the tile with its margin, uint8, shape (bands, height, width).
            valid: which of them are valid, bool, shape (height, width).

        Returns:
            Batches of the cores, and what work made of each.

        Raises:
            SegmentError: if memory does not even hold one window.
        """
        ordered, num_whole = self._largest_first(cores, valid)
        while True:
            size = self._stats.batch_size
            batches = _in_batches(ordered, num_whole, size)
            windows = [[self._window(core, pixels, valid) for core in batch] for batch in batches]
            results = self._try_batches(work, windows, -(-num_whole // size))
            if not isinstance(results, str):
                return list(zip(batches, results, strict=True))
            # Outside the except block, since a live traceback keeps the tensors alive.
            with self._deciding:
                self._do_with_less(results)

    def on_streams(
        self, work: Callable[[int, _Item], _Result], items: Sequence[_Item], num_whole: int
    ) -> list[_Result]:
        """Work on items, several at once.

        Of those that take equally long as many go first, one by one on all threads, as would leave
        streams idle at the end.

        Args:
            work: called with the stream, or -1, and an item.
            items: those that take longest first.
            num_whole: how many of the first ones take equally long.

        Returns:
            The results, in the order of the items.
        """
        number = self._stats.num_streams
        num_alone = len(items) if number == 1 or len(items) < number else num_whole % number
        if torch.get_num_threads() != self._num_threads:
            # Counted for each thread; this one need not be the one that made the segmenter.
            torch.set_num_threads(self._num_threads)
        first = [work(-1, item) for item in items[:num_alone]]
        if num_alone == len(items):
            return first
        return first + self._streams.map(work, items[num_alone:])

    def _largest_first(
        self, cores: list[PixelWindow], valid: BoolArray
    ) -> tuple[list[PixelWindow], int]:
        """Cores by the ground of their windows; and how many have all of it.

        Streams that begin with what takes longest end at about the same time.
        """
        side = self._input_px
        num_valid = {
            core: np.count_nonzero(
                valid[core.row_off : core.row_off + side, core.col_off : core.col_off + side]
            )
            for core in cores
        }
        ordered = sorted(cores, key=lambda core: -num_valid[core])
        return ordered, sum(number == side * side for number in num_valid.values())

    def _window(
        self, core: PixelWindow, pixels: UInt8Array, valid: BoolArray
    ) -> tuple[UInt8Array, BoolArray]:
        """A core's window: its pixels, and which of them are valid."""
        rows = slice(core.row_off, core.row_off + self._input_px)
        cols = slice(core.col_off, core.col_off + self._input_px)
        return pixels[:, rows, cols], valid[rows, cols]

    def _try_batches(
        self,
        work: Callable[[int, Sequence[Window]], _Result],
        batches: Sequence[Sequence[Window]],
        num_whole: int,
    ) -> list[_Result] | str:
        """What work makes of each batch; the message when memory ran out."""
        results = _unless_out_of_memory(lambda: self.on_streams(work, batches, num_whole))
        if self._device.type == "cuda" and not isinstance(results, str):
            torch.cuda.current_stream(self._device).synchronize()
        return results

    def _do_with_less(self, reason: str) -> None:
        """One batch at a time, or half of a batch."""
        where, why = self._device, reason.splitlines()[0]
        if self._stats.num_streams > 1:
            self._stats.num_streams = 1
            logger.warning(
                "out of memory on %s: one batch at a time from now on (%s)",
                where,
                why,
            )
            return
        if self._stats.batch_size == 1:
            raise SegmentError(
                f"memory does not hold one window of {self._input_px} px on {self._device}; lower "
                f"window_px or free memory ({reason})"
            )
        self._stats.batch_size //= 2
        self._stats.num_halvings += 1
        logger.warning(
            "out of memory on %s: batches of %d windows from now on (%s)",
            where,
            self._stats.batch_size,
            why,
        )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _unless_out_of_memory(run: Callable[[], list[_Result]]) -> list[_Result] | str:
    """What running it returns; the message when memory ran out."""
    try:
        return run()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return str(error)


def _in_batches(
    ordered: Sequence[PixelWindow], num_whole: int, size: int
) -> list[Sequence[PixelWindow]]:
    """Cores of whole windows and then the others, in batches of at most `size`.

    Whole windows go another way than those with missing ground, so they share no batch: a window's
    bits must not depend on what is beside it.
    """
    parts = (ordered[:num_whole], ordered[num_whole:])
    return [part[first : first + size] for part in parts for first in range(0, len(part), size)]
