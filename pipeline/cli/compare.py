"""`everyroof compare`: what was built, torn down and altered between two results."""

import json
from typing import Any

import click

from pipeline.cli.query_options import make_query, query_options


@click.command("compare")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@click.option(
    "--out",
    help="Folder for changes.parquet and changes.html, or the log as FILE.parquet. Without it only "
    "the table is shown.",
)
@click.option(
    "--min-iou",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    default=0.3,
    show_default=True,
    help="Least overlap (IoU) of two outlines of different ids that are one building.",
)
@click.option(
    "--unchanged-iou",
    type=click.FloatRange(0.0, 1.0),
    default=0.95,
    show_default=True,
    help="Least IoU of an unchanged building.",
)
@query_options
@click.option("--without-unchanged", is_flag=True, help="Leave unchanged buildings out of the log.")
@click.option("--overwrite", is_flag=True, help="Replace the files that are written.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def compare_command(
    old: str,
    new: str,
    out: str | None,
    min_iou: float,
    unchanged_iou: float,
    without_unchanged: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say which buildings of OLD are unchanged, changed or gone in NEW, and which are new.

    Buildings of one id are one building while their outlines share ground; the others are matched
    by overlap. Where one of the two runs did not see the ground (a failed tile, no image), nothing
    counts as added or removed there. Limits ask for buildings as `everyroof query` does; a pair is
    told of when either of its two buildings fits.
    """
    from rich.console import Console

    from geo.change import ChangeConfig
    from pipeline.compare import as_record, compare_datasets, paths_of, write_page
    from pipeline.row_progress import row_progress
    from pipeline.targets import check_targets

    try:
        config = ChangeConfig(min_iou=min_iou, unchanged_iou=unchanged_iou)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    query = make_query(options)
    log_path, page_path = paths_of(out) if out is not None else (None, None)
    check_targets((log_path, page_path), overwrite=overwrite)
    if log_path is not None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
    with row_progress(Console(stderr=True)) as on_rows:
        comparison = compare_datasets(
            old,
            new,
            log_path=log_path,
            config=config,
            query=query,
            on_rows=on_rows,
            with_unchanged=not without_unchanged,
        )
    if page_path is not None:
        write_page(page_path, comparison)
    if as_json:
        click.echo(json.dumps(as_record(comparison), indent=1))
    else:
        _show(Console(), comparison, [path for path in (log_path, page_path) if path is not None])


def _show(console: Any, comparison: Any, written: list[Any]) -> None:
    from rich.table import Table

    from pipeline.report import area_text

    old, new = comparison.old.dataset, comparison.new.dataset
    console.print(f"OLD {old.place}: {old.num_footprints:,} buildings", highlight=False)
    console.print(f"NEW {new.place}: {new.num_footprints:,} buildings", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("status")
    for name in ("old buildings", "new buildings", "old built area", "new built area"):
        table.add_column(name, justify="right")
    for total in comparison.stats.totals:
        table.add_row(
            total.status.replace("_", " "),
            f"{total.num_old:,}" if total.num_old else "",
            f"{total.num_new:,}" if total.num_new else "",
            area_text(total.area_old_m2) if total.num_old else "",
            area_text(total.area_new_m2) if total.num_new else "",
        )
    console.print(table)
    for (status, reason), number in sorted(comparison.stats.reasons.items()):
        console.print(f"{status.replace('_', ' ')}: {number:,} ({reason})", highlight=False)
    for note in comparison.notes:
        console.print(f"note: {note}", highlight=False)
    if not comparison.stats.totals:
        console.print("no building of either fits")
    elif comparison.stats.is_apart:
        console.print("[yellow]no building lies on ground that both runs have seen[/]")
    for path in written:
        console.print(f"written: {path}", highlight=False)
