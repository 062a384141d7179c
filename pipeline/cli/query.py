"""`everyroof query`: the footprints of a district, above a confidence, in the tool one has."""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.query_options import explain_nothing, make_query, query_options

if TYPE_CHECKING:
    from geo.dataset import Dataset
    from geo.query import Query

ROWS_ON_TERMINAL = 20
_SHOWN = ("full_plus_code", "area_in_meters", "confidence", "latitude", "longitude", "image_date")
EPILOG = """\
\b
everyroof query out --plus-code 6GGJF --min-confidence 0.7
everyroof query out --polygon district.gpkg --count
everyroof query s3://bucket/out --bbox 32.5,0.3,32.6,0.4 --out district.parquet
"""


@click.command("query", epilog=EPILOG)
@click.argument("dataset_name", metavar="OUT")
@query_options
@click.option("--columns", metavar="NAME[,NAME]", help="Only these columns, in this order.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most so many.")
@click.option("--count", is_flag=True, help="Only say how many there are.")
@click.option(
    "-o", "--out", "target", metavar="FILE", help="Write them to a file; its ending is the format."
)
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
def query_command(dataset_name: str, target: str | None, count: bool, **values: Any) -> None:
    """Find footprints of the result in OUT (a folder, s3://, gs:// or https://).

    A footprint lies in an area if its centre does, so that counts of neighbouring areas add up.
    Without FILE the first ones are shown.
    """
    from geo.dataset import open_dataset

    columns, limit, overwrite = (values.pop(name) for name in ("columns", "limit", "overwrite"))
    if overwrite and target is None:
        raise click.BadParameter("--overwrite goes with --out")
    chosen = None if columns is None else tuple(columns.split(","))
    query = make_query(values, columns=chosen, limit=limit)
    dataset = open_dataset(dataset_name)
    _check_columns(query)
    if count:
        _show_count(dataset, query)
    elif target is not None:
        from pipeline.cli.export import export_rows

        export_rows(dataset, query, target, None, overwrite=overwrite)
    else:
        _show_rows(dataset, query)


def _check_columns(query: "Query") -> None:
    from geo.query import result_schema

    try:
        result_schema(query)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _show_count(dataset: "Dataset", query: "Query") -> None:
    from geo.query import count_footprints

    number = count_footprints(dataset, query)
    click.echo(number)
    if number == 0:
        explain_nothing(dataset, query)


def _show_rows(dataset: "Dataset", query: "Query") -> None:
    """A table on the terminal; all rows that a limit allows, else the first ones."""
    import dataclasses

    import pyarrow as pa

    from geo.query import count_footprints, read_batches, result_schema

    num = ROWS_ON_TERMINAL if query.limit is None else query.limit
    shown = dataclasses.replace(query, columns=query.columns or _SHOWN, limit=num)
    table = pa.Table.from_batches(read_batches(dataset, shown), schema=result_schema(shown))
    if len(table) == 0:
        if num > 0:
            explain_nothing(dataset, query)
        return
    _print_table(table)
    if query.limit is None and len(table) == num:
        total = count_footprints(dataset, query)
        if total > num:
            click.echo(
                f"... {num} of {total:,}; --limit N shows more, --out FILE writes all", err=True
            )


def _print_table(table: Any) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    if not sys.stdout.isatty():
        # For other programs: whole values, a header, tabs.
        click.echo("\t".join(table.column_names))
        for row in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
            click.echo("\t".join(map(_whole, table.column_names, row)))
        return
    shown = Table(box=None, pad_edge=False)
    for name in table.column_names:
        is_number = str(table[name].type) in ("double", "float")
        shown.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        shown.add_row(
            *(_short(name, value) for name, value in zip(table.column_names, row, strict=True))
        )
    Console().print(shown, highlight=False)


_SHORT_DECIMALS = {"latitude": 6, "longitude": 6, "area_in_meters": 1, "confidence": 3}
_WHOLE_DECIMALS = {"latitude": 8, "longitude": 8, "area_in_meters": 4, "confidence": 4}


def _short(name: str, value: Any) -> str:
    decimals = _SHORT_DECIMALS.get(name)
    return _plain(value) if decimals is None else f"{value:.{decimals}f}"


def _whole(name: str, value: Any) -> str:
    decimals = _WHOLE_DECIMALS.get(name)
    return _plain(value) if decimals is None else f"{value:.{decimals}f}"


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        import shapely

        return str(shapely.to_wkt(shapely.from_wkb(value), rounding_precision=-1))
    if isinstance(value, dict):
        return ",".join(f"{side:.7g}" for side in value.values())
    return str(value)
