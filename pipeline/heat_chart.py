"""Confidence against the size of footprints, as a heat of shares with a line of medians."""

import math

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pipeline.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    area_class,
    area_ticks,
    as_svg,
    grid_line,
    svg_text,
    used_range,
)
from pipeline.footprint_stats import FootprintStats

Float64Array = npt.NDArray[np.float64]

_CHART_HEIGHT = 230.0
_NUM_LEVELS = 8
LEAST_FOR_MEDIAN = 10
"""Footprints that a class of area needs for a median."""


def confidence_by_size(stats: FootprintStats) -> Markup:
    """Confidence against area: per class of area the shares of its footprints, and the median."""
    shown = used_range(stats.num_by_area)
    width, base = WIDTH - LEFT - RIGHT, _CHART_HEIGHT - BOTTOM
    step = width / len(shown)
    parts = [_heat(stats, shown, step)]
    for share in (0.0, 0.5, 1.0):
        y = base - (base - TOP) * share
        parts.append(grid_line(y) + svg_text(LEFT - 6, y + 4, f"{share:g}", "end"))
    parts += [
        svg_text(LEFT + (index - shown.start) * step, base + 14, text, "middle")
        for index, text in area_ticks(stats).items()
        if index in shown
    ]
    medians = stats.median_confidence_by_area(LEAST_FOR_MEDIAN)
    parts.append(_median_line(medians, shown, step))
    middle = LEFT + width / 2
    parts.append(svg_text(middle, _CHART_HEIGHT - 4, "Footprint area, m²", "middle", "t mute"))
    return as_svg("".join(parts), _CHART_HEIGHT, _in_words(medians, shown))


def _heat(stats: FootprintStats, shown: range, step: float) -> str:
    """Cells by area and confidence, darker where more of the footprints of that area are."""
    # Two classes of confidence as one: half as many cells, twice as many buildings in each.
    counts = stats.num_by_size.reshape(stats.num_by_size.shape[0], -1, 2).sum(axis=2)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    levels = np.ceil(np.sqrt(shares / max(float(shares.max(initial=0)), 1e-9)) * _NUM_LEVELS)
    base = _CHART_HEIGHT - BOTTOM
    row = (base - TOP) / counts.shape[1]
    parts = []
    for level in range(1, _NUM_LEVELS + 1):
        path = "".join(
            f"M{LEFT + (area - shown.start) * step:.1f} {base - (index + 1) * row:.1f}"
            f"h{step:.1f}v{row:.1f}h-{step:.1f}z"
            for area, index in zip(*np.nonzero(levels == level), strict=True)
            if area in shown
        )
        if path:
            shade = 0.08 + 0.72 * level / _NUM_LEVELS
            parts.append(f'<path d="{path}" class="heat" fill-opacity="{shade:.2f}"/>')
    return "".join(parts)


def _median_line(medians: Float64Array, shown: range, step: float) -> str:
    base = _CHART_HEIGHT - BOTTOM
    points = [
        f"{LEFT + (area - shown.start + 0.5) * step:.1f} "
        f"{base - (base - TOP) * float(medians[area]):.1f}"
        for area in shown
        if not math.isnan(medians[area])
    ]
    return f'<path d="M{"L".join(points)}" class="median"/>' if points else ""


def _in_words(medians: Float64Array, shown: range) -> str:
    """The line's course for those who do not see it: first, middle and last class of area."""
    known = [area for area in shown if not math.isnan(medians[area])]
    told = sorted({known[0], known[len(known) // 2], known[-1]}) if known else []
    words = "; ".join(f"{area_class(area)}: {medians[area]:.2f}" for area in told)
    return f"Confidence against footprint area. Median by area: {words or 'too few footprints'}"
