"""Maps of the pages as inline SVG: light, without a script, in the page's own colours.

A map's weight does not grow with the job: above a number of tiles or buildings there are cells, and
cells of one class make one path. All text that comes from outside is escaped.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import shapely
from markupsafe import Markup, escape

from geo.grid import METRES_PER_DEGREE
from pipeline.charts import WIDTH, as_svg, svg_text
from pipeline.map_grid import MapGrid, side_by_side
from pipeline.palette import STATUS_COLOURS, STATUS_ORDER, STATUS_WORDS

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

MAX_TILE_MARKS = 1200
"""Tiles up to which the map of coverage draws each; above it cells show shares of their ground."""
MAX_CLASSES = 6
"""Shades of a map of classes."""

_COVERAGE_CELLS = 32
# A failed share is seen, however small it is: at least this part of a cell's width.
_LEAST_FAILED_WIDTH = 0.18
_NICE_STEPS = (1.0, 2.0, 5.0)
_LEAST_CLASSES = 4


def coverage_map(bounds: Float64Array, status: Sequence[str]) -> Markup:
    """Ground by what became of it: tiles, or cells with a stripe per status as wide as its share.

    Args:
        bounds: (west, south, east, north) of each tile in degrees, float64, shape (n, 4).
        status: of each tile.
    """
    ranks = np.array([STATUS_ORDER.index(name) for name in status], np.int64)
    boxes = side_by_side(bounds)
    if len(boxes) <= MAX_TILE_MARKS:
        paths, extent = _tile_boxes(boxes, ranks), boxes
    else:
        paths, extent = _share_boxes(boxes, ranks)
    frame = MapFrame(extent)
    parts = []
    # The most serious come last, on top.
    for rank in reversed(range(len(STATUS_ORDER))):
        if rank in paths:
            name = STATUS_ORDER[rank]
            drawn = "".join(itertools.starmap(frame.box, paths[rank].tolist()))
            style = ' class="tile"' if len(boxes) <= MAX_TILE_MARKS else ""
            parts.append(
                f'<path d="{drawn}" fill="{STATUS_COLOURS[name]}"{style}>'
                f"<title>{escape(STATUS_WORDS[name])}</title></path>"
            )
    label = "Map of tiles by status: " + _status_counts(ranks)
    return as_svg("".join(parts) + frame.scale_bar(), frame.height, label)


def _status_counts(ranks: Int64Array) -> str:
    counts = np.bincount(ranks, minlength=len(STATUS_ORDER))
    return ", ".join(
        f"{num:,} {STATUS_WORDS[STATUS_ORDER[rank]]}"
        for rank, num in enumerate(counts.tolist())
        if num
    )


def _tile_boxes(boxes: Float64Array, ranks: Int64Array) -> dict[int, Float64Array]:
    return {int(rank): boxes[ranks == rank] for rank in np.unique(ranks)}


def _share_boxes(
    boxes: Float64Array, ranks: Int64Array
) -> tuple[dict[int, Float64Array], Float64Array]:
    """Stripes in the cells of a grid, as wide as each status's share, and the grid's own box."""
    west, south = boxes[:, :2].min(axis=0).tolist()
    east, north = boxes[:, 2:].max(axis=0).tolist()
    grid = MapGrid.over((west, south, east, north), _COVERAGE_CELLS)
    shares = np.stack(
        [grid.covered_area(boxes[ranks == rank]) for rank in range(len(STATUS_ORDER))]
    )
    # Where zones overlap the ground is planned twice.
    shares /= np.maximum(shares.sum(axis=0), 1.0)
    failed = STATUS_ORDER.index("failed")
    seen = np.where(shares[failed] > 0, np.maximum(shares[failed], _LEAST_FAILED_WIDTH), 0.0)
    room = np.maximum(shares.sum(axis=0), seen) - seen
    rest = np.delete(shares, failed, axis=0).sum(axis=0)
    shares *= np.divide(room, rest, out=np.zeros_like(rest), where=rest > 0)
    shares[failed] = seen
    ends = np.cumsum(shares, axis=0)
    paths = {
        rank: _stripes(grid, ends[rank] - shares[rank], ends[rank])
        for rank in range(len(STATUS_ORDER))
        if shares[rank].any()
    }
    return paths, np.array([grid.bounds])


def _stripes(grid: MapGrid, start: Float64Array, end: Float64Array) -> Float64Array:
    """Boxes of stripes; whole cells beside each other are one box, for a light page."""
    west, _, _, north = grid.bounds
    step_lon, step_lat = grid.step_deg
    rows, cols = np.nonzero(end - start > 1e-3)
    low, high = cols + start[rows, cols], cols + end[rows, cols]
    begins = np.ones(len(rows), bool)
    begins[1:] = (rows[1:] != rows[:-1]) | (low[1:] > high[:-1] + 1e-3)
    last = np.append(np.flatnonzero(begins)[1:] - 1, len(rows) - 1)[: int(begins.sum())]
    top = north - rows[begins] * step_lat
    return np.stack(
        [west + low[begins] * step_lon, top - step_lat, west + high[last] * step_lon, top], axis=1
    )


def class_map(
    grid: MapGrid,
    values: Float64Array,
    *,
    label: str,
    words: Callable[[float], str],
    style: str = "heat",
    backdrop: Float64Array | None = None,
) -> tuple[Markup, Markup]:
    """A map of cells in shades of one colour, and its key.

    Args:
        grid: the cells.
        values: of each cell, above 0; NaN for cells that stay empty. Shape of the grid.
        label: what is shown, for those who do not see it.
        words: a limit between two classes as text.
        style: class of the paths, which gives the colour.
        backdrop: share of each cell, 0 to 1, that is drawn as ground; None for none.
    """
    edges = class_edges(values)
    classes = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    classes = np.where(np.isfinite(values), classes, -1)
    frame = MapFrame(np.array([grid.bounds]))
    parts = [] if backdrop is None else [_ground_path(grid, frame, backdrop)]
    for number in range(len(edges) - 1):
        boxes = _stripes(grid, np.zeros(grid.shape), (classes == number).astype(np.float64))
        if len(boxes):
            path = "".join(itertools.starmap(frame.box, boxes.tolist()))
            shade = _shade(number, len(edges) - 1)
            title = _class_words(edges, number, words)
            parts.append(
                f'<path d="{path}" class="{style}" fill-opacity="{shade:.2f}">'
                f"<title>{escape(title)}</title></path>"
            )
    parts.append(f'<path d="{frame.box(*grid.bounds)}" class="frame"/>')
    found = values[np.isfinite(values)]
    if len(found):
        label += f": from {words(float(found.min()))} to {words(float(found.max()))}"
    svg = as_svg("".join(parts) + frame.scale_bar(), frame.height, label)
    return svg, _class_key(edges, words, style) if len(found) else Markup("")


def share_map(
    grid: MapGrid, shares: Sequence[tuple[str, str, Float64Array]], *, label: str
) -> Markup:
    """Cells with a stripe for each kind of ground, as wide as its share.

    Args:
        grid: the cells.
        shares: name, colour and share of each cell, 0 to 1 and 1 at most together.
        label: what is shown, for those who do not see it.
    """
    frame = MapFrame(np.array([grid.bounds]))
    parts, start = [], np.zeros(grid.shape)
    for name, colour, share in shares:
        boxes = _stripes(grid, start, start + share)
        start = start + share
        if len(boxes):
            path = "".join(itertools.starmap(frame.box, boxes.tolist()))
            parts.append(f'<path d="{path}" fill="{colour}"><title>{escape(name)}</title></path>')
    parts.append(f'<path d="{frame.box(*grid.bounds)}" class="frame"/>')
    return as_svg("".join(parts) + frame.scale_bar(), frame.height, label)


def _ground_path(grid: MapGrid, frame: "MapFrame", share: Float64Array) -> str:
    boxes = _stripes(grid, np.zeros(grid.shape), (share > 0.5).astype(np.float64))
    path = "".join(itertools.starmap(frame.box, boxes.tolist()))
    return f'<path d="{path}" class="ground"/>' if path else ""


def class_edges(values: Float64Array) -> Float64Array:
    """Round limits of at most `MAX_CLASSES` classes around the values.

    From the series 1, 2, 5, 10, ... where the values span much of it, else at even steps.

    Args:
        values: above 0; NaN is left out.
    """
    found = values[np.isfinite(values)]
    if len(found) == 0:
        return np.array([0.0, 1.0])
    low, high = float(found.min()), float(found.max())
    # Beyond the greatest value by what a stride of several steps may need.
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + MAX_CLASSES)
    series = [step * 10.0**power for power in powers for step in _NICE_STEPS]
    start = max(i for i, value in enumerate(series) if value <= low * (1 + 1e-9))
    end = next(i for i, value in enumerate(series) if value > high)
    if end - start < _LEAST_CLASSES:
        return _even_edges(low, high)
    stride = math.ceil((end - start) / MAX_CLASSES)
    num = math.ceil((end - start) / stride)
    return np.array(series[start : start + num * stride + 1 : stride])


def _even_edges(low: float, high: float) -> Float64Array:
    """Limits at even steps of the series 1, 2, 5, 10, ... around a range."""
    rough = max(high - low, 0.2 * high) / (MAX_CLASSES - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in (*_NICE_STEPS, 10.0) if nice * power >= rough)
    first = math.floor(low / step)
    return np.asarray(step * np.arange(first, math.floor(high / step) + 2), np.float64)


def _class_words(edges: Float64Array, number: int, words: Callable[[float], str]) -> str:
    return f"{words(float(edges[number]))} to {words(float(edges[number + 1]))}"


def _class_key(edges: Float64Array, words: Callable[[float], str], style: str) -> Markup:
    parts = [
        f'<span class="key"><i class="{style}" style="opacity:{_shade(k, len(edges) - 1):.2f}">'
        f"</i>{escape(_class_words(edges, k, words))}</span>"
        for k in range(len(edges) - 1)
    ]
    return Markup("".join(parts))


def _shade(number: int, num: int) -> float:
    return 0.18 + 0.82 * (number / (num - 1) if num > 1 else 0.6)


def outline_map(outlines: Mapping[str, tuple[Sequence[bytes], str]], label: str) -> Markup:
    """Single outlines on a map of the place that they take up.

    Args:
        outlines: by what they are, WKB of polygons and colour; at least one, later ones lie on top.
        label: what is shown, for those who do not see it.
    """
    shapes = {
        name: shapely.from_wkb(np.array(rows, object)) for name, (rows, _) in outlines.items()
    }
    boxes = side_by_side(shapely.bounds(np.concatenate(list(shapes.values()))))
    frame = MapFrame(boxes)
    middle = float(boxes[:, 0].min() + boxes[:, 2].max()) / 2
    parts = []
    for name, (_, colour) in outlines.items():
        path = "".join(
            frame.outline(shapely.get_coordinates(shape.exterior), middle) for shape in shapes[name]
        )
        parts.append(
            f'<path d="{path}" fill="{colour}" stroke="{colour}" stroke-width=".6">'
            f"<title>{escape(name)}</title></path>"
        )
    return as_svg("".join(parts) + frame.scale_bar(), frame.height, label)


class MapFrame:
    """Degrees to the SVG's units; north is up, ground is not distorted in the middle."""

    def __init__(self, bounds: Float64Array) -> None:
        self._west, south = bounds[:, 0].min(), bounds[:, 1].min()
        east, self._north = bounds[:, 2].max(), bounds[:, 3].max()
        stretch = math.cos(math.radians((south + self._north) / 2))
        self._metres = stretch * METRES_PER_DEGREE
        width_deg, height_deg = (east - self._west) * stretch, self._north - south
        scale = min(WIDTH / width_deg, 1.1 * WIDTH / height_deg)
        self._scale = (scale * stretch, scale)
        self._shift = (WIDTH - width_deg * scale) / 2
        self.height = height_deg * scale + 26

    def box(self, west: float, south: float, east: float, north: float) -> str:
        """Path of a box in degrees."""
        x, y = self._x(west), (self._north - north) * self._scale[1]
        width, height = (east - west) * self._scale[0], (north - south) * self._scale[1]
        return f"M{x:.2f} {y:.2f}h{width:.2f}v{height:.2f}h-{width:.2f}z"

    def outline(self, ring: Float64Array, middle_deg: float) -> str:
        """Path of a ring in degrees, turned beside a longitude."""
        turn = 360.0 * round((middle_deg - float(ring[0, 0])) / 360.0)
        x = self._shift + (ring[:-1, 0] + turn - self._west) * self._scale[0]
        y = (self._north - ring[:-1, 1]) * self._scale[1]
        points = " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
        return f"M{points}z"

    def _x(self, longitude: float) -> float:
        return float(self._shift + (longitude - self._west) * self._scale[0])

    def scale_bar(self) -> str:
        """A bar of a round length under the map."""
        metres_per_unit = self._metres / self._scale[0]
        longest = WIDTH / 4 * metres_per_unit
        power = 10.0 ** math.floor(math.log10(longest))
        length_m = max(step * power for step in _NICE_STEPS if step * power <= longest)
        text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
        end = length_m / metres_per_unit
        y = self.height - 8
        return f'<path d="M1 {y - 4:.1f}v4h{end:.1f}v-4" class="rule"/>' + svg_text(
            end + 8, y, text
        )
