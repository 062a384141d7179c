"""`everyroof plan`: what a run would do, before it is paid for."""

import json
from pathlib import Path
from typing import Any

import click

MAX_FAILED_LINES = 50
"""Images that cannot be used and are named one by one."""

EPILOG = """\
Without imagery: everyroof plan --area africa.geojson --gsd-m 0.5 --buildings 516e6 --workers 100
"""
MAX_SQUARES_DRAWN = 3000
"""Squares in the picture of an area; above it several tiles share one."""


@click.command("plan", epilog=EPILOG)
@click.argument("config", required=False, type=click.Path(dir_okay=False))
@click.option("--image", type=str, help="One image instead of CONFIG.")
@click.option("--out", type=click.Path(file_okay=False), help="Output folder, with --image.")
@click.option("--model", type=click.Path(dir_okay=False), help="Bundle, with --image or an area.")
@click.option(
    "--area", type=click.Path(dir_okay=False), help="Vector file, before there are images."
)
@click.option("--area-km2", type=float, help="A square of this size instead of a file.")
@click.option(
    "--gsd-m", type=float, help="Pixel size of the grid, with an area; else the bundle's."
)
@click.option("--tile-px", type=int, default=4096, show_default=True, help="With an area.")
@click.option(
    "--compression",
    type=click.Choice(["jpeg", "webp", "zstd", "deflate", "lzw", "raw"]),
    default="jpeg",
    show_default=True,
    help="Of the imagery, with an area.",
)
@click.option(
    "--images-per-place", type=float, default=1.0, help="Images over each place of an area."
)
@click.option("--density", type=float, help="Buildings a square kilometre.")
@click.option("--buildings", type=float, help="Buildings in all, instead of a density.")
@click.option("--windows-per-s", type=float, help="Rate of one GPU; else measured or assumed.")
@click.option("--workers", type=click.IntRange(1), default=1, help="Workers with a GPU each.")
@click.option("--cores", type=click.IntRange(1), default=8, show_default=True, help="Of a worker.")
@click.option("--price-gpu-hour", type=float, default=0.0, help="A worker for an hour.")
@click.option("--price-storage-gb-month", type=float, default=0.0, help="Output and tile store.")
@click.option("--price-egress-gb", type=float, default=0.0, help="A gigabyte of imagery read.")
@click.option("--price-million-requests", type=float, default=0.0, help="Requests for imagery.")
@click.option(
    "--picture", type=click.Path(dir_okay=False), help="Draw the cover as a PNG to this file."
)
@click.option(
    "--measure/--no-measure", default=None, help="Time the network here; with images by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan_command(
    config: str | None, image: str | None, out: str | None, model: str | None, **options: Any
) -> None:
    """Say what a run of CONFIG (YAML) would take: tiles, bytes, time, size of the output, cost.

    With --area or --area-km2 the same for ground that imagery is still to be found for.
    """
    from pipeline.logs import configure_logging

    configure_logging()
    if options["area"] is not None or options["area_km2"] is not None:
        _check_area_alone(config, image, out)
        plan_area(model, options)
        return
    from pipeline.cli.run import image_config

    show_plan(config, image_config(config, image, out, model), options)


def _check_area_alone(config: str | None, image: str | None, out: str | None) -> None:
    if config or image or out:
        raise click.UsageError("--area plans without images; leave out CONFIG, --image and --out")


def show_plan(
    config_path: str | None, config: dict[str, Any] | None, options: dict[str, Any] | None = None
) -> None:
    """Print the plan of a job with images as a table and draw its cover when asked.

    Args:
        config_path: YAML file, or None for `config`.
        config: config as plain data.
        options: of the command; by default nothing is measured or drawn.
    """
    from pipeline.estimate import measure_rate
    from pipeline.job import request_config
    from pipeline.job_request import JobRequest
    from pipeline.output_folder import check_output
    from pipeline.spec import resolve_config
    from pipeline.work import count_job

    options = options or {"measure": False}
    request = JobRequest(
        config_path=config_path, config=config, fresh=False, workers=1, beam_flags=()
    )
    spec = resolve_config(request_config(request))
    check_output(spec.out_path)
    here = None if options.get("measure") is False else measure_rate(spec)
    _show(count_job(spec), spec.bundle, here, options, spec.config.shards.max_rows_per_shard)
    for failed in spec.failed_images[:MAX_FAILED_LINES]:
        click.secho(f"cannot be used: {failed.reason}", fg="red", err=True)
    if len(spec.failed_images) > MAX_FAILED_LINES:
        click.secho(f"{len(spec.failed_images):,} images in all cannot be used", fg="red", err=True)
    if options.get("picture"):
        _draw(spec, Path(options["picture"]))
        click.echo(f"cover drawn to {options['picture']}", err=True)


def plan_area(model: str | None, options: dict[str, Any]) -> None:
    """Print the plan of an area without images, and draw it when asked.

    Args:
        model: a bundle, or None for the shipped one.
        options: of the command.

    Raises:
        click.UsageError: if the area is given twice.
    """
    from model.bundle import read_meta
    from pipeline.cli.run import shipped_bundle
    from pipeline.work import count_area

    if options["area"] is not None and options["area_km2"] is not None:
        raise click.UsageError("give --area or --area-km2, not both")
    area = _read_area(options)
    bundle = read_meta(model or shipped_bundle())
    work = count_area(
        area,
        bundle,
        gsd_m=options["gsd_m"],
        tile_px=options["tile_px"],
        compression=options["compression"],
        images_per_place=options["images_per_place"],
    )
    _show(work, bundle, None, options)
    if options["picture"] is not None:
        _draw_area(work, area, Path(options["picture"]))
        click.echo(f"cover drawn to {options['picture']}", err=True)


def _read_area(options: dict[str, Any]) -> Any:
    import pyproj
    import shapely

    from geo.references import read_polygons
    from pipeline.ground import square_area

    if options["area"] is None:
        return square_area(options["area_km2"])
    found = read_polygons(options["area"], crs=pyproj.CRS.from_epsg(4326))
    return shapely.union_all(found.polygons)


def _show(
    work: Any,
    bundle: Any,
    here: Any,
    options: dict[str, Any],
    max_rows_per_shard: int = 500_000,
) -> None:
    """Print an estimate as a table or as JSON."""
    from rich.console import Console

    from pipeline.estimate import Estimate, Machines, Prices, WindowRate, assume_rate

    if options.get("windows_per_s"):
        rate = WindowRate(per_s=options["windows_per_s"], source="given")
    else:
        rate = here if here is not None and here.is_gpu else assume_rate(bundle)
    buildings = options.get("buildings")
    if buildings is None and options.get("density") is not None:
        buildings = options["density"] * (work.area_km2 or work.ground_km2)
    names = ("gpu_hour", "storage_gb_month", "egress_gb", "million_requests")
    estimate = Estimate(
        work=work,
        rate=rate,
        here=here,
        num_buildings=buildings,
        prices=Prices(**{name: options.get(f"price_{name}", 0.0) for name in names}),
        machines=Machines(num_workers=options.get("workers", 1), cores=options.get("cores", 8)),
        max_rows_per_shard=max_rows_per_shard,
    )
    if options.get("as_json"):
        click.echo(json.dumps(estimate.to_dict(), indent=1))
    else:
        Console().print(estimate.as_table(), highlight=False)


def _draw_area(work: Any, area: Any, path: Path) -> None:
    """Draw an area's tiles, many as one square where they are many."""
    from geo.grid import gsd_to_mm, window_bounds_lonlat
    from pipeline.ground import ground_squares
    from pipeline.pictures import CoverTile, draw_cover

    per_side = 1
    while work.num_tiles > MAX_SQUARES_DRAWN * per_side**2:
        per_side *= 2
    squares = ground_squares(
        area,
        gsd_mm=gsd_to_mm(work.gsd_m),
        size_px=work.tile_px * per_side,
        overlap_m=work.overlap_m,
    )
    tiles = [CoverTile(outline=window_bounds_lonlat(grid, window)) for grid, window in squares]
    title = f"{work.num_tiles:,} tiles"
    if per_side > 1:
        title += f", drawn as squares of {per_side} x {per_side}"
    draw_cover(path, tiles, aoi=area, title=title)


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
