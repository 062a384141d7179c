"""`everyroof conflate`: which footprints an existing map has, and what it has besides."""

import json
from pathlib import Path
from typing import Any

import click


@click.command("conflate")
@click.argument("out", type=click.Path())
@click.argument("existing", type=click.Path())
@click.option(
    "--out",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of the marked footprints: .parquet, .gpkg, .fgb, .geojson or .geojsonl.",
)
@click.option(
    "--only",
    type=click.Choice(["new", "mapped"]),
    help="Write only the footprints that the map lacks, or has.",
)
@click.option(
    "--missing",
    "missing_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of what the map has and no footprint shows, on ground that the run has seen.",
)
@click.option("--layer", help="Layer of EXISTING; its first unless given.")
@click.option("--id-column", help="Column of EXISTING that names its features.")
@click.option(
    "--min-iou",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    default=0.3,
    show_default=True,
    help="Least overlap (IoU) with one polygon of the map.",
)
@click.option(
    "--min-covered",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    default=0.5,
    show_default=True,
    help="Least share of a footprint that the map's polygons cover together.",
)
@click.option("--overwrite", is_flag=True, help="Replace the files that are written.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def conflate_command(
    out: str,
    existing: str,
    path: Path | None,
    only: str | None,
    missing_path: Path | None,
    layer: str | None,
    id_column: str | None,
    min_iou: float,
    min_covered: float,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Mark the footprints of OUT that the map EXISTING has.

    EXISTING is any vector file that GDAL reads (an OSM extract, a cadastre), in any CRS, or
    GeoParquet. A footprint is mapped when a polygon of the map overlaps it enough, when polygons
    cover half of it, or when a point lies in it. Columns: is_mapped, map_iou, map_covered_share and
    map_id.
    """
    from rich.console import Console

    from geo.conflate import ConflateConfig
    from pipeline.conflate import as_record, conflate_dataset
    from pipeline.row_progress import row_progress
    from pipeline.targets import check_targets

    if only is not None and path is None:
        raise click.UsageError(f"--only {only} says what to write: name a file with --out")
    check_targets((path, missing_path), overwrite=overwrite, sources=(existing,))
    try:
        with row_progress(Console(stderr=True)) as on_rows:
            found = conflate_dataset(
                out,
                existing,
                path=path,
                missing_path=missing_path,
                which=only or "all",  # type: ignore[arg-type]
                layer=layer,
                id_column=id_column,
                config=ConflateConfig(min_iou=min_iou, min_covered_share=min_covered),
                on_rows=on_rows,
            )
    except OSError as error:
        raise click.ClickException(f"nothing was written: {error}") from error
    if as_json:
        click.echo(json.dumps(as_record(found), indent=1))
    else:
        written = [name for name in (path, missing_path) if name is not None]
        _show(Console(), found, existing, written)


def _show(console: Any, found: Any, existing: str, written: list[Path]) -> None:
    from rich.table import Table

    from pipeline.report import area_text

    totals, counts = found.totals, found.counts
    table = Table(show_header=False, box=None, pad_edge=False)
    share = totals.num_mapped / max(totals.num_footprints, 1)
    new_area = totals.area_m2 - totals.area_mapped_m2
    rows = [
        ("footprints", totals.num_footprints, area_text(totals.area_m2)),
        ("  mapped", totals.num_mapped, f"{area_text(totals.area_mapped_m2)}, {share:.1%} of all"),
        ("    by a point alone", totals.num_by_point, ""),
        ("  new", totals.num_footprints - totals.num_mapped, area_text(new_area)),
        ("polygons of the map", counts.num_polygons, counts.crs),
        ("points of the map", counts.num_points, ""),
        ("  shown by footprints", totals.num_found, ""),
        ("  missing", totals.num_missing, "on ground that the run has seen"),
        ("  not covered", totals.num_not_covered, "on ground that it has not seen"),
    ]
    for name, number, words in rows:
        table.add_row(name, f"{number:>12,}", words)
    console.print(f"{found.dataset.place} beside {existing}", highlight=False)
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False)
    for path in written:
        console.print(f"written: {path}", highlight=False)
