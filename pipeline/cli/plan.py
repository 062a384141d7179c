"""`everyroof plan`: what a run would do, before it is paid for."""

from pathlib import Path
from typing import Any

import click

MAX_FAILED_LINES = 50
"""Images that cannot be used and are named one by one."""


@click.command("plan")
@click.argument("config", required=False, type=click.Path(dir_okay=False))
@click.option("--image", type=str, help="One image instead of CONFIG.")
@click.option("--out", type=click.Path(file_okay=False), help="Output folder, with --image.")
@click.option("--model", type=click.Path(dir_okay=False), help="Bundle, with --image.")
@click.option(
    "--picture", type=click.Path(dir_okay=False), help="Draw the cover as a PNG to this file."
)
@click.option(
    "--measure/--no-measure", default=True, help="Time the network here, for the estimate."
)
def plan_command(
    config: str | None,
    image: str | None,
    out: str | None,
    model: str | None,
    picture: str | None,
    measure: bool,
) -> None:
    """Say what a run of CONFIG (YAML) would do: tiles, pixels, time and size of the output."""
    from pipeline.cli.run import image_config
    from pipeline.logs import configure_logging

    configure_logging()
    show_plan(config, image_config(config, image, out, model), picture=picture, measure=measure)


def show_plan(
    config_path: str | None, config: dict[str, Any] | None, *, picture: str | None, measure: bool
) -> None:
    """Print a plan as a table and draw its cover when asked.

    Args:
        config_path: YAML file, or None for `config`.
        config: config as plain data.
        picture: PNG to draw, or None.
        measure: time the network on one window for the estimate.
    """
    from rich.console import Console

    from pipeline.estimate import make_estimate
    from pipeline.job import request_config
    from pipeline.output_folder import check_output
    from pipeline.spec import resolve_config
    from pipeline.supervise import JobRequest

    request = JobRequest(
        config_path=config_path, config=config, fresh=False, workers=1, beam_flags=()
    )
    spec = resolve_config(request_config(request))
    check_output(spec.out_path)
    console = Console()
    estimate = make_estimate(spec, measure=measure)
    console.print(estimate.as_table())
    for failed in spec.failed_images[:MAX_FAILED_LINES]:
        console.print(f"[red]cannot be used:[/] {failed.reason}", highlight=False)
    if len(spec.failed_images) > MAX_FAILED_LINES:
        console.print(f"[red]{len(spec.failed_images):,} images in all cannot be used[/]")
    if picture is not None:
        _draw(spec, Path(picture))
        console.print(f"cover drawn to {picture}")


def _draw(spec: Any, path: Path) -> None:
    import numpy as np
    import shapely

    from geo.grid import window_bounds_lonlat
    from pipeline.cover import Cover
    from pipeline.pictures import CoverTile, draw_cover

    cover = Cover(spec)
    tiles = [
        CoverTile(outline=window_bounds_lonlat(tile.grid, tile.window), status="planned")
        for cell in cover.plan_cells()
        for tile in cover.tiles_in(cell)
    ]
    aoi = shapely.from_wkb(spec.aoi_wkb) if spec.aoi_wkb else None
    images = [(image.image_id, np.asarray(image.footprint)) for image in spec.images]
    draw_cover(path, tiles, images=images, aoi=aoi, title=f"{len(tiles):,} tiles")
