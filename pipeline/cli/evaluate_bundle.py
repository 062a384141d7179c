"""The use of `everyroof evaluate` with --places: a bundle over a set of places."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from geo.errors import EveryroofError
from pipeline.logs import configure_logging

# Imports of torch, Beam and rich wait for the work itself, so that --help is instant.
if TYPE_CHECKING:
    from pipeline.evaluate_places import PlaceEvaluation
    from pipeline.evaluation_report import EvaluationSummary


def evaluate_bundle(
    bundle: Path,
    *,
    places: Path,
    root: Path | None,
    gsds_m: Sequence[float],
    min_confidence: float,
    report: Path | None,
    json_file: TextIO | None,
) -> None:
    """Score a bundle over places, print the tables and write what was asked for.

    Raises:
        click.ClickException: if the bundle, the places or their data cannot be used.
    """
    try:
        evaluations = run_places(bundle, places, root, gsds_m, min_confidence)
        summary = _summarise(bundle, evaluations, min_confidence)
        _print_tables(summary)
        if report is not None:
            from pipeline.evaluation_report import write_evaluation

            for path in write_evaluation(report, summary):
                click.echo(f"written: {path}")
    except EveryroofError as error:
        raise click.ClickException(str(error)) from error
    if json_file is not None:
        from pipeline.cli.evaluate import write_json
        from pipeline.evaluation_report import evaluation_as_dict

        write_json(evaluation_as_dict(summary), json_file)


def run_places(
    bundle: Path,
    places: Path,
    root: Path | None,
    gsds_m: Sequence[float] = (),
    min_confidence: float = 0.0,
) -> list["PlaceEvaluation"]:
    """Evaluate a bundle over the places of a YAML file, with a line per place on standard error.

    Raises:
        EveryroofError: if the bundle, the places or their data cannot be used.
    """
    configure_logging()
    from pipeline.evaluate_places import evaluate_places
    from pipeline.evaluation_config import load_places

    config = load_places(places, root=root)
    evaluations = []
    for evaluation in evaluate_places(bundle, config, gsds_m=gsds_m, min_confidence=min_confidence):
        scores = evaluation.scores
        click.echo(f"{scores.name} at {scores.gsd_m:g} m: AP50 {scores.scores.ap50:.3f}", err=True)
        evaluations.append(evaluation)
    return evaluations


def _summarise(
    bundle: Path, evaluations: list["PlaceEvaluation"], min_confidence: float
) -> "EvaluationSummary":
    from pipeline.evaluation_report import EvaluationSummary

    spec = evaluations[0].spec
    names = {evaluation.scores.name for evaluation in evaluations}
    return EvaluationSummary(
        title=f"{bundle.name} on {len(names)} place{'' if len(names) == 1 else 's'}",
        evaluations=evaluations,
        meta=spec.bundle,
        sha256=spec.bundle_sha256,
        min_confidence=min_confidence,
    )


_COLUMNS = (
    ("AP50", "ap50", 3),
    ("AP50:95", "ap50_95", 3),
    ("precision", "precision", 3),
    ("recall", "recall", 3),
    ("F1", "f1", 3),
    ("best F1", "best_f1", 3),
    ("from", "best_f1_confidence", 3),
    ("pixel IoU", "pixel_iou", 3),
    ("splits", "split_rate", 3),
    ("merges", "merge_rate", 3),
    ("edge m", "boundary_m", 2),
    ("labels", "num_references", 0),
)


_TABLE_WIDTH = 140


def _print_tables(summary: "EvaluationSummary") -> None:
    from rich.console import Console

    from pipeline.evaluate_places import by_pixel_size

    # Narrower than this a terminal wraps lines; a table squeezed into it could not be read.
    console = Console(soft_wrap=True, highlight=False, width=_TABLE_WIDTH)
    for gsd_m, here in by_pixel_size(summary.evaluations).items():
        console.print(_table(gsd_m, [evaluation.scores for evaluation in here]))


def _table(gsd_m: float, places: Sequence[Any]) -> Any:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from pipeline.evaluation_report import score_rows, score_text

    table = Table(title=f"Seen at {gsd_m:.2f} m", title_justify="left", box=box.SIMPLE)
    table.add_column("place", no_wrap=True)
    for heading, _, _ in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in score_rows(places):
        cells = [score_text(row.numbers[name], digits) for _, name, digits in _COLUMNS]
        table.add_row(escape(row.name), *cells, style="bold" if row.is_mean else None)
    return table
