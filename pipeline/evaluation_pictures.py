"""Pictures of an evaluation: precision-recall curves, reliability, footprints right and wrong.

Charts come as SVG whose text is text and takes the page's colour, so that one picture serves light
and dark; overlays as WebP. Matplotlib is imported inside the functions: it takes half a second.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from markupsafe import Markup

from geo.grid import WorldGrid
from geo.image_profile import profile_image
from geo.matching import PolygonObjects
from geo.pixel_window import PixelWindow
from geo.rasters import TileReader
from model.calibration import Reliability
from model.evaluate import RECALL_POINTS, PlaceScores, by_category, mean_curve
from pipeline.evaluate_places import PlaceEvaluation
from pipeline.palette import FALSE_COLOUR, MISSED_COLOUR, SERIES_COLOURS, TRUE_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UInt8Array = npt.NDArray[np.uint8]

MAX_OVERLAY_PX = 1400
"""Longer side of an overlay."""

_DPI = 100
_PANEL_INCHES = 3.5
# A colour that nothing else uses: it becomes the page's own text colour.
_INK = "#010203"
_LINE_STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityPanel:
    """One panel of `reliability_chart`.

    Attributes:
        title: what it is of, such as "0.30 m".
        series: name and reliability, such as before and after calibration; at most three.
    """

    title: str
    series: tuple[tuple[str, Reliability], ...]


def category_chart(places: Sequence[PlaceScores]) -> Markup:
    """Precision-recall curves, a panel per pixel size: thin a place, thick its category."""
    sizes = _gsds(places)
    categories = list(by_category(places))
    figure, panels = _panels(len(sizes))
    for axes, gsd_m in zip(panels, sizes, strict=True):
        here = [place for place in places if place.gsd_m == gsd_m]
        for category, members in by_category(here).items():
            colour = _series_colour(categories.index(category))
            if len(members) > 1:
                for member in members:
                    _plot_curve(axes, [member], color=colour, lw=0.8, alpha=0.6)
            label = f"{_mean_ap50(members):.3f}  {category or 'all'}"
            _plot_curve(axes, members, color=colour, lw=2.2, label=label)
        _finish_curves(axes, f"{gsd_m:.2f} m")
    return _as_svg(figure, "Precision-recall curves by category")


def place_chart(places: Sequence[PlaceScores]) -> Markup:
    """Precision-recall curves, a panel per place: a line per pixel size, a dot at best F1."""
    sizes, names = _gsds(places), list(dict.fromkeys(place.name for place in places))
    figure, panels = _panels(len(names))
    for axes, name in zip(panels, names, strict=True):
        for place in (place for place in places if place.name == name):
            index = sizes.index(place.gsd_m)
            style: dict[str, Any] = {
                "color": _series_colour(index),
                "ls": _LINE_STYLES[index % len(_LINE_STYLES)],
            }
            label = f"{place.scores.ap50:.3f}  at {place.gsd_m:.2f} m"
            _plot_curve(axes, [place], lw=1.8, label=label, **style)
            best = place.scores.at_best_f1
            axes.plot(best.recall, best.precision, "o", ms=5, color=style["color"])
        _finish_curves(axes, name)
    return _as_svg(figure, "Precision-recall curves by place")


def reliability_chart(panels: Sequence[ReliabilityPanel]) -> Markup:
    """Share of right footprints against confidence, with 95 % intervals; the diagonal is ideal."""
    figure, grid = _panels(len(panels))
    for axes, panel in zip(grid, panels, strict=True):
        axes.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--")
        for index, (name, found) in enumerate(panel.series):
            share = found.share_true
            axes.errorbar(
                found.confidence,
                share,
                yerr=np.clip([share - found.low, found.high - share], 0, None),
                color=_series_colour(1 - index if index < 2 else index),
                marker="os^"[index % 3],
                ms=5,
                lw=1.6,
                elinewidth=0.8,
                capsize=2,
                label=f"{found.error:.3f}  {name}",
            )
        _finish_panel(axes, panel.title, "confidence", "share right")
        _add_legend(axes, "expected error")
    return _as_svg(figure, "Reliability of confidence")


def draw_verdicts(evaluation: PlaceEvaluation) -> bytes:
    """The labelled area with what is right, wrong and missing, as WebP.

    The picture has its own pixel size: that of the image, coarser where the area is large.

    Raises:
        RasterError: if an image cannot be read.
    """
    from matplotlib.figure import Figure

    grid, window = _picture_window(evaluation)
    figure = Figure(figsize=(window.width / _DPI, window.height / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    extent = (0, window.width, window.height, 0)
    axes.imshow(_read_picture(evaluation, grid, window), extent=extent, interpolation="nearest")
    # Large pictures are shown smaller than they are: thicker lines last.
    line_px = max(2.0, 2.0 * max(window.width, window.height) / 800)
    for shapes, colour, weight, style in _verdicts(evaluation):
        _add_outlines(axes, _local(shapes, grid, window), colour, weight * line_px, style)
    axes.set_xlim(0, window.width)
    axes.set_ylim(window.height, 0)
    content = io.BytesIO()
    figure.savefig(content, format="webp", dpi=_DPI, pil_kwargs={"quality": 80, "method": 4})
    return content.getvalue()


# --- charts --------------------------------------------------------------------------------------


def _gsds(places: Sequence[PlaceScores]) -> list[float]:
    return sorted({place.gsd_m for place in places})


def _mean_ap50(places: Sequence[PlaceScores]) -> float:
    return float(np.mean([place.scores.ap50 for place in places]))


def _series_colour(index: int) -> str:
    return SERIES_COLOURS[index % len(SERIES_COLOURS)]


def _panels(num: int) -> tuple["Figure", list["Axes"]]:
    """A figure of square panels, three a row, and its axes."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    num_cols = min(num, 3)
    num_rows = -(-num // num_cols)
    size = (_PANEL_INCHES * num_cols, (_PANEL_INCHES + 0.25) * num_rows)
    # Room between a legend and the title below it.
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.12))
    figure.patch.set_alpha(0)
    grid = figure.subplots(num_rows, num_cols, squeeze=False)
    for axes in list(grid.flat)[num:]:
        axes.set_axis_off()
    return figure, list(grid.flat)[:num]


def _finish_curves(axes: "Axes", title: str) -> None:
    _finish_panel(axes, title, "recall", "precision")
    _add_legend(axes, "AP50")


def _finish_panel(axes: "Axes", title: str, x_label: str, y_label: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_box_aspect(1)
    axes.patch.set_alpha(0)
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=_INK)
    axes.tick_params(colors=_INK, labelsize=9, length=0)
    axes.grid(color="#888888", alpha=0.3, lw=0.6)
    for side in axes.spines.values():
        side.set_visible(False)


def _plot_curve(axes: "Axes", places: Sequence[PlaceScores], **style: Any) -> None:
    """The mean curve of places, up to the highest recall that any of them reaches."""
    precision = mean_curve(places)
    axes.plot(RECALL_POINTS, np.where(precision > 0, precision, np.nan), **style)


def _add_legend(axes: "Axes", title: str) -> None:
    """A legend under the panel, where it hides nothing."""
    legend = axes.legend(
        title=title,
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.17),
        alignment="left",
        frameon=False,
        fontsize=9,
        title_fontsize=9,
        labelcolor=_INK,
        borderpad=0,
    )
    legend.get_title().set_color(_INK)


def _as_svg(figure: "Figure", label: str) -> Markup:
    """A figure as inline SVG: the same bytes each time, without a date and without group ids."""
    from matplotlib import rc_context

    content = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(content, format="svg", metadata=metadata, bbox_inches="tight")
    svg = content.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg).replace(_INK, "currentColor")
    # At most as large as drawn, smaller where the page is narrow.
    svg = re.sub(r'(<svg[^>]*?) width="([^"]+)"', r'\1 style="max-width: \2"', svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]+"', r"\1", svg, count=1)
    # All text in it is ours or was escaped by matplotlib's SVG writer.
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


# --- overlays ------------------------------------------------------------------------------------


def _picture_window(evaluation: PlaceEvaluation) -> tuple[WorldGrid, PixelWindow]:
    """A grid of the picture's own pixel size and the labelled area on it, with a little around."""
    west, south, east, north = evaluation.aoi.bounds
    air = 0.02 * max(east - west, north - south)
    west, south, east, north = west - air, south - air, east + air, north + air
    finest = min(image.gsd_m for image in evaluation.spec.images.infos())
    gsd_mm = max(round(1000 * finest), int(1000 * max(east - west, north - south) / MAX_OVERLAY_PX))
    epsg = evaluation.crs.to_epsg()
    assert epsg is not None  # `geo.references.metric_crs` gives UTM zones
    grid = WorldGrid(epsg - 32600, max(gsd_mm + 1, 10))
    col, row = int(west // grid.gsd_m), int(-north // grid.gsd_m)
    width, height = int((east - west) / grid.gsd_m) + 1, int((north - south) / grid.gsd_m) + 1
    return grid, PixelWindow(col, row, width, height)


def _read_picture(
    evaluation: PlaceEvaluation, grid: WorldGrid, window: PixelWindow
) -> npt.NDArray[Any]:
    """RGB of a window, light grey where there is no image; uint8, shape (height, width, 3)."""
    images, config = evaluation.spec.images.infos(), evaluation.spec.config.raster
    profiles = [profile_image(image, config) for image in images]
    with TileReader(images, profiles, grid, config) as reader:
        raster = reader.read(window)
    bands = raster.pixels if len(raster.pixels) >= 3 else raster.pixels[[0, 0, 0]]
    return np.where(raster.valid[..., None], np.moveaxis(bands[:3], 0, -1), 225).astype(np.uint8)


def _verdicts(
    evaluation: PlaceEvaluation,
) -> list[tuple[PolygonObjects, str, float, str]]:
    """What to draw, from below to above: polygons, colour, weight, line style."""
    matching = evaluation.scores.matching
    found, references = evaluation.footprints, evaluation.references
    area = np.array([evaluation.aoi], object)
    return [
        (area, "#FFFFFF", 0.8, "--"),
        (found[matching.is_ignored], "#CFCFCF", 0.6, "-"),
        (found[matching.is_true], TRUE_COLOUR, 1.0, "-"),
        (references[matching.is_missed], MISSED_COLOUR, 1.0, "--"),
        (found[matching.is_false], FALSE_COLOUR, 1.0, "-"),
    ]


def _local(
    shapes: PolygonObjects, grid: WorldGrid, window: PixelWindow
) -> list[npt.NDArray[np.float64]]:
    """Rings in the picture's pixels, x right and y down."""
    rings = shapely.get_parts(shapely.boundary(shapes))
    coords, ring = shapely.get_coordinates(rings, return_index=True)
    coords = coords / (grid.gsd_m, -grid.gsd_m) - (window.col_off, window.row_off)
    return np.split(coords, np.flatnonzero(np.diff(ring)) + 1) if len(coords) else []


def _add_outlines(
    axes: "Axes",
    rings: Sequence[npt.NDArray[np.float64]],
    colour: str,
    width_px: float,
    style: str,
) -> None:
    """Lines with a dark rim, seen on every roof, and a tint within."""
    from matplotlib.collections import LineCollection, PolyCollection

    point = 72 / _DPI
    if style == "-":
        axes.add_collection(PolyCollection(rings, facecolors=colour, alpha=0.18), autolim=False)
    rim: dict[str, Any] = {"colors": "#000000B0", "linewidths": 1.7 * width_px * point}
    axes.add_collection(LineCollection(rings, capstyle="round", **rim), autolim=False)
    line: dict[str, Any] = {"colors": colour, "linewidths": width_px * point}
    axes.add_collection(LineCollection(rings, linestyles=style, **line), autolim=False)
