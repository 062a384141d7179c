"""`everyroof export`: a result, or some of it, in another program's format."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.bundle_export import export_bundle_command
from pipeline.cli.query_options import explain_nothing, make_query, query_options

if TYPE_CHECKING:
    from geo.dataset import Dataset
    from geo.query import Query
    from pipeline.export_dataset import Exported

FORMATS = (
    "gpkg",
    "fgb",
    "geojsonseq",
    "geojson",
    "parquet",
    "pmtiles",
    "open-buildings",
    "overture",
)
EPILOG = """\
\b
gpkg            GeoPackage, spatial index          .gpkg
fgb             FlatGeobuf, spatial index          .fgb
geojsonseq      GeoJSON, a feature a line          .geojsonl .geojsons .ndjson
geojson         GeoJSON, one collection            .geojson
parquet         one GeoParquet file                .parquet
pmtiles         vector tiles for a web map         .pmtiles
open-buildings  CSV.gz as Google publishes it      --format, FILE is a folder
overture        GeoParquet in Overture's schema    --format, FILE ends in .parquet

\b
everyroof export out kampala.gpkg --bbox 32.5,0.2,32.7,0.4 --min-confidence 0.7
everyroof export out tiles/map.pmtiles
everyroof export out open_buildings --format open-buildings
"""
_BUNDLE_ENDINGS = (".safetensors", ".onnx", ".pt2")


class _ExportCommand(click.Command):
    """The command; a bundle as its first argument is handed to `everyroof bundle export`."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """The context of this command, or of the one that exports bundles."""
        if not _names_bundle(args):
            return super().make_context(info_name, args, parent, **extra)
        click.echo("note: for bundles this is now `everyroof bundle export`", err=True)
        return export_bundle_command.make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the context is of."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


def _names_bundle(args: Sequence[str]) -> bool:
    first = next((arg for arg in args if not arg.startswith("-")), "")
    return first == "shipped" or first.endswith(_BUNDLE_ENDINGS)


@click.command("export", cls=_ExportCommand, epilog=EPILOG)
@click.argument("dataset_name", metavar="OUT")
@click.argument("target", metavar="FILE")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="[default: by FILE's ending]")
@query_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
def export_command(
    dataset_name: str,
    target: str,
    kind: str | None,
    limit: int | None,
    overwrite: bool,
    **values: Any,
) -> None:
    """Write footprints of the result in OUT to FILE, in the format of its ending.

    OUT is a folder, s3://, gs:// or https://. FILE appears whole or not at all; it may lie in a
    bucket. Memory is bounded at any size, but for the index of FlatGeobuf (70 bytes a footprint).
    """
    from geo.dataset import open_dataset

    query = make_query(values, limit=limit)
    export_rows(open_dataset(dataset_name), query, target, kind, overwrite=overwrite)


def export_rows(
    dataset: "Dataset", query: "Query", target: str, kind: str | None, *, overwrite: bool
) -> None:
    """Write footprints to a file with a progress bar, and say what was written.

    Args:
        dataset: an open dataset.
        query: what is wanted.
        target: the file's name.
        kind: the format; None: by the name's ending.
        overwrite: replace a file that exists.

    Raises:
        click.ClickException: if the name or the query does not fit a format, if no footprint fits,
            or if the file cannot be written.
    """
    from pipeline.export_dataset import export_dataset, find_format
    from pipeline.export_progress import export_progress

    try:
        format_ = find_format(target, kind)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    try:
        with export_progress() as progress:
            done = export_dataset(
                dataset, query, target, format_, overwrite=overwrite, progress=progress
            )
    except OSError as error:
        raise click.ClickException(f"{target} was not written: {error}") from error
    if done is None:
        explain_nothing(dataset, query)
        raise click.ClickException(f"{target} was not written")
    _show(done, target)


def _show(done: "Exported", target: str) -> None:
    files = f" in {done.num_files:,} files" if done.num_files > 1 else ""
    click.echo(f"{done.num_rows:,} footprints, {done.num_bytes / 1e6:,.2f} MB{files}: {target}")
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
