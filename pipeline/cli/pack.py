"""`everyroof pack`: read training data, say what was found, write one small file of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geo.errors import EveryroofError

# GDAL, GEOS and rich wait for the command itself, so that --help is instant.
if TYPE_CHECKING:
    from model.places import Place
    from model.sources import ReadReport, SourceReport

_MAX_REASONS = 10


@click.command("pack")
@click.argument("sources", type=click.Path(path_type=Path))
@click.argument("pack", type=click.Path(path_type=Path))
@click.option(
    "--sheets",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for pictures of every place with its outlines.  [default: PACK_sheets]",
)
@click.option("--no-sheets", is_flag=True, help="Draw no pictures.")
@click.option(
    "--hold-out",
    "held_out",
    multiple=True,
    metavar="SOURCE",
    help="Keep all of a source for validation; may be given again. Shows how a network does on "
    "ground like none that it learned from.",
)
def pack_command(
    sources: Path, pack: Path, sheets: Path | None, no_sheets: bool, held_out: tuple[str, ...]
) -> None:
    """Read the training data that SOURCES (YAML) lists into the chip pack PACK.

    A chip pack is one zip file that holds images, labels and the split between training and
    validation; training from it needs no geospatial library. Look at the pictures: they show
    wrong labels in a minute, training shows them after hours.
    """
    from model.chip_pack import write_pack
    from model.hold_out import hold_out
    from model.sources import read_places
    from pipeline.train_config_file import load_dataset

    try:
        config = hold_out(load_dataset(sources), held_out)
        places, report = read_places(config)
        pack.parent.mkdir(parents=True, exist_ok=True)
        quality = {one.name: one.jpeg_quality for one in config.sources if one.jpeg_quality}
        write_pack(pack, places, jpeg_quality=config.jpeg_quality, source_quality=quality)
    except EveryroofError as error:
        raise click.ClickException(str(error)) from error
    _print_report(report, places)
    click.echo(f"{pack}: {len(places)} places, {pack.stat().st_size / 1e6:.1f} MB")
    if not no_sheets:
        from pipeline.contact_sheet import write_contact_sheets

        folder = sheets or pack.with_name(pack.name.split(".")[0] + "_sheets")
        for path in write_contact_sheets(places, folder):
            click.echo(f"  {path}")


def _print_report(report: "ReadReport", places: "list[Place]") -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    console.print(_sources_table(report))
    for one in report.sources:
        remarks = ", ".join(_remarks(one))
        if remarks:
            console.print(f"{one.source}: {remarks}", markup=False)
        for image in one.skipped[:_MAX_REASONS]:
            console.print(f"  skipped {image.stem}: {image.reason}", markup=False)
    held_out = sorted({place.region for place in places if place.split == "validation"})
    shown = ", ".join(held_out) or "none: nothing will tell how good a network becomes"
    console.print(f"regions for validation: {shown}", markup=False)


def _sources_table(report: "ReadReport") -> Any:
    from rich.table import Table

    table = Table(title="Training data", title_justify="left")
    table.add_column("source")
    for heading in ("images", "places", "instances", "training ha", "validation ha"):
        table.add_column(heading, justify="right")
    for one in report.sources:
        table.add_row(
            one.source,
            str(one.num_images),
            str(one.num_places),
            str(one.num_instances),
            f"{one.train_m2 / 1e4:.2f}",
            f"{one.validation_m2 / 1e4:.2f}",
        )
    return table


def _remarks(report: "SourceReport") -> Iterator[str]:
    """What was left out or mended, where anything was."""
    counts = report.counts
    facts = (
        (len(report.skipped), "images skipped"),
        (report.num_spared, "images without buildings left out (max_empty)"),
        (counts.num_repaired, "polygons repaired"),
        (counts.num_dropped, "labels without an area dropped"),
        (
            counts.num_unknown,
            "labels at the edge of the labelled area or too small: unknown ground",
        ),
        (counts.num_overlap_px, "pixels claimed by two labels"),
    )
    yield from (f"{number} {what}" for number, what in facts if number)
