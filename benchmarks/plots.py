"""Small plain charts: lines, a panel for each quantity, the legend below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pipeline.palette import SERIES_COLOURS

Points = Sequence[tuple[float, float]]
MARKERS = "os^Dv<>"


@dataclass(frozen=True)
class Panel:
    """One quantity over another.

    Attributes:
        title: what is measured, with its unit.
        x_label: what it depends on, with its unit.
        lines: (x, y) points by name; the same name has the same colour in every panel.
    """

    title: str
    x_label: str
    lines: Mapping[str, Points]
    from_zero: bool = False
    """A linear axis that begins at 0, on which a flat line looks flat, instead of a log one."""


def plot_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Draw panels side by side into a PNG."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 3.4), squeeze=False, layout="constrained"
    )
    for axis, panel in zip(axes[0], panels, strict=True):
        _draw(axis, panel, names)
    handles, labels = axes[0][0].get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(len(names), 5), frameon=False
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw(axis: Axes, panel: Panel, names: Sequence[str]) -> None:
    for name, points in panel.lines.items():
        index = names.index(name)
        axis.plot(
            *zip(*sorted(points), strict=True),
            color=SERIES_COLOURS[index % len(SERIES_COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            linewidth=2.2 if index == 0 else 1.4,
            label=name,
        )
    axis.set(xscale="log", yscale="linear" if panel.from_zero else "log", xlabel=panel.x_label)
    if panel.from_zero:
        axis.set_ylim(bottom=0)
    else:
        # Every label a plain number; the default writes those between powers as 6 x 10^0.
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_title(panel.title, loc="left", fontsize=10)
    ticks = sorted({x for points in panel.lines.values() for x, _ in points})
    axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.grid(alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
