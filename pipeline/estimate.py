"""What a run would take: counted where it can be counted, measured where it can be measured."""

import dataclasses
import time

import numpy as np
from rich.table import Table

from pipeline.cover import Cover
from pipeline.detect import load_segmenter
from pipeline.progress import format_duration
from pipeline.spec import JobSpec

BYTES_PER_FOOTPRINT = 65
"""Measured on drawn towns (benchmarks/geoparquet.py)."""
FOOTPRINTS_PER_KM2 = (50, 5000)
"""From scattered farms to a dense city; the size of the output depends on little else."""
OVERHEAD = 1.25
"""Reading, tracing and writing on top of the bare network (benchmarks/run.py)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would do.

    Attributes:
        num_images: images that can be used.
        num_tiles: tiles planned.
        num_windows: windows that go through the network at most.
        num_source_px: pixels of the images, at full resolution.
        area_km2: ground covered by the windows.
        seconds_per_window: measured here, or None.
    """

    num_images: int
    num_tiles: int
    num_windows: int
    num_source_px: int
    area_km2: float
    seconds_per_window: float | None

    @property
    def seconds(self) -> float | None:
        """Time of the whole run on this machine, with one worker."""
        if self.seconds_per_window is None:
            return None
        return self.num_windows * self.seconds_per_window * OVERHEAD

    def as_table(self) -> Table:
        """The estimate for people."""
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_row("images", f"{self.num_images:,} ({self.num_source_px / 1e6:,.1f} Mpx)")
        table.add_row("tiles", f"{self.num_tiles:,}")
        table.add_row("windows", f"{self.num_windows:,}")
        table.add_row("ground", f"{self.area_km2:,.2f} km2 at most")
        table.add_row("time", self._time_text())
        low, high = (
            self.area_km2 * density * BYTES_PER_FOOTPRINT / 1e6 for density in FOOTPRINTS_PER_KM2
        )
        table.add_row("output", f"{low:,.2f} MB (farmland) to {high:,.1f} MB (dense city)")
        return table

    def _time_text(self) -> str:
        if self.seconds is None or self.seconds_per_window is None:
            return "not measured"
        return (
            f"about {format_duration(self.seconds)} on this machine "
            f"({self.seconds_per_window:.2f} s a window, measured)"
        )


def make_estimate(spec: JobSpec, *, measure: bool) -> Estimate:
    """Count tiles and windows, and time the network on one window when asked."""
    cover = Cover(spec)
    num_tiles = num_windows = 0
    for cell in cover.plan_cells():
        for tile in cover.tiles_in(cell):
            num_tiles += 1
            num_windows += int(np.count_nonzero(cover.core_mask(tile)))
    return Estimate(
        num_images=len(spec.images),
        num_tiles=num_tiles,
        num_windows=num_windows,
        num_source_px=spec.images.num_px,
        area_km2=num_windows * (spec.core_px * spec.gsd_m / 1000.0) ** 2,
        seconds_per_window=_time_window(spec) if measure else None,
    )


def _time_window(spec: JobSpec) -> float:
    segmenter = load_segmenter(spec)
    side = segmenter.window_px + 2 * segmenter.margin_px
    pixels = np.full((len(spec.bundle.bands), side, side), 128, np.uint8)
    valid = np.ones((side, side), np.bool_)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        segmenter.segment(pixels, valid)
        times.append(time.perf_counter() - begin)
    return min(times)
