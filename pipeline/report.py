"""report.html: one page that says what a run found, what failed and where the time went.

The page stands alone: no scripts, no fonts, no links to other files; it reads on a phone and in the
dark. It is made from a `RunSummary`, which the run fills, and is the only output besides run.json
that holds timings.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt

from pipeline import charts, maps
from pipeline.bottleneck import bottleneck_sentence
from pipeline.footprint_stats import FootprintStats
from pipeline.heat_chart import LEAST_FOR_MEDIAN, confidence_by_size
from pipeline.page_templates import template_environment
from pipeline.palette import STATUS_ORDER

MAX_FAILURE_ROWS = 50
"""Reasons listed in the table of failures; the ledger holds all of them."""
MAX_NAMES_PER_ROW = 6
"""Tiles named per reason."""
MAX_IMAGE_ROWS = 200
"""Images listed; the manifest holds all of them."""
MAX_THRESHOLD_ROWS = 100
"""Regions listed, those with most footprints; thresholds.csv holds all of them."""
_LEAST_FOR_CELL_MEDIAN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRow:
    """One thing that failed, or that was left out on purpose.

    Attributes:
        name: tile name or image path.
        reason: what happened, as the ledger has it.
        action: what to do about it; empty where the reason says it already.
    """

    name: str
    reason: str
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One image of the run.

    Attributes:
        image_id: as in the column `image_id`.
        path: path or URL.
        date: day of acquisition as text, empty if unknown.
        detail: size, pixel size and CRS in words, such as "11264 x 8704 px, 0.13 m, EPSG:3857".
        num_footprints: footprints from this image; None where it was not counted.
        is_failed: it could not be opened.
    """

    image_id: str
    path: str
    date: str = ""
    detail: str = ""
    num_footprints: int | None = None
    is_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """How long one stage was busy.

    Attributes:
        name: of the stage, such as "segment".
        seconds: busy time, summed over all workers.
        num_items: what it worked on in that time.
        unit: what the items are, such as "Mpx" or "tables".
    """

    name: str
    seconds: float
    num_items: float
    unit: str

    @property
    def per_second(self) -> float:
        """Items per busy second; 0 where no time was measured."""
        return self.num_items / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdRow:
    """Confidence thresholds of one region.

    Attributes:
        token: S2 token of the region.
        thresholds: least confidence that reaches a precision, by the precision in percent; None
            where it is not reached.
        num_above: footprints at or above each threshold, by the precision in percent.
        num_buildings: footprints in the region.
        num_samples: labelled footprints that the thresholds rest on; None where they follow from
            calibrated confidences alone.
    """

    token: str
    thresholds: Mapping[int, float | None]
    num_above: Mapping[int, int]
    num_buildings: int
    num_samples: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Everything that report.html shows.

    Attributes:
        title: name of the run, such as the output folder's name.
        stats: sizes, confidence and density of all footprints; headline numbers come from it.
        tile_bounds: (west, south, east, north) of every planned tile in degrees, shape (n, 4).
        tile_status: status of every planned tile, in the same order.
        failures: tiles and images that failed.
        left_out: what was left out on purpose, such as components above `max_building_m`.
        images: the images, failed ones included.
        thresholds: confidence thresholds per region; left out where there are none.
        stages: busy time per stage, in the order of the graph.
        time_shares: where the workers' time went (`pipeline.bottleneck`), the largest first.
        seconds: wall time of the whole run.
        startup_seconds: the part of it before the first tile was read.
        num_pixels: pixels segmented.
        num_stored_tiles: tiles that were read back from the tile store instead of computed.
        gsd_m: pixel size of the world grid in metres.
        num_workers: worker processes.
        num_bytes: size of all shards.
        num_shards: how many there are.
        max_failed_share: share of tiles that may fail; above it the run counts as failed.
        model: facts about the bundle as (name, text): id, hash, pixel size, threshold, licence, ...
        machine: facts about the machine and the versions as (name, text).
        config_text: the resolved config.
        peak_memory_bytes: resident memory of the process tree at its highest; None if unknown.
    """

    title: str
    stats: FootprintStats
    tile_bounds: npt.NDArray[np.float64]
    tile_status: Sequence[str]
    failures: Sequence[FailureRow] = ()
    left_out: Sequence[FailureRow] = ()
    images: Sequence[ImageRow] = ()
    thresholds: Sequence[ThresholdRow] = ()
    stages: Sequence[StageTime] = ()
    time_shares: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    startup_seconds: float = 0.0
    num_pixels: int = 0
    num_stored_tiles: int = 0
    gsd_m: float = 0.0
    num_workers: int = 1
    num_bytes: int = 0
    num_shards: int = 0
    max_failed_share: float = 0.0
    model: Sequence[tuple[str, str]] = ()
    machine: Sequence[tuple[str, str]] = ()
    config_text: str = ""
    peak_memory_bytes: int | None = None
    status_counts: tuple[tuple[str, int], ...] = field(init=False)
    """Tiles per status in the order of `STATUS_ORDER`, computed."""

    def __post_init__(self) -> None:
        """Check that tiles and statuses belong together, and count."""
        if len(self.tile_bounds) != len(self.tile_status):
            raise ValueError(
                f"{len(self.tile_bounds)} tile_bounds and {len(self.tile_status)} tile_status; "
                "expected one status per tile"
            )
        unknown = set(self.tile_status) - set(STATUS_ORDER)
        if unknown:
            raise ValueError(f"tile_status = {sorted(unknown)}; expected some of {STATUS_ORDER}")
        names, counts = np.unique(np.asarray(self.tile_status, str), return_counts=True)
        found = dict(zip(names.tolist(), counts.tolist(), strict=True))
        ordered = tuple((name, found[name]) for name in STATUS_ORDER if name in found)
        object.__setattr__(self, "status_counts", ordered)

    @property
    def num_tiles(self) -> int:
        """Planned tiles."""
        return len(self.tile_status)

    @property
    def num_failed(self) -> int:
        """Failed tiles, and images that could not be opened."""
        return self.num_failed_tiles + self.num_failed_images

    @property
    def num_failed_tiles(self) -> int:
        """Failed tiles."""
        return dict(self.status_counts).get("failed", 0)

    @property
    def num_failed_images(self) -> int:
        """Images that could not be opened."""
        return sum(image.is_failed for image in self.images)

    @property
    def is_failed(self) -> bool:
        """More failed than the config allows."""
        num_all = self.num_tiles + self.num_failed_images
        return self.num_failed > self.max_failed_share * num_all

    @property
    def ground_m2(self) -> float:
        """Ground of all segmented pixels."""
        return self.num_pixels * self.gsd_m**2

    @property
    def tiles_per_second(self) -> float:
        """Tiles computed in this run per second of wall time, start-up left out."""
        seconds = self.seconds - self.startup_seconds
        return (self.num_tiles - self.num_stored_tiles) / seconds if seconds > 0 else 0.0

    @property
    def busiest(self) -> StageTime | None:
        """The stage that was busy longest; None where nothing was measured."""
        busy = max(self.stages, key=lambda stage: stage.seconds, default=None)
        return busy if busy is not None and busy.seconds > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _FailureGroup:
    """All failures with one reason."""

    reason: str
    action: str
    names: list[str]
    num_more: int

    @property
    def num(self) -> int:
        return len(self.names) + self.num_more


def write_report(path: Path, summary: RunSummary) -> None:
    """Write the page; the caller names a temporary file where it must appear whole.

    Args:
        path: the HTML file.
        summary: what to show.
    """
    path.write_text(render_report(summary), encoding="utf-8")


def render_report(summary: RunSummary) -> str:
    """The page as text."""
    template = page_environment().get_template("report.html")
    density_map, density_key = _density_map(summary.stats)
    size_map, size_key = _size_map(summary.stats)
    return template.render(
        run=summary,
        headline=_headline(summary),
        coverage_map=_coverage_map(summary),
        is_binned=summary.num_tiles > maps.MAX_TILE_MARKS,
        status_legend=charts.legend(summary.status_counts),
        density_map=density_map,
        density_key=density_key,
        size_map=size_map,
        size_key=size_key,
        size_histogram=charts.size_histogram(summary.stats),
        confidence_histogram=charts.confidence_histogram(summary.stats),
        confidence_by_size=confidence_by_size(summary.stats),
        least_for_median=LEAST_FOR_MEDIAN,
        least_for_cell_median=_LEAST_FOR_CELL_MEDIAN,
        failures=_grouped(summary.failures)[:MAX_FAILURE_ROWS],
        left_out=_grouped(summary.left_out)[:MAX_FAILURE_ROWS],
        images=sorted(summary.images, key=lambda row: not row.is_failed)[:MAX_IMAGE_ROWS],
        thresholds=_threshold_rows(summary),
        percents=sorted({p for row in summary.thresholds for p in row.thresholds}),
        stage_bars=_stage_bars(summary),
        bottleneck_text=bottleneck_sentence(summary.time_shares),
    )


@functools.cache
def page_environment() -> jinja2.Environment:
    """Templates of the pages: escaped, strict about names, with filters for amounts.

    One for all pages, as it keeps the templates that it has compiled; not to be changed.
    """
    environment = template_environment()
    environment.filters["duration"] = duration_text
    environment.filters["bytes"] = bytes_text
    environment.filters["area"] = area_text
    return environment


def _headline(summary: RunSummary) -> list[tuple[str, str]]:
    """The numbers at the top: (number, what it is)."""
    stats = summary.stats
    cards = [
        (f"{stats.num_footprints:,}", "building footprints"),
        (area_text(stats.area_m2), "built area"),
    ]
    if summary.num_pixels:
        share = stats.area_m2 / summary.ground_m2
        cards.append((area_text(summary.ground_m2), f"ground seen, {share:.1%} of it built"))
    if stats.num_footprints:
        cards.append((f"{stats.median_area_m2():,.0f} m²", "median footprint"))
    cards.append((f"{summary.num_tiles:,}", "tiles" + _stored_text(summary)))
    if summary.seconds:
        cards.append((duration_text(summary.seconds), "in all" + _speed_text(summary)))
    if summary.num_bytes:
        each = summary.num_bytes / max(stats.num_footprints, 1)
        cards.append((bytes_text(summary.num_bytes), f"on disk, {each:.0f} bytes a building"))
    if summary.peak_memory_bytes is not None:
        cards.append((bytes_text(summary.peak_memory_bytes), "memory at its highest"))
    return cards


def _stored_text(summary: RunSummary) -> str:
    return f", {summary.num_stored_tiles:,} from the tile store" if summary.num_stored_tiles else ""


def _speed_text(summary: RunSummary) -> str:
    if not summary.tiles_per_second:
        return ""
    return f", {summary.tiles_per_second:.3g} tiles/s"


def _coverage_map(summary: RunSummary) -> str:
    if not summary.num_tiles:
        return ""
    return maps.coverage_map(np.asarray(summary.tile_bounds, np.float64), summary.tile_status)


def _density_map(stats: FootprintStats) -> tuple[str, str]:
    if not stats.num_footprints:
        return "", ""
    counts = stats.density
    per_km2 = np.where(counts > 0, counts / stats.cell_area_km2, np.nan)
    return maps.class_map(
        stats.grid,
        per_km2,
        label="Map of footprints per square kilometre",
        words=lambda value: f"{charts.short_number(value)}",
    )


def _size_map(stats: FootprintStats) -> tuple[str, str]:
    medians = stats.median_area_by_cell_m2(_LEAST_FOR_CELL_MEDIAN)
    if not np.isfinite(medians).any():
        return "", ""
    return maps.class_map(
        stats.grid,
        medians,
        label="Map of the median footprint area in square metres",
        words=lambda value: f"{charts.short_number(value)}",
        style="heat-size",
    )


def _threshold_rows(summary: RunSummary) -> list[ThresholdRow]:
    """The regions with most footprints, in the order given."""
    largest = sorted(summary.thresholds, key=lambda row: -row.num_buildings)[:MAX_THRESHOLD_ROWS]
    tokens = {row.token for row in largest}
    return [row for row in summary.thresholds if row.token in tokens]


def _stage_bars(summary: RunSummary) -> str:
    if summary.busiest is None:
        return ""
    rows = [
        (stage.name, stage.seconds, f"{charts.short_number(stage.per_second)} {stage.unit}/s")
        for stage in summary.stages
    ]
    return charts.stage_bars(rows, summary.busiest.name)


def _grouped(rows: Iterable[FailureRow]) -> list[_FailureGroup]:
    """Rows with the same reason as one, the most frequent first."""
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        names[row.reason, row.action].append(row.name)
    groups = [
        _FailureGroup(
            reason=reason,
            action=action,
            names=sorted(found)[:MAX_NAMES_PER_ROW],
            num_more=max(len(found) - MAX_NAMES_PER_ROW, 0),
        )
        for (reason, action), found in names.items()
    ]
    return sorted(groups, key=lambda group: (-group.num, group.reason))


def duration_text(seconds: float) -> str:
    """A duration in the two largest units that count: 4.2 s, 3 min 12 s, 2 h 05 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def bytes_text(num_bytes: float) -> str:
    """A size in decimal units: 512 B, 45 MB, 3.1 GB."""
    if num_bytes < 1000:
        return f"{num_bytes:.0f} B"
    power = min(int(math.log10(num_bytes) // 3), 4)
    return f"{num_bytes / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def area_text(area_m2: float) -> str:
    """An area in the unit that suits it: m², ha or km²."""
    if area_m2 < 1e4:
        return f"{area_m2:,.0f} m²"
    if area_m2 < 1e6:
        return f"{area_m2 / 1e4:,.1f} ha"
    return f"{area_m2 / 1e6:,.{0 if area_m2 >= 1e9 else 2}f} km²"
