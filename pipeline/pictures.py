"""Pictures for people: the cover of a plan, every stage of one tile, footprints over an image.

Outlines and arrays share the world grid's pixel coordinates: an array holds a `PixelWindow`, and
outlines are in pixel units with y upwards (y = -row), so that a pixel's edges are drawn where they
are, half a pixel left of and above its centre.

Matplotlib is imported inside the functions: it takes half a second, and most commands draw nothing.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely

from geo.grid import METRES_PER_DEGREE, unwrap_longitude
from geo.pixel_window import PixelWindow
from geo.polygons import PolygonArray
from pipeline.palette import (
    AREA_COLOUR,
    IMAGE_COLOUR,
    STATUS_COLOURS,
    STATUS_ORDER,
    STATUS_WORDS,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Float64Array = npt.NDArray[np.float64]

MAX_OVERLAY_PX = 100_000_000
"""Largest picture that `draw_overlay` makes; about 1 GB of memory while drawing."""

_DPI = 100
_OUTLINE_COLOUR = "#FFE119"
_UNSURE = np.array([0.20, 0.72, 1.00])
_SURE = np.array([1.00, 0.88, 0.10])
_INK = "#222222"
_PAPER = "#FFFFFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverTile:
    """One tile on a cover map.

    Attributes:
        outline: (longitude, latitude) in degrees, float64, shape (n, 2).
        status: a key of `STATUS_COLOURS`.
    """

    outline: Float64Array
    status: str = "planned"


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePicture:
    """One panel of `draw_stages`.

    Attributes:
        title: what is seen.
        layer: what to draw, over the whole window. By type: uint8 (3, H, W) is an image; bool
            (H, W) a mask; uint8 (H, W) a probability; signed int (H, W) instance numbers, 0 none.
        note: a second line, such as "212 instances".
        outlines: polygons to draw on top, in grid pixels.
        highlighted: instance numbers to show in colour while the others turn grey; None for all.
    """

    title: str
    layer: npt.NDArray[np.generic]
    note: str = ""
    outlines: PolygonArray | None = None
    highlighted: npt.NDArray[np.integer] | None = None


def draw_cover(
    path: Path,
    tiles: Sequence[CoverTile],
    *,
    images: Sequence[tuple[str, Float64Array]] = (),
    aoi: shapely.Geometry | None = None,
    title: str = "Tiles",
) -> None:
    """Draw tiles by status, image outlines and the area of interest as a map (PNG).

    Args:
        path: the PNG to write.
        tiles: the tiles; longitudes may run beyond 180 degrees.
        images: name and outline (longitude, latitude) of each image.
        aoi: area of interest in degrees.
        title: of the picture.

    Raises:
        ValueError: if there is nothing to draw.
    """
    if not tiles and not images:
        raise ValueError("nothing to draw: there are neither tiles nor images")
    from matplotlib.collections import PolyCollection

    outlines, image_rings = _without_jump([tile.outline for tile in tiles], [r for _, r in images])
    images = [(name, ring) for (name, _), ring in zip(images, image_rings, strict=True)]
    extent = _lonlat_extent(outlines + image_rings)
    figure, axes = _map_axes(extent)
    for status in reversed(STATUS_ORDER):
        rings = [o for tile, o in zip(tiles, outlines, strict=True) if tile.status == status]
        if rings:
            style: dict[str, Any] = {"facecolor": STATUS_COLOURS[status], "edgecolor": _PAPER}
            hatch = "////" if status == "failed" else None
            axes.add_collection(
                PolyCollection(
                    rings, linewidth=_hairline(len(tiles)), hatch=hatch, alpha=0.8, **style
                )
            )
    for _, ring in images:
        _add_map_line(axes, ring, IMAGE_COLOUR, 1.5)
    if aoi is not None:
        for ring in _without_jump(outlines + image_rings, list(_rings_of(aoi)))[1]:
            _add_map_line(axes, ring, AREA_COLOUR, 2.2, "--")
    _label_images(axes, images)
    _add_scale_bar(axes, extent)
    _add_cover_legend(axes, tiles, has_images=bool(images), has_aoi=aoi is not None)
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=_INK, pad=10)
    _save(figure, path)


def draw_stages(
    path: Path,
    stages: Sequence[StagePicture],
    *,
    window: PixelWindow,
    gsd_m: float,
    title: str,
    num_cols: int = 3,
) -> None:
    """Draw every stage of one tile as a panel of one picture (PNG).

    Args:
        path: the PNG to write.
        stages: the panels, in order.
        window: the grid pixels that every layer holds.
        gsd_m: metres per pixel, for the scale.
        title: of the whole picture.
        num_cols: panels per row.

    Raises:
        ValueError: if there is no stage, or a layer does not have the window's shape.
    """
    from matplotlib.figure import Figure

    if not stages:
        raise ValueError("nothing to draw: there are no stages")
    for stage in stages:
        if stage.layer.shape[-2:] != (window.height, window.width):
            raise ValueError(
                f"the layer {stage.title!r} has the shape {stage.layer.shape}; "
                f"expected {window.height} x {window.width} pixels"
            )
    num_cols = min(num_cols, len(stages))
    num_rows = math.ceil(len(stages) / num_cols)
    aspect = np.clip(window.height / window.width, 0.4, 2.5)
    size = (5.6 * num_cols, (5.6 * aspect + 0.45) * num_rows + 0.5)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor=_PAPER)
    figure.suptitle(title, x=0.01, ha="left", fontsize=15, fontweight="bold", color=_INK)
    grid = figure.subplots(num_rows, num_cols, squeeze=False)
    for axes, stage in zip(grid.flat, stages, strict=False):
        _draw_stage(figure, axes, stage, window)
    for axes in list(grid.flat)[len(stages) :]:
        axes.set_axis_off()
    _label_size(grid[0, 0], window, gsd_m)
    _save(figure, path)


def draw_overlay(
    path: Path,
    pixels: npt.NDArray[np.uint8],
    outlines: PolygonArray,
    confidence: npt.ArrayLike,
    *,
    window: PixelWindow,
    scale: int = 1,
    line_px: float = 1.8,
) -> None:
    """Draw footprints over their image at full resolution (PNG): blue unsure, yellow sure.

    Every image pixel becomes exactly scale x scale pixels of the picture, without margins.

    Args:
        path: the PNG to write.
        pixels: uint8, shape (3, height, width) or (1, height, width).
        outlines: footprints in grid pixels.
        confidence: of each footprint, 0 to 1.
        window: the grid pixels that `pixels` holds.
        scale: pixels of the picture per image pixel.
        line_px: width of the lines, in pixels of the picture.

    Raises:
        ValueError: if the picture would exceed `MAX_OVERLAY_PX`.
    """
    from matplotlib.figure import Figure

    width, height = window.width * scale, window.height * scale
    if width * height > MAX_OVERLAY_PX:
        raise ValueError(
            f"a picture of {width} x {height} pixels is too large (at most {MAX_OVERLAY_PX:,} "
            "pixels); draw a part of the image"
        )
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _show(axes, _as_rgb(pixels), interpolation="nearest")
    rings, owner = local_rings(outlines, window)
    points_per_px = 72 / _DPI
    colours = _confidence_colours(np.asarray(confidence, np.float64))[owner]
    _add_lines(axes, rings, "#000000B0", (line_px + 1.6) * points_per_px)
    _add_lines(axes, rings, colours, line_px * points_per_px)
    _frame(axes, window)
    if width >= 400 and height >= 120:
        _add_confidence_key(figure, width, height)
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})


def local_rings(
    outlines: PolygonArray, window: PixelWindow
) -> tuple[list[Float64Array], npt.NDArray[np.int64]]:
    """Rings in a window's own coordinates (x right, y down), and the polygon that each belongs to.

    Args:
        outlines: polygons in grid pixels, y upwards.
        window: its upper left corner becomes (0, 0).
    """
    coords = outlines.coords * (1.0, -1.0) - (window.col_off, window.row_off)
    rings = np.split(coords, outlines.ring_offsets[1:-1]) if len(outlines) else []
    owner = np.repeat(np.arange(len(outlines)), np.diff(outlines.polygon_offsets))
    return rings, owner


# --- panels --------------------------------------------------------------------------------------


def _draw_stage(figure: "Figure", axes: "Axes", stage: StagePicture, window: PixelWindow) -> None:
    layer = stage.layer
    if layer.ndim == 3:
        _show(axes, _as_rgb(layer), interpolation="antialiased")
    elif layer.dtype == np.bool_:
        _show(axes, np.where(layer[..., None], (240, 240, 236), (64, 60, 72)).astype(np.uint8))
    elif layer.dtype == np.uint8:
        _draw_probability(figure, axes, layer)
    else:
        _show(axes, _colour_instances(layer, stage.highlighted))
    if stage.outlines is not None and len(stage.outlines):
        rings, _ = local_rings(stage.outlines, window)
        _add_lines(axes, rings, "#000000", 1.7)
        _add_lines(axes, rings, _OUTLINE_COLOUR, 0.9)
    _frame(axes, window)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(stage.title, loc="left", fontsize=11, fontweight="bold", color=_INK)
    axes.set_title(stage.note, loc="right", fontsize=9, color="#555555")


def _draw_probability(figure: "Figure", axes: "Axes", layer: npt.NDArray[Any]) -> None:
    picture = axes.imshow(
        layer.astype(np.float32) / 255,
        cmap="cividis",
        vmin=0,
        vmax=1,
        extent=(0, layer.shape[1], layer.shape[0], 0),
    )
    # Inside the panel, so that all panels keep one size.
    inset = axes.inset_axes((0.03, 0.075, 0.3, 0.025))
    bar = figure.colorbar(picture, cax=inset, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.ax.tick_params(labelsize=8, colors="#FFFFFF", length=2)
    bar.outline.set_visible(False)


def _colour_instances(
    numbers: npt.NDArray[Any], highlighted: npt.NDArray[np.integer] | None
) -> npt.NDArray[np.uint8]:
    """A colour per instance, the same for the same number in every picture; uint8 (H, W, 3)."""
    largest = int(numbers.max(initial=0))
    rng = np.random.default_rng(20260501)
    colours = _hues(rng.random(largest + 1))
    if highlighted is not None:
        muted = np.full_like(colours, 96)
        muted[highlighted] = (230, 159, 0)
        colours = muted
    colours[0] = (24, 24, 30)
    return colours[np.clip(numbers, 0, largest)]


def _hues(turns: Float64Array) -> npt.NDArray[np.uint8]:
    """Bright colours of any hue; lightness varies too, so that neighbours differ without hue."""
    phase = 2 * np.pi * (turns[:, None] + np.array([0.0, 1 / 3, 2 / 3]))
    light = 0.80 + 0.20 * np.cos(2 * np.pi * 7 * turns)[:, None]
    return ((0.55 + 0.42 * np.cos(phase)) * light * 255).astype(np.uint8)


def _label_size(axes: "Axes", window: PixelWindow, gsd_m: float) -> None:
    """The ground that a panel covers, under the first one."""
    width_m, height_m = window.width * gsd_m, window.height * gsd_m
    text = (
        f"{width_m:,.0f} × {height_m:,.0f} m, {window.width} × {window.height} px, {gsd_m:g} m/px"
    )
    axes.set_xlabel(text, loc="left", fontsize=9, color="#555555")


# --- maps ----------------------------------------------------------------------------------------


def _map_axes(extent: tuple[float, float, float, float]) -> tuple["Figure", "Axes"]:
    """A figure as wide or as high as the ground, with a legend's room on the right."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    west, south, east, north = extent
    stretch = 1 / math.cos(math.radians((south + north) / 2))
    aspect = (north - south) * stretch / (east - west)
    width = 8.0 if aspect <= 1 else max(8.0 / aspect, 4.0)
    height = float(np.clip(width * aspect, 3.0, 8.0))
    figure = Figure(figsize=(width + 2.2, height + 0.9), dpi=140, layout="constrained")
    figure.set_facecolor(_PAPER)
    axes = figure.add_subplot()
    axes.set_facecolor("#F4F4F1")
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect(stretch)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(lambda value, _: f"{value:.5g}°")
        axis.set_tick_params(labelsize=8, color="#999999", labelcolor="#555555")
    for side in axes.spines.values():
        side.set_color("#BBBBBB")
    return figure, axes


def _without_jump(
    first: Sequence[Float64Array], second: Sequence[Float64Array]
) -> tuple[list[Float64Array], list[Float64Array]]:
    """Rings on both sides of the antimeridian brought next to each other, each in one piece."""
    middles = [float(ring[:, 0].mean()) for ring in (*first, *second)]
    # A value that occurs: the mean of two on both sides would be half the earth away.
    known = sorted(middles[: len(first) or None])
    near = known[len(known) // 2]
    shifts = unwrap_longitude(middles, near) - middles
    moved = [
        np.stack([ring[:, 0] + by, ring[:, 1]], axis=1)
        for ring, by in zip((*first, *second), shifts, strict=True)
    ]
    return moved[: len(first)], moved[len(first) :]


def _lonlat_extent(rings: Iterable[Float64Array]) -> tuple[float, float, float, float]:
    """Bounds of the rings with a little air: (west, south, east, north) in degrees."""
    points = np.concatenate([np.asarray(ring, np.float64) for ring in rings])
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    air = 0.04 * max(east - west, north - south, 1e-4)
    return west - air, south - air, east + air, north + air


def _add_map_line(
    axes: "Axes", ring: Float64Array, colour: str, width_pt: float, style: str = "-"
) -> None:
    """A line with a pale rim, seen on every fill."""
    x, y = ring[:, 0], ring[:, 1]
    axes.plot(x, y, color=_PAPER, linewidth=width_pt + 1.8, alpha=0.8)
    axes.plot(x, y, color=colour, linewidth=width_pt, linestyle=style)


def _add_scale_bar(axes: "Axes", extent: tuple[float, float, float, float]) -> None:
    west, south, east, north = extent
    metres_per_degree = METRES_PER_DEGREE * math.cos(math.radians((south + north) / 2))
    length_m = round_down((east - west) * metres_per_degree / 4)
    length = length_m / metres_per_degree
    x, y = west + 0.03 * (east - west), south + 0.035 * (north - south)
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    for colour, width in ((_PAPER, 5.0), (_INK, 2.2)):
        axes.plot([x, x + length], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    label = axes.text(x + length / 2, y + 0.015 * (north - south), text, ha="center", fontsize=8)
    label.set_bbox({"facecolor": _PAPER, "alpha": 0.75, "edgecolor": "none", "pad": 1.5})


def round_down(value: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not above a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value * (1 + 1e-9))


def _label_images(axes: "Axes", images: Sequence[tuple[str, Float64Array]]) -> None:
    """Names inside their outlines; left out where they would cover the map."""
    if len(images) > 12:
        return
    for name, ring in images:
        x, y = ring.mean(axis=0)
        text = axes.text(x, y, name, ha="center", va="center", fontsize=8, color=_INK)
        text.set_bbox({"facecolor": _PAPER, "alpha": 0.8, "edgecolor": "none", "pad": 2})


def _add_cover_legend(
    axes: "Axes", tiles: Sequence[CoverTile], *, has_images: bool, has_aoi: bool
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for status in STATUS_ORDER:
        num = sum(tile.status == status for tile in tiles)
        if num:
            label = f"{num:,} {STATUS_WORDS[status]}"
            hatch = "////" if status == "failed" else None
            colour = STATUS_COLOURS[status]
            handles.append(Patch(facecolor=colour, edgecolor=_PAPER, hatch=hatch, label=label))
    if has_images:
        handles.append(Line2D([], [], color=IMAGE_COLOUR, linewidth=1.5, label="image"))
    if has_aoi:
        style: dict[str, Any] = {"color": AREA_COLOUR, "linewidth": 2.0, "linestyle": "--"}
        handles.append(Line2D([], [], label="area of interest", **style))
    place: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (1.0, 1.0),
        "borderaxespad": 0.4,
    }
    axes.legend(
        handles=handles, title="Tiles", alignment="left", frameon=False, fontsize=9, **place
    )


def _hairline(num_tiles: int) -> float:
    return float(np.clip(12 / math.sqrt(max(num_tiles, 1)), 0.0, 0.8))


def _rings_of(geometry: shapely.Geometry) -> Iterable[Float64Array]:
    for part in shapely.get_parts(geometry):
        for ring in (part.exterior, *part.interiors):
            yield shapely.get_coordinates(ring)


# --- shared by all -------------------------------------------------------------------------------


def _as_rgb(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(bands, H, W) to (H, W, 3): the first three bands, or the first one as grey."""
    bands = pixels[:3] if len(pixels) >= 3 else np.repeat(pixels[:1], 3, axis=0)
    return np.ascontiguousarray(bands.transpose(1, 2, 0), np.uint8)


def _show(axes: "Axes", rgb: npt.NDArray[np.uint8], interpolation: str = "nearest") -> None:
    extent = (0, rgb.shape[1], rgb.shape[0], 0)
    axes.imshow(rgb, extent=extent, interpolation=interpolation)


def _frame(axes: "Axes", window: PixelWindow) -> None:
    """Show exactly the window, whatever was drawn beyond it."""
    axes.set_xlim(0, window.width)
    axes.set_ylim(window.height, 0)


def _add_lines(axes: "Axes", rings: Sequence[Float64Array], colour: Any, width_pt: float) -> None:
    from matplotlib.collections import LineCollection

    style: dict[str, Any] = {"linewidths": width_pt, "capstyle": "round", "joinstyle": "round"}
    axes.add_collection(LineCollection(rings, colors=colour, **style), autolim=False)


def _confidence_colours(confidence: Float64Array) -> Float64Array:
    """Blue at 0.5 and below to yellow at 1; RGB, shape (n, 3). Both are bright on any roof."""
    place = np.clip((confidence - 0.5) / 0.5, 0, 1)[:, None]
    return (1 - place) * _UNSURE + place * _SURE


def _add_confidence_key(figure: "Figure", width: int, height: int) -> None:
    """A colour bar in the lower left corner of an overlay."""
    axes = figure.add_axes((24 / width, 28 / height, 140 / width, 12 / height))
    axes.imshow(_confidence_colours(np.linspace(0.5, 1, 64))[None], aspect="auto")
    axes.set_yticks([])
    axes.set_xticks([0, 63], ["≤ 0.5", "1"], fontsize=9, color="#FFFFFF")
    axes.set_title("confidence", fontsize=9, color="#FFFFFF", pad=3)
    axes.tick_params(length=0, pad=2)
    for text in (axes.title, *axes.get_xticklabels()):
        text.set_bbox({"facecolor": "#000000", "alpha": 0.6, "edgecolor": "none", "pad": 1.5})


def _save(figure: "Figure", path: Path) -> None:
    # Without the version of matplotlib in the file, the same picture is the same bytes.
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
