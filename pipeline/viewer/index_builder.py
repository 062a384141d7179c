"""The index of all footprints, filled in the background while the page is already up."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from geo.errors import EveryroofError
from geo.footprint_index import FootprintIndex, View
from pipeline.footprint_stats import AREA_EDGES_M2
from pipeline.viewer.row_groups import RowGroups

NUM_THREADS = 2
"""Decoding is what takes time; more would take the cores away from the first tiles."""
_COLUMNS = ("longitude", "latitude", "confidence", "area_in_meters")


class IndexBuilder:
    """Fills a `FootprintIndex` from row groups; use as a context.

    Attributes:
        index: what is filled; it may be asked at any time.
        problem: why it cannot be completed; empty while all is well.
    """

    def __init__(self, groups: RowGroups) -> None:
        self._groups = groups
        self.index = FootprintIndex(np.diff(groups.starts), AREA_EDGES_M2)
        self.problem = ""
        self._is_stopped = threading.Event()
        self._is_done = threading.Event()
        self._pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="index")

    def __enter__(self) -> "IndexBuilder":
        parts = np.array_split(np.arange(len(self._groups)), NUM_THREADS)
        self._num_running = len(parts)
        self._lock = threading.Lock()
        # Compiled kernels take a third of a second to load, which the page spends on starting.
        self._pool.submit(self._load_kernels)
        for part in parts:
            self._pool.submit(self._fill, part.tolist())
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped.set()
        self._pool.shutdown()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all is read or nothing more will be; whether that is so."""
        return self._is_done.wait(timeout_s)

    def _load_kernels(self) -> None:
        self.index.summarise(View(west=0.0, south=0.0, east=1.0, north=1.0))
        self.index.density(0, 0, 0)

    def _fill(self, groups: list[int]) -> None:
        try:
            for group in groups:
                if self._is_stopped.is_set():
                    return
                self._fill_group(group)
        except (EveryroofError, OSError, ValueError) as error:
            # The page shows it, and that its counts are of a part.
            self.problem = str(error) or repr(error)
            self._is_stopped.set()
        finally:
            with self._lock:
                self._num_running -= 1
                if self._num_running == 0:
                    self._is_done.set()

    def _fill_group(self, group: int) -> None:
        table = self._groups.read(group, _COLUMNS)
        longitude, latitude, confidence, area_m2 = (table[name].to_numpy() for name in _COLUMNS)
        self.index.fill(
            group,
            longitude=longitude,
            latitude=latitude,
            confidence=confidence,
            area_m2=area_m2,
        )
