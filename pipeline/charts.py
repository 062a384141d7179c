"""Charts of the pages as inline SVG: text follows the page's colours, light and dark.

Every function returns Markup; all text that comes from outside is escaped.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from pipeline.footprint_stats import AREA_EDGES_M2, CONFIDENCE_EDGES, FootprintStats
from pipeline.palette import STATUS_COLOURS, STATUS_WORDS

Float64Array = npt.NDArray[np.float64]

WIDTH = 420.0
"""Width of every chart and map in the SVG's units."""

_CHART_HEIGHT = 190.0
_MAX_TICKS = 9
LEFT, RIGHT, TOP, BOTTOM = 44.0, 8.0, 10.0, 34.0
"""Room around a chart for its axes."""


def size_histogram(stats: FootprintStats) -> Markup:
    """Footprints by area, half an octave a bar."""
    shown = used_range(stats.num_by_area)
    labels = [area_class(index) for index in range(len(stats.num_by_area))]
    ticks = area_ticks(stats)
    return histogram(stats.num_by_area, labels, ticks, shown, "Footprint area, m²")


def confidence_histogram(stats: FootprintStats) -> Markup:
    """Footprints by confidence."""
    shown = used_range(stats.num_by_confidence)
    pairs = itertools.pairwise(CONFIDENCE_EDGES)
    labels = [f"confidence {low:.3f} to {high:.3f}" for low, high in pairs]
    ticks = {index: f"{CONFIDENCE_EDGES[index]:.1f}" for index in range(0, 41, 4)}
    return histogram(stats.num_by_confidence, labels, ticks, shown, "Confidence")


def stage_bars(stages: Sequence[tuple[str, float, str]], bottleneck: str) -> Markup:
    """A bar per stage: name, seconds, text behind the bar; the bottleneck is marked."""
    row, label_width, text_width = 24.0, 128.0, 112.0
    longest = max((seconds for _, seconds, _ in stages), default=0.0) or 1.0
    room = WIDTH - label_width - text_width
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
    return as_svg("".join(parts), len(stages) * row + 4, "Busy time of every stage")


# --- histograms ----------------------------------------------------------------------------------


def used_range(counts: npt.NDArray[np.int64]) -> range:
    """The classes from the first to the last that holds anything, at least six."""
    used = np.flatnonzero(counts)
    if len(used) == 0:
        return range(len(counts))
    first, last = int(used[0]), int(used[-1]) + 1
    while last - first < 6:
        first, last = max(first - 1, 0), min(last + 1, len(counts))
    return range(first, last)


def area_ticks(stats: FootprintStats) -> dict[int, str]:
    """Lower edges of classes of area that are named on an axis, by class; fewer on a long one."""
    shown = used_range(stats.num_by_area)
    stride = 2 if len(shown) <= 2 * _MAX_TICKS else 4
    return {index: f"{AREA_EDGES_M2[index]:,.0f}" for index in range(1, shown.stop, stride)}


def area_class(index: int) -> str:
    """A class of area in words."""
    low, high = AREA_EDGES_M2[index], AREA_EDGES_M2[index + 1]
    return f"{low:,.0f} m² and more" if math.isinf(high) else f"{low:,.0f} to {high:,.0f} m²"


def histogram(
    counts: npt.NDArray[np.int64],
    labels: Sequence[str],
    ticks: dict[int, str],
    shown: range,
    axis: str,
) -> Markup:
    """Bars of the classes shown; `ticks` name lower edges of classes."""
    width, height = WIDTH - LEFT - RIGHT, _CHART_HEIGHT - TOP - BOTTOM
    step = width / len(shown)
    top = max(int(counts.max(initial=0)), 1)
    base = TOP + height
    parts = [_y_axis(top, height)]
    for place, index in enumerate(shown):
        x = LEFT + place * step
        bar = height * counts[index] / _nice_top(top)
        parts.append(
            f'<rect x="{x + 0.5:.1f}" y="{base - bar:.1f}" width="{step - 1:.1f}" '
            f'height="{bar:.1f}" class="bar"><title>{escape(labels[index])}: '
            f"{int(counts[index]):,}</title></rect>"
        )
        if index in ticks:
            parts.append(svg_text(x, base + 14, ticks[index], "middle"))
    parts.append(svg_text(LEFT + width / 2, _CHART_HEIGHT - 4, axis, "middle", "t mute"))
    return as_svg("".join(parts), _CHART_HEIGHT, f"Histogram: {axis}")


def _y_axis(top: int, height: float) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = TOP + height * (1 - share)
        parts.append(grid_line(y))
        parts.append(svg_text(LEFT - 6, y + 4, short_number(_nice_top(top) * share), "end"))
    return "".join(parts)


def grid_line(y: float) -> str:
    """A line across a chart."""
    return (
        f'<line x1="{LEFT:.0f}" x2="{WIDTH - RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
    )


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


# --- pieces of SVG -------------------------------------------------------------------------------


def svg_text(x: float, y: float, text: str, anchor: str = "start", style: str = "t") -> str:
    """A text of a chart, escaped."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def as_svg(content: str, height: float, label: str) -> Markup:
    """A whole picture; the label says what it shows to those who do not see it."""
    # The content is made of numbers and escaped text only.
    return Markup(
        f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">'
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
