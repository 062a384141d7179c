"""`everyroof demo`: the whole way from an image to scored footprints, without any data."""

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

# Imports of torch, GEOS and OpenCV wait for the command itself, so that --help is instant.
if TYPE_CHECKING:
    from pipeline.demo import DrawnTown, TownScores


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for everything that the demonstration writes.",
)
@click.option(
    "--model", type=click.Path(dir_okay=False), help="Bundle; the shipped weights unless given."
)
@click.option("--seed", type=click.IntRange(0), help="Another seed, another town.")
@click.option(
    "--side",
    "side_m",
    type=click.FloatRange(60, 2000),
    default=1000.0,
    show_default=True,
    help="Side of the town in metres.",
)
def demo_command(out: Path, model: str | None, seed: int | None, side_m: float) -> None:
    """Draw a town, find its buildings, and say how many were found.

    Needs no data and no network: the town is drawn, with outlines that are known exactly.
    """
    from rich.console import Console

    begin = time.monotonic()
    console = Console(soft_wrap=True, highlight=False)
    from pipeline.cli.run import shipped_bundle

    bundle = model or shipped_bundle()
    from pipeline.demo import TOWN_SEED, draw_town, score_town, write_overlay

    town = draw_town(out, side_m=side_m, seed=TOWN_SEED if seed is None else seed)
    console.print(
        f"drew {len(town.scene.polygons)} buildings on {town.area_m2 / 1e6:.2f} km² in "
        f"{town.seconds:.0f} s: {town.image_path}",
    )
    _run_job(town, out / "result", bundle)
    result = score_town(town, out / "result")
    write_overlay(out / "overlay.png", town, result)
    _print_scores(console, result)
    _say_where(console, out, town, time.monotonic() - begin)


def _run_job(town: "DrawnTown", out: Path, bundle: str) -> None:
    """Run the main job as `everyroof run --image` does; ends the command where it fails."""
    from rich.console import Console

    from pipeline.cli.run import singleimage_config
    from pipeline.job_request import EXIT_OK, JobRequest
    from pipeline.supervise import supervise

    config = singleimage_config(str(town.image_path), str(out), bundle)
    # Afresh: the drawn image may be another than that of an earlier demonstration.
    request = JobRequest(config_path=None, config=config, fresh=True, workers=1, beam_flags=())
    status = supervise(request, Console(stderr=True))
    if status != EXIT_OK:
        sys.exit(status)


def _print_scores(console: Any, result: "TownScores") -> None:
    from rich.table import Table

    def number(value: float) -> str:
        return "-" if math.isnan(value) else f"{value:.3f}"

    scores, best = result.scores.scores, result.scores.scores.at_best_f1
    table = Table(
        title="Footprints against the true outlines", title_justify="left", show_header=False
    )
    table.add_column("")
    table.add_column("", justify="right")
    rows = (
        ("buildings fully in the image", f"{scores.num_references}"),
        ("footprints", f"{scores.num_predictions}"),
        ("AP50", number(scores.ap50)),
        ("precision, at best F1", number(best.precision)),
        ("recall, at best F1", number(best.recall)),
        ("mean IoU of matches", number(best.mean_iou)),
        ("confidence there, from", number(best.min_confidence)),
        ("pixel IoU", number(result.scores.pixel_iou)),
        ("boundary error", f"{number(result.scores.boundary_m)} m"),
    )
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


def _say_where(console: Any, out: Path, town: "DrawnTown", seconds: float) -> None:
    console.print(f"picture     {out / 'overlay.png'}", markup=False)
    console.print(f"report      {out / 'result' / 'report.html'}", markup=False)
    console.print(f"footprints  {out / 'result' / 'footprints'}", markup=False)
    console.print(f"image       {town.image_path}", markup=False)
    console.print(f"truth       {town.truth_path}", markup=False)
    console.print(f"all in {seconds:.0f} s")
