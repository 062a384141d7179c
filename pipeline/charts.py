"""Charts and maps of the report as inline SVG: text follows the page's colours, light and dark.

Every function returns Markup; all text that comes from outside is escaped.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from geo.grid import METRES_PER_DEGREE, unwrap_longitude
from pipeline.footprint_stats import AREA_EDGES_M2, CONFIDENCE_EDGES, FootprintStats
from pipeline.palette import STATUS_COLOURS, STATUS_ORDER, STATUS_WORDS

Float64Array = npt.NDArray[np.float64]

MAX_MAP_MARKS = 3000
"""Above this many tiles a mark of the status map stands for several."""

_WIDTH = 420.0
_CHART_HEIGHT = 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 8.0, 10.0, 34.0


def size_histogram(stats: FootprintStats) -> Markup:
    """Footprints by area, half an octave a bar."""
    shown = _used_range(stats.num_by_area)
    labels = [_area_class(index) for index in range(len(stats.num_by_area))]
    ticks = {index: f"{AREA_EDGES_M2[index]:,.0f}" for index in range(1, len(stats.num_by_area), 2)}
    return _histogram(stats.num_by_area, labels, ticks, shown, "Footprint area, m²")


def confidence_histogram(stats: FootprintStats) -> Markup:
    """Footprints by confidence."""
    shown = _used_range(stats.num_by_confidence)
    pairs = itertools.pairwise(CONFIDENCE_EDGES)
    labels = [f"confidence {low:.3f} to {high:.3f}" for low, high in pairs]
    ticks = {index: f"{CONFIDENCE_EDGES[index]:.1f}" for index in range(0, 41, 4)}
    return _histogram(stats.num_by_confidence, labels, ticks, shown, "Confidence")


def stage_bars(stages: Sequence[tuple[str, float, str]], bottleneck: str) -> Markup:
    """A bar per stage: name, seconds, text behind the bar; the bottleneck is marked."""
    row, label_width, text_width = 24.0, 128.0, 112.0
    longest = max((seconds for _, seconds, _ in stages), default=0.0) or 1.0
    room = _WIDTH - label_width - text_width
    parts = []
    for index, (name, seconds, text) in enumerate(stages):
        y = index * row + 4
        style = "bar-hot" if name == bottleneck else "bar"
        length = max(room * seconds / longest, 1.0)
        parts.append(
            f'<text x="{label_width - 8:.0f}" y="{y + 13:.0f}" class="t" text-anchor="end">'
            f"{escape(name)}</text>"
            f'<rect x="{label_width:.0f}" y="{y:.0f}" width="{length:.1f}" height="17" rx="2" '
            f'class="{style}"/>'
            f'<text x="{label_width + length + 6:.1f}" y="{y + 13:.0f}" class="t mute">'
            f"{escape(text)}</text>"
        )
    return _svg("".join(parts), len(stages) * row + 4, "Busy time of every stage")


def status_map(bounds: Float64Array, status: Sequence[str]) -> Markup:
    """Tiles by status; where there are too many, each mark shows the most serious of its tiles.

    Args:
        bounds: (west, south, east, north) of each tile in degrees, float64, shape (n, 4).
        status: of each tile.
    """
    bounds, ranks = _drawn_tiles(bounds, status)
    frame = _MapFrame(bounds)
    parts = []
    # The most serious come last, on top.
    for rank in reversed(range(len(STATUS_ORDER))):
        name = STATUS_ORDER[rank]
        path = "".join(frame.box(*box) for box in bounds[ranks == rank].tolist())
        if path:
            parts.append(
                f'<path d="{path}" fill="{STATUS_COLOURS[name]}" class="tile">'
                f"<title>{escape(STATUS_WORDS[name])}</title></path>"
            )
    return _svg("".join(parts) + frame.scale_bar(), frame.height, "Map of tiles by status")


def density_map(stats: FootprintStats) -> Markup:
    """Footprints per square kilometre as a map of squares; the darker, the more."""
    west, _, _, north = stats.bounds
    num_rows, num_cols = stats.density.shape
    frame = _MapFrame(np.array([stats.bounds]))
    step_lon = (stats.bounds[2] - west) / num_cols
    step_lat = (north - stats.bounds[1]) / num_rows
    shade = np.sqrt(stats.density / max(int(stats.density.max(initial=0)), 1))
    parts = []
    for row, col in zip(*np.nonzero(stats.density), strict=True):
        box = (west + col * step_lon, north - (row + 1) * step_lat)
        path = frame.box(*box, box[0] + step_lon, box[1] + step_lat)
        density = stats.density[row, col] / stats.cell_area_km2
        parts.append(
            f'<path d="{path}" class="heat" fill-opacity="{0.12 + 0.88 * shade[row, col]:.2f}">'
            f"<title>{density:,.0f} per km² ({int(stats.density[row, col]):,})</title></path>"
        )
    parts.append(f'<path d="{frame.box(*stats.bounds)}" class="frame"/>')
    label = "Map of footprints per square kilometre"
    return _svg("".join(parts) + frame.scale_bar(), frame.height, label)


# --- histograms ----------------------------------------------------------------------------------


def _used_range(counts: npt.NDArray[np.int64]) -> range:
    """The classes from the first to the last that holds anything, at least six."""
    used = np.flatnonzero(counts)
    if len(used) == 0:
        return range(len(counts))
    first, last = int(used[0]), int(used[-1]) + 1
    while last - first < 6:
        first, last = max(first - 1, 0), min(last + 1, len(counts))
    return range(first, last)


def _area_class(index: int) -> str:
    low, high = AREA_EDGES_M2[index], AREA_EDGES_M2[index + 1]
    return f"{low:,.0f} m² and more" if math.isinf(high) else f"{low:,.0f} to {high:,.0f} m²"


def _histogram(
    counts: npt.NDArray[np.int64],
    labels: Sequence[str],
    ticks: dict[int, str],
    shown: range,
    axis: str,
) -> Markup:
    """Bars of the classes shown; `ticks` name lower edges of classes."""
    width, height = _WIDTH - _LEFT - _RIGHT, _CHART_HEIGHT - _TOP - _BOTTOM
    step = width / len(shown)
    top = max(int(counts.max(initial=0)), 1)
    base = _TOP + height
    parts = [_y_axis(top, height)]
    for place, index in enumerate(shown):
        x = _LEFT + place * step
        bar = height * counts[index] / _nice_top(top)
        parts.append(
            f'<rect x="{x + 0.5:.1f}" y="{base - bar:.1f}" width="{step - 1:.1f}" '
            f'height="{bar:.1f}" class="bar"><title>{escape(labels[index])}: '
            f"{int(counts[index]):,}</title></rect>"
        )
        if index in ticks:
            parts.append(_text(x, base + 14, ticks[index], "middle"))
    parts.append(_text(_LEFT + width / 2, _CHART_HEIGHT - 4, axis, "middle", "t mute"))
    return _svg("".join(parts), _CHART_HEIGHT, f"Histogram: {axis}")


def _y_axis(top: int, height: float) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + height * (1 - share)
        parts.append(
            f'<line x1="{_LEFT:.0f}" x2="{_WIDTH - _RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}" '
            'class="grid"/>'
        )
        parts.append(_text(_LEFT - 6, y + 4, short_number(_nice_top(top) * share), "end"))
    return "".join(parts)


def _nice_top(value: float) -> float:
    """The smallest even number of the form 2, 4, 6, 8 or 10 times a power of ten above it."""
    power = 10.0 ** math.floor(math.log10(max(value, 1)))
    return float(next(step * power for step in (2, 4, 6, 8, 10) if step * power >= value))


def short_number(value: float) -> str:
    """A number in at most five signs: 950, 12.5k, 3.1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


# --- maps ----------------------------------------------------------------------------------------


class _MapFrame:
    """Degrees to the SVG's units; north is up, ground is not distorted in the middle."""

    def __init__(self, bounds: Float64Array) -> None:
        self._west, south = bounds[:, 0].min(), bounds[:, 1].min()
        east, self._north = bounds[:, 2].max(), bounds[:, 3].max()
        stretch = math.cos(math.radians((south + self._north) / 2))
        self._metres = stretch * METRES_PER_DEGREE
        width_deg, height_deg = (east - self._west) * stretch, self._north - south
        scale = min(_WIDTH / width_deg, 1.1 * _WIDTH / height_deg)
        self._scale = (scale * stretch, scale)
        self._shift = (_WIDTH - width_deg * scale) / 2
        self.height = height_deg * scale + 26

    def box(self, west: float, south: float, east: float, north: float) -> str:
        """Path of a box in degrees."""
        x, y = self._x(west), (self._north - north) * self._scale[1]
        width, height = (east - west) * self._scale[0], (north - south) * self._scale[1]
        return f"M{x:.2f} {y:.2f}h{width:.2f}v{height:.2f}h-{width:.2f}z"

    def _x(self, longitude: float) -> float:
        return float(self._shift + (longitude - self._west) * self._scale[0])

    def scale_bar(self) -> str:
        """A bar of a round length under the map."""
        metres_per_unit = self._metres / self._scale[0]
        longest = _WIDTH / 4 * metres_per_unit
        power = 10.0 ** math.floor(math.log10(longest))
        length_m = max(step * power for step in (1, 2, 5) if step * power <= longest)
        text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
        end = length_m / metres_per_unit
        y = self.height - 8
        return f'<path d="M1 {y - 4:.1f}v4h{end:.1f}v-4" class="rule"/>' + _text(end + 8, y, text)


def _drawn_tiles(
    bounds: Float64Array, status: Sequence[str]
) -> tuple[Float64Array, npt.NDArray[np.int64]]:
    """Boxes to draw and the rank of their status in `STATUS_ORDER`; binned where there are many."""
    ranks = np.array([STATUS_ORDER.index(name) for name in status], np.int64)
    bounds = _without_jump(bounds)
    if len(bounds) <= MAX_MAP_MARKS:
        return bounds, ranks
    low, high = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
    stretch = math.cos(math.radians((low[1] + high[1]) / 2))
    step = max((high[0] - low[0]) * stretch, high[1] - low[1]) / math.sqrt(MAX_MAP_MARKS)
    steps = np.array([step / stretch, step])
    cells = np.floor(((bounds[:, :2] + bounds[:, 2:]) / 2 - low) / steps).astype(np.int64)
    unique, inverse = np.unique(cells, axis=0, return_inverse=True)
    worst = np.full(len(unique), len(STATUS_ORDER), np.int64)
    np.minimum.at(worst, inverse.reshape(-1), ranks)
    corners = low + unique * steps
    return np.concatenate([corners, corners + steps], axis=1), worst


def _without_jump(bounds: Float64Array) -> Float64Array:
    """Boxes on both sides of the antimeridian brought next to each other."""
    # A value that occurs: the mean of two on both sides would be half the earth away.
    near = float(np.sort(bounds[:, 0])[len(bounds) // 2])
    west = unwrap_longitude(bounds[:, 0], near)
    shift = west - bounds[:, 0]
    return bounds + np.stack([shift, 0 * shift, shift, 0 * shift], axis=1)


# --- pieces of SVG -------------------------------------------------------------------------------


def _text(x: float, y: float, text: str, anchor: str = "start", style: str = "t") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _svg(content: str, height: float, label: str) -> Markup:
    # The content is made of numbers and escaped text only.
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"{content}</svg>"
    )


def legend(counts: Iterable[tuple[str, int]]) -> Markup:
    """A coloured square, a number and a word for every status that occurs."""
    parts = [
        f'<span class="key"><i style="background:{STATUS_COLOURS[name]}"></i>'
        f"{num:,} {escape(STATUS_WORDS[name])}</span>"
        for name, num in counts
        if num
    ]
    return Markup("".join(parts))
