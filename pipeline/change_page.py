"""changes.html: what became of the buildings between two datasets, as tables, maps and charts.

The page stands alone and stays light: no scripts, no fonts, cells instead of buildings where there
are many.
"""

import itertools

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pipeline import charts, maps
from pipeline.change_stats import IOU_EDGES, SHIFT_EDGES_M, ChangeStats, StatusTotals
from pipeline.compare import ComparedSide, Comparison
from pipeline.report import area_text, page_environment

Float64Array = npt.NDArray[np.float64]

STATUS_COLOURS = {
    "unchanged": "#9A9A9A",
    "changed": "#E69F00",
    "split": "#CC79A7",
    "merged": "#7A5C00",
    "added": "#0072B2",
    "removed": "#D55E00",
    "not_covered_in_new": "#C9C9C9",
    "not_covered_in_old": "#C9C9C9",
}
"""Colour of a building by what became of it."""

# On maps of larger cells single buildings are specks.
_OUTLINES_BELOW_KM2 = 0.02

_MapPanel = tuple[str, Markup, Markup, str]


def render_changes(comparison: Comparison) -> str:
    """The page as text."""
    stats = comparison.stats
    meanings = _meanings(comparison)
    template = page_environment().get_template("changes.html")
    return template.render(
        old=_side_facts(comparison.old),
        new=_side_facts(comparison.new),
        notes=comparison.notes,
        is_apart=bool(stats.totals) and stats.is_apart,
        headline=_headline(stats.totals),
        totals=[(t, meanings[t.status], STATUS_COLOURS[t.status]) for t in stats.totals],
        reasons=[(status, reason, num) for (status, reason), num in sorted(stats.reasons.items())],
        maps=_map_panels(comparison),
        charts=_chart_panels(stats),
    )


def _side_facts(side: ComparedSide) -> dict[str, object]:
    return {
        "name": side.dataset.name,
        "place": str(side.dataset.place),
        "num": side.dataset.num_footprints,
        "model_id": side.dataset.model_id,
        "gsd_m": f"{side.dataset.gsd_m:g}",
    }


def _meanings(comparison: Comparison) -> dict[str, str]:
    config = comparison.config
    return {
        "unchanged": f"the same building, IoU of the outlines at least {config.unchanged_iou:g}",
        "changed": "the same building, another outline",
        "split": "one old building where several new ones are, and these",
        "merged": "several old buildings where one new one is, and this",
        "added": "no old building there, though OLD has seen the ground",
        "removed": "no new building there, though NEW has seen the ground",
        "not_covered_in_new": "NEW has not seen this ground",
        "not_covered_in_old": "OLD has not seen this ground",
    }


def _headline(totals: tuple[StatusTotals, ...]) -> list[tuple[str, str]]:
    by_status = {total.status: total for total in totals}
    cards = []
    for status, words in (("added", "buildings added"), ("removed", "buildings removed")):
        total = by_status.get(status)
        num = 0 if total is None else total.num_old + total.num_new
        area = 0.0 if total is None else total.area_old_m2 + total.area_new_m2
        cards.append((f"{num:,}", f"{words}, {area_text(area)}"))
    for status in ("changed", "unchanged"):
        total = by_status.get(status)
        cards.append((f"{0 if total is None else total.num_new:,}", f"buildings {status}"))
    compared = [total for total in totals if not total.status.startswith("not_covered")]
    gain = sum(total.area_new_m2 - total.area_old_m2 for total in compared)
    sign = "+" if gain >= 0 else "−"
    cards.append((sign + area_text(abs(gain)), "built area, on ground that both have seen"))
    return cards


def _map_panels(comparison: Comparison) -> list[_MapPanel]:
    stats = comparison.stats
    if not stats.num_rows:
        return []
    is_near = stats.grid.cell_area_km2 < _OUTLINES_BELOW_KM2
    if stats.outlines and (is_near or "unchanged" in stats.outlines):
        return [_outline_panel(stats), _ground_panel(comparison)]
    return [
        _density_panel(comparison, "Added per km²", ("added",), "heat"),
        _density_panel(comparison, "Removed per km²", ("removed",), "heat-hot"),
        _density_panel(
            comparison,
            "Changed, split or merged per km²",
            ("changed", "split", "merged"),
            "heat-size",
        ),
        _ground_panel(comparison),
    ]


def _density_panel(
    comparison: Comparison, title: str, statuses: tuple[str, ...], style: str
) -> _MapPanel:
    stats = comparison.stats
    counts = stats.map_of(*statuses)
    per_km2 = np.where(counts > 0, counts / stats.grid.cell_area_km2, np.nan)
    drawn, key = maps.class_map(
        stats.grid,
        per_km2,
        label=f"Map: {title}",
        words=charts.short_number,
        style=style,
        backdrop=comparison.seen[0],
    )
    words = "" if key else "None. "
    return title, drawn, key, words + "Shaded ground was seen by both runs."


def _outline_panel(stats: ChangeStats) -> _MapPanel:
    assert stats.outlines is not None
    order = ("unchanged", "not_covered_in_old", "not_covered_in_new", "changed", "merged", "split")
    found = {
        status.replace("_", " "): (stats.outlines[status], STATUS_COLOURS[status])
        for status in (*order, "removed", "added")
        if status in stats.outlines
    }
    words = ", ".join(f"{len(rows):,} {name}" for name, (rows, _) in found.items())
    drawn = maps.outline_map(found, f"Map of buildings: {words}")
    key = Markup("").join(
        Markup('<span class="key"><i style="background:{}"></i>{}</span>').format(colour, name)
        for name, (_, colour) in found.items()
    )
    is_all = "unchanged" in found or not stats.map_of("unchanged").any()
    return "Buildings", drawn, key, "" if is_all else "Unchanged buildings are not drawn."


def _ground_panel(comparison: Comparison) -> _MapPanel:
    """Ground that both, only OLD or only NEW have seen."""
    names = ("seen by both", "only by OLD", "only by NEW")
    colours = ("#0072B2", "#E69F00", "#CC79A7")
    drawn = maps.share_map(
        comparison.stats.grid,
        list(zip(names, colours, comparison.seen, strict=True)),
        label="Map of the ground that the runs have seen",
    )
    key = Markup("").join(
        Markup('<span class="key"><i style="background:{}"></i>{}</span>').format(colour, name)
        for name, colour, share in zip(names, colours, comparison.seen, strict=True)
        if share.any()
    )
    words = "Stripes in a cell are as wide as the shares of its ground, by samples."
    return "Ground seen", drawn, key, words


def _chart_panels(stats: ChangeStats) -> list[tuple[str, Markup, str]]:
    if not stats.num_by_iou.sum():
        return []
    iou_labels = [f"IoU {low:.2f} to {high:.2f}" for low, high in itertools.pairwise(IOU_EDGES)]
    iou_ticks = {index: f"{IOU_EDGES[index]:.1f}" for index in range(0, 20, 4)}
    shift_ticks = {index: f"{edge:g}" for index, edge in enumerate(SHIFT_EDGES_M[:-1])}
    shift_labels = [
        f"{low:g} to {high:g} m" if np.isfinite(high) else f"{low:g} m and more"
        for low, high in itertools.pairwise(SHIFT_EDGES_M)
    ]
    return [
        (
            "Overlap of the same buildings",
            charts.histogram(
                stats.num_by_iou, iou_labels, iou_ticks, range(20), "IoU of old and new outline"
            ),
            "Buildings found in both, unchanged ones included.",
        ),
        (
            "Shift of the same buildings",
            charts.histogram(
                stats.num_by_shift,
                shift_labels,
                shift_ticks,
                range(len(shift_labels)),
                "Metres between the centroids",
            ),
            "A shift that most buildings share comes from the images' georeference.",
        ),
    ]
