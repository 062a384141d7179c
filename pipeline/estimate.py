"""What a run would take: counted where it can be counted, measured where it can be measured.

What is neither is an assumption with a source, which the output names and an option replaces.
"""

import dataclasses
import time
from typing import Any

import numpy as np
from rich.table import Table

from model.bundle import BundleMeta
from pipeline.progress import format_duration
from pipeline.report import bytes_text
from pipeline.spec import JobSpec
from pipeline.work import Work

GPU_TFLOPS = 10.0
"""Arithmetic that a GPU sustains on the network, in 10^12 operations a second: an assumption, a
twelfth of what an NVIDIA L4 can do with bf16 at most. Measure yours: `everyroof plan --measure` on
that machine."""
OVERHEAD = 1.6
"""The whole job over the bare network on two cores, in a dense town (benchmarks/run.py)."""
READ_MPX_PER_S = 28.0
"""Pixels that one core reads, decodes and warps: measured on a JPEG COG (Banepa) at 0.3 m."""
TILE_CORE_S = 0.02
BUILDING_CORE_S = 40e-6
"""Core seconds behind the network, by tile and by building: benchmarks/scale.py measures 85 for a
million buildings on 2,150 tiles; how it splits between the two is estimated."""
BYTES_PER_FOOTPRINT = 88
"""Measured on 21 million drawn buildings of all densities (benchmarks/scale.py); 57 in a dense town
alone (benchmarks/geoparquet.py)."""
STORE_BYTES_PER_TILE = 3000
STORE_BYTES_PER_FOOTPRINT = 460
"""Tile store and tables of later stages, at most (benchmarks/scale.py)."""
SHARD_FILL = 0.4
"""Rows of a shard on average as a share of the most (benchmarks/scale.py)."""
FOOTPRINTS_PER_KM2 = (50, 5000)
"""From scattered farms to a dense city; the size of the output depends on little else."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowRate:
    """How fast windows go through the network.

    Attributes:
        per_s: windows a second, of one GPU or of this machine.
        source: where the number comes from.
        is_gpu: it is that of a GPU.
    """

    per_s: float
    source: str
    is_gpu: bool = True


def measure_rate(spec: JobSpec) -> WindowRate:
    """Time the network here on as many windows as go through it at once, the best of three."""
    # Beam and torch take seconds to import; most plans do without.
    from pipeline.detect import load_segmenter

    # In full: a first look leaves out how much depends on the ground.
    settings = dataclasses.replace(spec.config.segment, first_look=None)
    config = dataclasses.replace(spec.config, segment=settings)
    segmenter = load_segmenter(dataclasses.replace(spec, config=config))
    side = segmenter.window_px + 2 * segmenter.margin_px
    number = segmenter.stats.num_streams * segmenter.stats.batch_size
    shape = (side, number * segmenter.window_px + 2 * segmenter.margin_px)
    pixels = np.full((len(spec.bundle.bands), *shape), 128, np.uint8)
    valid = np.ones(shape, np.bool_)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        segmenter.segment(pixels, valid)
        times.append(time.perf_counter() - begin)
    return WindowRate(
        per_s=number / min(times), source="measured here", is_gpu=segmenter.device.type == "cuda"
    )


def assume_rate(bundle: BundleMeta) -> WindowRate:
    """The rate of a GPU that sustains `GPU_TFLOPS` on the bundle's network."""
    from model.window_flops import window_flops

    flops = window_flops(bundle.network, bundle.window_px + 2 * bundle.margin_px)
    return WindowRate(
        per_s=GPU_TFLOPS * 1e12 / flops,
        source=f"assumed: {GPU_TFLOPS:g} TFLOP/s sustained, {flops / 1e9:.0f} GFLOP a window",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
    """What things cost, in any one currency; 0 leaves them out."""

    gpu_hour: float = 0.0
    """One GPU with its machine for an hour."""
    storage_gb_month: float = 0.0
    """A gigabyte of output and tile store for a month."""
    egress_gb: float = 0.0
    """A gigabyte of imagery read."""
    million_requests: float = 0.0
    """A million requests for imagery."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machines:
    """What a run would have."""

    num_workers: int = 1
    """Workers, each with one GPU."""
    cores: int = 8
    """CPU cores of each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take.

    Attributes:
        work: what there is to do.
        rate: windows a second of one GPU.
        here: windows a second of this machine; None if it was not measured.
        num_buildings: buildings expected, or None: then the output is given as a range.
        prices: what things cost.
        machines: what the run would have.
        max_rows_per_shard: most rows of a file (`shards.max_rows_per_shard`).
    """

    work: Work
    rate: WindowRate
    here: WindowRate | None = None
    num_buildings: float | None = None
    prices: Prices = Prices()
    machines: Machines = Machines()
    max_rows_per_shard: int = 500_000

    @property
    def seconds_here(self) -> float | None:
        """Time of the whole run on this machine, with one worker."""
        return None if self.here is None else self.work.num_windows / self.here.per_s * OVERHEAD

    @property
    def gpu_hours(self) -> float:
        """Hours of one GPU in the network."""
        return self.work.num_windows / self.rate.per_s / 3600

    @property
    def read_core_hours(self) -> float:
        """Hours of one core that reads, decodes and warps."""
        pixels = self.work.num_source_px * self.work.read_px_per_px
        return pixels / (READ_MPX_PER_S * 1e6) / 3600

    @property
    def behind_core_hours(self) -> float:
        """Hours of one core behind the network: seams, finishing, overlaps, writing."""
        buildings = self.num_buildings or 0.0
        return (self.work.num_tiles * TILE_CORE_S + buildings * BUILDING_CORE_S) / 3600

    @property
    def wall_hours(self) -> float:
        """Hours from start to end; reading goes on beside the network."""
        cores = self.machines.cores
        front = max(self.gpu_hours, self.read_core_hours / cores)
        return (front + self.behind_core_hours / cores) / self.machines.num_workers

    @property
    def output_bytes(self) -> float | None:
        """Size of the footprints."""
        return None if self.num_buildings is None else self.num_buildings * BYTES_PER_FOOTPRINT

    @property
    def num_shards(self) -> int | None:
        """Files of footprints, roughly."""
        if self.num_buildings is None:
            return None
        return max(round(self.num_buildings / (self.max_rows_per_shard * SHARD_FILL)), 1)

    @property
    def store_bytes(self) -> float:
        """Size of the tile store when it is largest."""
        buildings = self.num_buildings or 0.0
        tiles = self.work.num_tiles * STORE_BYTES_PER_TILE
        return tiles + buildings * STORE_BYTES_PER_FOOTPRINT

    @property
    def costs(self) -> dict[str, float]:
        """What it costs, by kind, in the prices' currency; only what has a price."""
        stored_gb = (self.store_bytes + (self.output_bytes or 0.0)) / 1e9
        costs = {
            "gpu": self.gpu_hours_paid * self.prices.gpu_hour,
            "storage_month": stored_gb * self.prices.storage_gb_month,
            "egress": self.work.read_bytes / 1e9 * self.prices.egress_gb,
            "requests": self.work.num_requests / 1e6 * self.prices.million_requests,
        }
        return {name: round(cost, 2) for name, cost in costs.items() if cost}

    @property
    def gpu_hours_paid(self) -> float:
        """Hours of machines with a GPU, the time they wait included."""
        return self.wall_hours * self.machines.num_workers

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON."""
        work = self.work
        return {
            "area_km2": _rounded(work.area_km2, 1),
            "ground_km2": round(work.ground_km2, 1),
            "gsd_m": work.gsd_m,
            "tile_px": work.tile_px,
            "window_px": work.core_px,
            "margin_px": work.margin_px,
            "num_images": work.num_images,
            "num_tiles": work.num_tiles,
            "num_windows": work.num_windows,
            "zones": [dataclasses.asdict(zone) for zone in work.zones],
            "read": {
                "bytes": round(work.read_bytes),
                "requests": round(work.num_requests),
                "bits_per_px": work.bits_per_px,
                "bits_from": work.bits_from,
                "px_per_px": round(work.read_px_per_px, 3),
            },
            "windows_per_s": {"value": self.rate.per_s, "source": self.rate.source},
            "gpu_hours": round(self.gpu_hours, 2),
            "read_core_hours": round(self.read_core_hours, 2),
            "behind_core_hours": round(self.behind_core_hours, 2),
            "machines": dataclasses.asdict(self.machines),
            "wall_hours": round(self.wall_hours, 3),
            "seconds_here": _rounded(self.seconds_here, 1),
            "num_buildings": _rounded(self.num_buildings, 0),
            "output_bytes": _rounded(self.output_bytes, 0),
            "num_shards": self.num_shards,
            "store_bytes": round(self.store_bytes),
            "prices": dataclasses.asdict(self.prices),
            "costs": self.costs,
            "total_cost": round(sum(self.costs.values()), 2),
        }

    def as_table(self) -> Table:
        """The estimate for people."""
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, text in (
            *self._ground_rows(),
            *self._time_rows(),
            *self._output_rows(),
            *self._cost_rows(),
        ):
            table.add_row(name, text)
        return table

    def _ground_rows(self) -> list[tuple[str, str]]:
        work = self.work
        rows = []
        if work.num_images is not None:
            rows.append(("images", f"{work.num_images:,} ({work.image_px / 1e6:,.1f} Mpx)"))
        if work.area_km2 is not None:
            rows.append(("area", f"{work.area_km2:,.1f} km2"))
        side_km = work.tile_px * work.gsd_m / 1000
        zones = f" in {len(work.zones)} UTM zone(s)" if work.zones else ""
        part = work.counted_share
        sampled = f", extrapolated from {part:.2g} of the ground" if part < 1 else ""
        margin = f"{work.core_px} px and {work.margin_px} px around"
        return [
            *rows,
            ("tiles", f"{work.num_tiles:,} of {side_km:.2f} km{zones}{sampled}"),
            ("windows", f"{work.num_windows:,} of {margin}"),
            ("ground", f"{work.ground_km2:,.2f} km2 at most, edges and overlaps of zones included"),
            ("reading", f"{bytes_text(work.read_bytes)} at {work.bits_per_px:.1f} bits a pixel "
                f"({work.bits_from}), x {work.read_px_per_px:.2f} for margins and whole blocks"),
            ("requests", f"{work.num_requests:,.0f}: header, then one for each row of blocks"),
        ]  # fmt: skip

    def _time_rows(self) -> list[tuple[str, str]]:
        rows = [("time here", self._here_text())]
        cores = self.read_core_hours + self.behind_core_hours
        num, per = self.machines.num_workers, self.machines.cores
        return [
            *rows,
            ("GPU", f"{_hours(self.gpu_hours)} at {self.rate.per_s:,.1f} windows/s "
                f"({self.rate.source})"),
            ("CPU", f"{_hours(cores)} of one core: {_hours(self.read_core_hours)} for reading, "
                f"{_hours(self.behind_core_hours)} behind the network"),
            ("wall time", f"{_hours(self.wall_hours)} with {num:,} worker(s) of one GPU and "
                f"{per} cores"),
        ]  # fmt: skip

    def _here_text(self) -> str:
        if self.here is None or self.seconds_here is None:
            return "not measured"
        return (
            f"about {format_duration(self.seconds_here)} on this machine "
            f"({1 / self.here.per_s:.2f} s a window, measured)"
        )

    def _output_rows(self) -> list[tuple[str, str]]:
        if self.num_buildings is None or self.output_bytes is None:
            low, high = (
                self.work.ground_km2 * density * BYTES_PER_FOOTPRINT / 1e6
                for density in FOOTPRINTS_PER_KM2
            )
            return [("output", f"{low:,.2f} MB (farmland) to {high:,.1f} MB (dense city)")]
        ground = self.work.area_km2 or self.work.ground_km2
        density = self.num_buildings / ground
        return [
            ("buildings", f"{self.num_buildings:,.0f} ({density:,.1f} a km2)"),
            ("output", f"{bytes_text(self.output_bytes)} at {BYTES_PER_FOOTPRINT} bytes a building"
                f", in some {self.num_shards:,} shards"),
            ("tile store", f"{bytes_text(self.store_bytes)} at most"),
        ]  # fmt: skip

    def _cost_rows(self) -> list[tuple[str, str]]:
        if not self.costs:
            return []
        words = {"gpu": "machines", "storage_month": "storage for a month"}
        parts = ", ".join(f"{words.get(name, name)} {c:,.2f}" for name, c in self.costs.items())
        return [("cost", f"{sum(self.costs.values()):,.2f} ({parts})")]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _hours(hours: float) -> str:
    """Hours as people read them."""
    if hours < 1:
        return f"{hours * 60:.1f} minutes"
    return f"{hours:,.0f} hours" if hours >= 100 else f"{hours:.1f} hours"
