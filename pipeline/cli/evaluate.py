"""`everyroof evaluate`: score a run's footprints, or a bundle over a set of places."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from geo.errors import DatasetError, EveryroofError
from pipeline.cli.bundle_path import BundlePath

# Imports of pandas, GEOS and rich wait for the command itself, so that --help is instant.
if TYPE_CHECKING:
    from geo.metrics import Scores
    from geo.references import PolygonLayer

_SHARDS = "footprints"
_MANIFEST = "manifest.json"
_CONFIDENCE = "confidence"
_RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".img")


@click.command("evaluate")
@click.argument("out", type=BundlePath())
@click.argument("reference", type=click.Path(path_type=Path), required=False)
@click.option(
    "--aoi",
    type=click.Path(path_type=Path),
    help="Polygons of the labelled area, or an image whose extent it is; only what lies fully "
    "inside is counted.",
)
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Leave out footprints below this confidence in the first column of scores; AP always "
    "takes all.",
)
@click.option(
    "--json",
    "json_file",
    type=click.File("w", encoding="utf-8", atomic=True),
    help="Also write all scores as JSON, the precision-recall curve included.",
)
@click.option(
    "--places",
    type=click.Path(path_type=Path),
    help="YAML of places (see configs/evaluate): OUT is a bundle, scored at each of them.",
)
@click.option(
    "--root", type=click.Path(path_type=Path), help="Folder that the paths in PLACES start from."
)
@click.option(
    "--gsd",
    "gsds_m",
    type=float,
    multiple=True,
    help="Pixel size in metres to show the network, with --places; may be given several times.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.html, scores.json and thresholds as CSV, with --places.",
)
def evaluate_command(
    out: Path,
    reference: Path | None,
    aoi: Path | None,
    min_confidence: float,
    json_file: TextIO | None,
    **places_options: Any,
) -> None:
    """Score footprints against reference polygons, or a bundle over a set of places.

    \b
    everyroof evaluate OUT REFERENCE --aoi AOI
    everyroof evaluate BUNDLE --places PLACES.yaml --gsd 0.30 --gsd 0.50 --report DIR

    OUT is the output folder of a finished run, or any one file of polygons (a column "confidence"
    ranks them). REFERENCE and the area of interest may be any vector files in any CRS.
    """  # noqa: D301 - click reads the backslash
    if _wants_places(out, reference, aoi, places_options):
        from pipeline.cli.evaluate_bundle import evaluate_bundle

        evaluate_bundle(out, min_confidence=min_confidence, json_file=json_file, **places_options)
        return
    assert reference is not None
    try:
        comparison = _score(out, reference, aoi, min_confidence)
    except EveryroofError as error:
        raise click.ClickException(str(error)) from error
    _print_report(comparison)
    if json_file is not None:
        from pipeline.scores_json import scores_as_dict

        write_json(scores_as_dict(comparison.scores), json_file)


def _wants_places(
    out: Path, reference: Path | None, aoi: Path | None, places_options: dict[str, Any]
) -> bool:
    """Whether a bundle is to be scored over places; refuses what fits neither use."""
    if places_options["places"] is not None:
        if reference is not None or aoi is not None:
            raise click.UsageError("with --places, labels and areas come from the YAML file")
        return True
    given = [f"--{name.removesuffix('s_m')}" for name, value in places_options.items() if value]
    if given:
        raise click.UsageError(f"{', '.join(given)}: only with --places PLACES.yaml")
    if reference is None:
        raise click.UsageError(
            f"what is {out} to be scored against? A run needs REFERENCE, a bundle --places"
        )
    return False


def write_json(content: dict[str, Any], file: TextIO) -> None:
    """Write plain values as indented JSON."""
    json.dump(content, file, indent=2, allow_nan=False)
    file.write("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Scores and what to say beside them."""

    scores: "Scores"
    title: str
    notes: tuple[str, ...]


def _score(out: Path, reference: Path, aoi: Path | None, min_confidence: float) -> _Comparison:
    from geo.metrics import evaluate_polygons
    from geo.references import read_polygons

    references = read_polygons(reference)
    area = _read_area(aoi, references.crs) if aoi is not None else None
    predictions = read_predictions(out, references.crs, area)
    confidence = predictions.columns.get(_CONFIDENCE)
    ranks = [1.0] * len(predictions) if confidence is None else confidence
    _check_meeting(predictions, references, area)
    scores = evaluate_polygons(
        predictions.polygons, ranks, references.polygons, aoi=area, min_confidence=min_confidence
    )
    if scores.num_references == 0:
        raise DatasetError(f"none of the {len(references)} polygons of {reference} lies in {aoi}")
    return _Comparison(
        scores=scores,
        title=f"{out} against {reference}",
        notes=tuple(_notes(references, predictions, area is not None, confidence is not None)),
    )


def _read_area(path: Path, crs: Any) -> Any:
    """Union of a file's polygons, or the extent of an image, as a shapely area in a metric CRS."""
    from geo.references import read_extent, read_polygons

    if path.suffix.lower() in _RASTER_SUFFIXES:
        return read_extent(path, crs)
    return read_polygons(path, crs=crs).union()


def read_predictions(out: Path, crs: Any, area: Any) -> "PolygonLayer":
    """The footprints of a finished run, or the polygons of one file, in a metric CRS.

    Args:
        out: output folder of a run, or a vector file.
        crs: metric CRS to reproject to.
        area: shapely area in that CRS; footprints that do not touch it are left out. None keeps
            all.

    Raises:
        DatasetError: if the run is not finished or has no footprints there.
    """
    from geo.references import layer_of_frame, read_polygons

    if out.is_dir():
        frame = _read_shards(out, _lonlat_bounds(area, crs))
        predictions = layer_of_frame(frame, name=str(out), crs=crs, columns=(_CONFIDENCE,))
    else:
        predictions = read_polygons(out, crs=crs, columns=(_CONFIDENCE,))
    return predictions if area is None else _touching(predictions, area)


def _read_shards(out: Path, bounds: tuple[float, ...] | None) -> Any:
    """Footprints of a run's shards whose bbox meets the bounds (degrees), as a GeoDataFrame."""
    import geopandas
    import pandas
    import pyarrow

    if not (out / _MANIFEST).exists():
        raise DatasetError(
            f"{out} has no {_MANIFEST}: the run is not finished, or this is no output folder. Run "
            "the same `everyroof run` command again to finish it"
        )
    shards = sorted((out / _SHARDS).glob("*.parquet"))
    if not shards:
        raise DatasetError(f"{out / _SHARDS} holds no footprints; the run found no building")
    columns = [_CONFIDENCE, "geometry"]
    try:
        frames = [geopandas.read_parquet(shard, columns=columns, bbox=bounds) for shard in shards]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"a shard of {out / _SHARDS} cannot be read: {error}") from error
    frame = pandas.concat(frames, ignore_index=True)
    if len(frame) == 0:
        raise DatasetError(f"{out} has no footprints in the area of interest")
    return frame


def _lonlat_bounds(area: Any, crs: Any) -> tuple[float, ...] | None:
    import geopandas

    if area is None:
        return None
    return tuple(geopandas.GeoSeries([area], crs=crs).to_crs("OGC:CRS84").total_bounds.tolist())


def _touching(layer: "PolygonLayer", area: Any) -> "PolygonLayer":
    import dataclasses

    import shapely

    shapely.prepare(area)
    touches = shapely.intersects(area, layer.polygons)
    return dataclasses.replace(
        layer,
        polygons=layer.polygons[touches],
        source_row=layer.source_row[touches],
        columns={name: values[touches] for name, values in layer.columns.items()},
    )


def _check_meeting(predictions: "PolygonLayer", references: "PolygonLayer", area: Any) -> None:
    import shapely

    theirs = shapely.total_bounds(references.polygons) if area is None else area.bounds
    if len(predictions) == 0:
        raise DatasetError(
            f"{predictions.name} has no footprints in the area of interest, {_extent(theirs)}"
        )
    ours = shapely.total_bounds(predictions.polygons)
    if not shapely.box(*ours).intersects(shapely.box(*theirs)):
        raise DatasetError(
            f"{predictions.name} and {references.name} are of different places: footprints at "
            f"{_extent(ours)}, references at {_extent(theirs)} in {references.crs.name}"
        )


def _extent(bounds: Sequence[float]) -> str:
    x_min, y_min, x_max, y_max = bounds
    return f"x {x_min:.0f} to {x_max:.0f}, y {y_min:.0f} to {y_max:.0f} m"


def _notes(
    references: "PolygonLayer", predictions: "PolygonLayer", has_area: bool, has_confidence: bool
) -> Iterator[str]:
    if not has_area:
        yield (
            "No --aoi: every footprint counts, also those where nobody labelled, and every "
            "building, also those that the image cuts. Where all of an image is labelled, pass it "
            "as --aoi."
        )
    if not has_confidence:
        yield f"{predictions.name} has no column {_CONFIDENCE!r}: all its polygons rank the same."
    for layer in (references, predictions):
        if layer.num_repaired or layer.num_dropped:
            yield (
                f"{layer.name}: {layer.num_repaired} of {layer.num_features} features repaired, "
                f"{layer.num_dropped} without an area left out."
            )


# --------------------------------------------------------------------------------------- output


def _print_report(comparison: _Comparison) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    scores = comparison.scores
    console.print(comparison.title, markup=False)
    console.print(
        f"{scores.num_predictions} footprints, {scores.num_references} references counted, "
        f"{scores.num_ignored_references} ignored"
    )
    console.print(f"[bold]AP50 {scores.ap50:.3f}[/]   AP50:95 {scores.ap50_95:.3f}")
    console.print(_points_table(scores))
    console.print(_sizes_table(scores))
    for note in comparison.notes:
        console.print(note, markup=False)


def _points_table(scores: "Scores") -> Any:
    from rich.table import Table

    table = Table(title="At IoU 0.5", title_justify="left")
    table.add_column("")
    table.add_column("at the threshold", justify="right")
    table.add_column("at best F1", justify="right")
    points = (scores.at_threshold, scores.at_best_f1)
    for label, name, digits in _POINT_ROWS:
        table.add_row(label, *(_number(getattr(point, name), digits) for point in points))
    reference = _number(scores.mean_reference_vertices, 1)
    table.add_row("vertices, references", reference, reference)
    return table


_POINT_ROWS = (
    ("confidence from", "min_confidence", 3),
    ("precision", "precision", 3),
    ("recall", "recall", 3),
    ("F1", "f1", 3),
    ("mean IoU of matches", "mean_iou", 3),
    ("true positives", "num_true_positives", 0),
    ("false positives", "num_false_positives", 0),
    ("false negatives", "num_false_negatives", 0),
    ("ignored footprints", "num_ignored", 0),
    ("split references", "num_splits", 0),
    ("merging footprints", "num_merges", 0),
    ("vertices, footprints", "mean_vertices", 1),
)


def _sizes_table(scores: "Scores") -> Any:
    from rich.table import Table

    table = Table(title="By area, all footprints", title_justify="left")
    for heading in ("m²", "references", "recall", "footprints", "precision"):
        table.add_column(heading, justify="right")
    for size in scores.size_bins:
        is_open = math.isinf(size.max_area_m2)
        table.add_row(
            f"{size.min_area_m2:g} +" if is_open else f"{size.min_area_m2:g}-{size.max_area_m2:g}",
            str(size.num_references),
            _number(size.recall, 3),
            str(size.num_predictions),
            _number(size.precision, 3),
        )
    return table


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
