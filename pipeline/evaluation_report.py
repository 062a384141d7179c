"""report.html, scores.json and thresholds of an evaluation.

The page stands alone, as that of a run does: no scripts, no fonts, no other files; pictures are
embedded.
"""

import base64
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geo.atomic_files import write_atomically
from geo.metrics import SizeBin
from model.bundle import BundleMeta, confidence_words, cut_words
from model.calibration import Reliability, reliability
from model.evaluate import PlaceScores, by_category, mean_numbers
from model.thresholds import PRECISIONS_PERCENT, RegionThresholds, thresholds_csv
from pipeline import evaluation_pictures as pictures
from pipeline.evaluate_places import PlaceEvaluation, by_pixel_size, thresholds_of
from pipeline.evaluation_pictures import ReliabilityPanel
from pipeline.page_templates import template_environment
from pipeline.palette import FALSE_COLOUR, MISSED_COLOUR, TRUE_COLOUR
from pipeline.scores_json import scores_as_dict, without_nan

REPORT_NAME = "report.html"
SCORES_NAME = "scores.json"
MAX_OVERLAYS = 24
"""Overlays drawn; places beyond are in the tables only, so that the page stays light."""
MAX_PLACE_PANELS = 24
"""Places with a panel of their own in the chart of curves."""
MAX_SIZE_PLACES = 3
"""Places with a column of their own in the table by size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSummary:
    """Everything that the report shows.

    Attributes:
        title: headline.
        evaluations: places and pixel sizes, in the order to show.
        meta: the bundle's metadata.
        sha256: hash of its file.
        min_confidence: footprints below were left out of precision, recall, F1 and pixel IoU.
        panels: reliability before and after calibration; None takes `reliability_panels`.
        note: a sentence under the reliability diagrams, such as how places were held out.
    """

    title: str
    evaluations: Sequence[PlaceEvaluation]
    meta: BundleMeta
    sha256: str
    min_confidence: float = 0.0
    panels: Sequence[ReliabilityPanel] | None = None
    note: str = ""

    @property
    def places(self) -> list[PlaceScores]:
        """Scores of all evaluations."""
        return [evaluation.scores for evaluation in self.evaluations]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One row of the table of scores: a place, or the mean over some."""

    name: str
    category: str
    numbers: dict[str, float]
    is_mean: bool = False


def write_evaluation(folder: Path, summary: EvaluationSummary) -> list[Path]:
    """Write the report, the scores as JSON and the thresholds as CSV.

    Args:
        folder: made where it does not exist; files of these names are replaced.
        summary: what to write.

    Returns:
        The files.

    Raises:
        RasterError: if an image cannot be read for its overlay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scores = json.dumps(evaluation_as_dict(summary), indent=2, allow_nan=False) + "\n"
    texts = {REPORT_NAME: render_evaluation(summary), SCORES_NAME: scores}
    for gsd_m, here in by_pixel_size(summary.evaluations).items():
        texts[f"thresholds_{gsd_m:g}m.csv"] = thresholds_csv(thresholds_of(here))
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]


def render_evaluation(summary: EvaluationSummary) -> str:
    """The page as text."""
    environment = template_environment()
    environment.filters["score"] = score_text
    environment.filters["percent"] = percent_text
    panels = reliability_panels(summary.evaluations) if summary.panels is None else summary.panels
    names = dict.fromkeys(place.name for place in summary.places)
    return environment.get_template("evaluation.html").render(
        summary=summary,
        num_places=len(names),
        headline=_headline(summary),
        tables=[(gsd_m, score_rows(group)) for gsd_m, group in _scores_by_gsd(summary).items()],
        category_chart=pictures.category_chart(summary.places),
        place_chart=pictures.place_chart(_of_places(summary, list(names)[:MAX_PLACE_PANELS])),
        size_tables=[(gsd_m, _size_table(g)) for gsd_m, g in _scores_by_gsd(summary).items()],
        reliability_chart=pictures.reliability_chart(panels) if panels else "",
        panels=panels,
        thresholds=[
            (gsd_m, region, _threshold_cells(region))
            for gsd_m, here in by_pixel_size(summary.evaluations).items()
            for region in thresholds_of(here)
        ],
        percents=PRECISIONS_PERCENT,
        overlays=_overlays(summary),
        colours={"right": TRUE_COLOUR, "wrong": FALSE_COLOUR, "missed": MISSED_COLOUR},
        facts=_model_facts(summary),
    )


def reliability_panels(evaluations: Sequence[PlaceEvaluation]) -> list[ReliabilityPanel]:
    """Reliability per pixel size: raw, and calibrated where the bundle is."""
    panels = []
    for gsd_m, here in by_pixel_size(evaluations).items():
        raw = np.concatenate([evaluation.samples()[0] for evaluation in here])
        truth = np.concatenate([evaluation.samples()[1] for evaluation in here])
        if len(raw) == 0:
            continue
        series = [("raw", reliability(raw, truth))]
        if here[0].spec.bundle.calibration:
            calibrated = np.concatenate([evaluation.scored_confidence for evaluation in here])
            series.append(("calibrated", reliability(calibrated, truth)))
        panels.append(ReliabilityPanel(title=f"{gsd_m:.2f} m", series=tuple(series)))
    return panels


def score_rows(places: Sequence[PlaceScores]) -> list[ScoreRow]:
    """Rows of places at one pixel size, then the means of categories of several, then of all."""
    rows = [
        ScoreRow(name=place.name, category=place.category, numbers=place.numbers())
        for place in places
    ]
    groups = by_category(places)
    for category, members in groups.items():
        if len(groups) > 1 and len(members) > 1:
            rows.append(_mean_row(f"mean of {category or 'no category'}", members))
    if len(places) > 1:
        rows.append(_mean_row(f"mean of {len(places)} places", places))
    return rows


def _mean_row(name: str, places: Sequence[PlaceScores]) -> ScoreRow:
    return ScoreRow(name=name, category="", numbers=mean_numbers(places), is_mean=True)


def evaluation_as_dict(summary: EvaluationSummary) -> dict[str, Any]:
    """Everything as plain JSON values; what is not defined (NaN) is None."""
    means = {
        f"{gsd_m:g}": {
            "all": mean_numbers(group),
            "by_category": {name: mean_numbers(g) for name, g in by_category(group).items()},
        }
        for gsd_m, group in _scores_by_gsd(summary).items()
    }
    plain: dict[str, Any] = without_nan(
        {
            "bundle": {"name": summary.meta.name, "sha256": summary.sha256},
            "min_confidence": summary.min_confidence,
            "mean_over_places": means,
            "places": [
                {
                    "name": place.name,
                    "category": place.category,
                    "gsd_m": place.gsd_m,
                    **place.numbers(),
                    "scores": scores_as_dict(place.scores),
                }
                for place in summary.places
            ],
            "reliability": {
                panel.title: {name: _reliability_dict(found) for name, found in panel.series}
                for panel in summary.panels or reliability_panels(summary.evaluations)
            },
        }
    )
    return plain


def score_text(value: float, digits: int = 3) -> str:
    """A number, or a dash where it is not defined."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def percent_text(value: float) -> str:
    """A share in percent, or a dash where it is not defined."""
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


def size_text(size: SizeBin) -> str:
    """A range of areas in words."""
    if math.isinf(size.max_area_m2):
        return f"{size.min_area_m2:g} m² and more"
    return f"{size.min_area_m2:g} to {size.max_area_m2:g} m²"


# --- parts of the page ---------------------------------------------------------------------------


def _scores_by_gsd(summary: EvaluationSummary) -> dict[float, list[PlaceScores]]:
    groups = by_pixel_size(summary.evaluations)
    return {gsd_m: [evaluation.scores for evaluation in group] for gsd_m, group in groups.items()}


def _of_places(summary: EvaluationSummary, names: Sequence[str]) -> list[PlaceScores]:
    return [place for place in summary.places if place.name in names]


def _headline(summary: EvaluationSummary) -> list[tuple[str, str]]:
    """The numbers at the top: (number, what it is)."""
    cards = []
    for gsd_m, group in _scores_by_gsd(summary).items():
        means = mean_numbers(group)
        cards.append((score_text(means["ap50"]), f"AP50 at {gsd_m:.2f} m"))
        cards.append((score_text(means["best_f1"]), f"best F1 at {gsd_m:.2f} m"))
    num = {place.name: place.scores.num_references for place in summary.places}
    cards.append((f"{sum(num.values()):,}", "reference buildings"))
    return cards


def _size_table(places: Sequence[PlaceScores]) -> dict[str, Any]:
    """Rows of the table by size: mean over the places that have buildings of the size."""
    shown = places[:MAX_SIZE_PLACES] if len(places) <= MAX_SIZE_PLACES else []
    rows = []
    for index, size in enumerate(places[0].scores.size_bins):
        bins = [place.scores.size_bins[index] for place in places]
        rows.append(
            {
                "size": size_text(size),
                "num_references": sum(one.num_references for one in bins),
                "recall": _mean_defined(one.recall for one in bins),
                "num_footprints": sum(one.num_predictions for one in bins),
                "precision": _mean_defined(one.precision for one in bins),
                "places": [place.scores.size_bins[index] for place in shown],
            }
        )
    return {"places": [place.name for place in shown], "rows": rows}


def _mean_defined(values: Any) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _threshold_cells(region: RegionThresholds) -> list[str]:
    cells = []
    for percent in PRECISIONS_PERCENT:
        found = region.thresholds[percent]
        if found is None:
            cells.append("not reached")
            continue
        # An evaluation's thresholds rest on labels, so that each has its interval.
        assert found.low is not None
        assert found.high is not None
        low, high = math.floor(100 * found.low), math.ceil(100 * found.high)
        cells.append(
            f"{found.min_confidence:.4f} (precision {low} to {high} %, {found.num_samples})"
        )
    return cells


def _overlays(summary: EvaluationSummary) -> list[dict[str, Any]]:
    """Overlays by place: name, category and a picture per pixel size, as data URLs."""
    groups: dict[str, dict[str, Any]] = {}
    for evaluation in summary.evaluations[:MAX_OVERLAYS]:
        scores, matching = evaluation.scores, evaluation.scores.matching
        picture = base64.b64encode(pictures.draw_verdicts(evaluation)).decode()
        group = groups.setdefault(
            scores.name, {"name": scores.name, "category": scores.category, "pictures": []}
        )
        group["pictures"].append(
            {
                "gsd_m": scores.gsd_m,
                "url": f"data:image/webp;base64,{picture}",
                "num_right": int(matching.is_true.sum()),
                "num_wrong": int(matching.is_false.sum()),
                "num_missed": int(matching.is_missed.sum()),
            }
        )
    return list(groups.values())


def _model_facts(summary: EvaluationSummary) -> list[tuple[str, str]]:
    meta = summary.meta
    facts = [
        ("Name", meta.name),
        ("SHA-256", summary.sha256),
        ("Network", f"{meta.network.architecture}, {meta.network.encoder}"),
        ("Pixel size", f"{meta.gsd_m:g} m"),
        ("Threshold", f"{meta.threshold:g} per pixel"),
        ("Neighbours", cut_words(meta)),
        ("Grown back", f"{meta.erosion_px} px"),
        ("Confidence", confidence_words(meta)),
        ("Calibrated", f"{len(meta.calibration)} knots" if meta.calibration else "no"),
    ]
    known = ("licence", "data", "source", "created")
    facts += [
        (key.capitalize(), str(meta.provenance[key])) for key in known if key in meta.provenance
    ]
    return facts


def _reliability_dict(found: Reliability) -> dict[str, Any]:
    plain = dataclasses.asdict(found)
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in plain.items()
    }
