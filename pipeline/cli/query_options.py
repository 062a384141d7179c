"""Options of every command that takes some of a dataset's footprints, and the query they mean."""

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from geo.dataset import Dataset
    from geo.query import Query

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--bbox", metavar="W,S,E,N", help="In degrees; W above E crosses 180 degrees."),
    click.option("--polygon", metavar="FILE", help="Within polygons of any format and CRS."),
    click.option(
        "--touching",
        is_flag=True,
        help="With --bbox and --polygon: all that touch, not only those whose centre is inside.",
    ),
    click.option("--plus-code", metavar="CODE", help="Within a Plus Code of any length."),
    click.option("--near", metavar="LAT,LON", help="Where a short Plus Code is."),
    click.option("--s2", metavar="TOKEN[,TOKEN]", help="Within S2 cells of any level."),
    click.option("--min-confidence", type=click.FloatRange(0, 1), metavar="SHARE"),
    click.option(
        "--precision",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help="Above the confidence that reaches this precision in each region (0.8, 0.85, 0.9).",
    ),
    click.option("--thresholds", metavar="CSV", help="For --precision: another table of regions."),
    click.option("--min-area", type=click.FloatRange(0), metavar="M2", help="Square metres."),
    click.option("--max-area", type=click.FloatRange(0), metavar="M2", help="Square metres."),
    click.option(
        "--date",
        metavar="FROM/TO",
        help="Of the image: 2024-05-01/2024-12-31, 2024-05-01/.. or one day.",
    ),
)
NAMES = (
    *("bbox", "polygon", "touching", "plus_code", "near", "s2", "min_confidence", "precision"),
    *("thresholds", "min_area", "max_area", "date"),
)


def query_options(command: _Command) -> _Command:
    """A command with the options that say which footprints are wanted."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_query(values: dict[str, Any], **more: Any) -> "Query":
    """The query that the options of `query_options` mean.

    Args:
        values: the command's parameters; those of the options are taken out.
        more: further attributes of the query.

    Raises:
        click.BadParameter: naming the option, the value and what was expected.
        DatasetError: if a file of polygons or thresholds cannot be read.
    """
    given = {name: values.pop(name) for name in NAMES}
    if given["touching"] and given["bbox"] is None and given["polygon"] is None:
        raise click.BadParameter("--touching needs --bbox or --polygon")
    if given["near"] is not None and given["plus_code"] is None:
        raise click.BadParameter("--near goes with --plus-code")
    if given["thresholds"] is not None and given["precision"] is None:
        raise click.BadParameter("--thresholds goes with --precision")
    try:
        return _query(given, more)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _query(given: dict[str, Any], more: dict[str, Any]) -> "Query":
    from geo.query import Query

    near = _numbers("--near", given["near"], 2, "LATITUDE,LONGITUDE in degrees")
    west_to_north = _numbers("--bbox", given["bbox"], 4, "WEST,SOUTH,EAST,NORTH in degrees")
    return Query(
        bbox=None if west_to_north is None else tuple(west_to_north),  # type: ignore[arg-type]
        area=_area(given["polygon"]),
        is_touching=given["touching"],
        plus_code=given["plus_code"],
        near=None if near is None else (near[0], near[1]),
        s2_tokens=None if given["s2"] is None else tuple(given["s2"].lower().split(",")),
        min_confidence=given["min_confidence"],
        precision=given["precision"],
        thresholds=_thresholds(given["thresholds"]),
        min_area_m2=given["min_area"],
        max_area_m2=given["max_area"],
        dates=_dates(given["date"]),
        **more,
    )


def _numbers(option: str, text: str | None, num: int, expected: str) -> list[float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) != num:
        raise ValueError(f"{option} {text}: expected {expected}")
    return values


def _dates(text: str | None) -> tuple[datetime.date | None, datetime.date | None] | None:
    if text is None:
        return None
    first, slash, last = text.partition("/")
    return _date(text, first), _date(text, last if slash else first)


def _date(text: str, part: str) -> datetime.date | None:
    if part in ("", ".."):
        return None
    try:
        return datetime.date.fromisoformat(part)
    except ValueError:
        raise ValueError(
            f"--date {text}: expected days such as 2024-05-01/2024-12-31 or 2024-05-01/.."
        ) from None


def _area(path: str | None) -> Any:
    if path is None:
        return None
    from geo.references import read_area
    from pipeline.fetch import local_copy

    return read_area(local_copy(path))


def _thresholds(path: str | None) -> Any:
    if path is None:
        return None
    from geo.places import as_read_place
    from geo.score_thresholds import read_thresholds

    return read_thresholds(as_read_place(path))


def explain_nothing(dataset: "Dataset", query: "Query") -> None:
    """Say that no footprint fits, and why that may be."""
    from geo.query import touched_shards

    text = "no footprint fits"
    if dataset.num_footprints == 0:
        text += ": the dataset holds none at all"
    elif not touched_shards(dataset, query):
        west, south, east, north = dataset.bounds or (0.0, 0.0, 0.0, 0.0)
        text += (
            f": the place lies outside of the dataset, whose footprints lie between longitude "
            f"{west:.4f} and {east:.4f}, latitude {south:.4f} and {north:.4f}"
        )
    else:
        text += "; loosen the limits, or see in tiles.parquet whether that ground was covered"
        if query.dates is not None:
            text += " (footprints of images without a date fit no --date)"
    click.echo(text, err=True)
