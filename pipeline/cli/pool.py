"""`everyroof pool`: unlabelled images for self-training in one small file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geo.errors import EveryroofError

if TYPE_CHECKING:
    from model.places import Place


@click.command("pool")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Chip pack to write.")
@click.option("--gsd", "gsd_m", default=0.3, show_default=True, help="Pixel size in metres.")
@click.option("--place-px", default=1024, show_default=True, help="Side of a place in pixels.")
@click.option(
    "--exclude",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Vector file of ground to leave out, such as validation areas; may be given again.",
)
@click.option(
    "--probability",
    type=click.Path(path_type=Path, file_okay=False),
    help="OUT/probability of a run with `outputs: [footprints, probability]`: the teacher's word.",
)
@click.option("--jpeg-quality", default=85, show_default=True, help="Of the stored images.")
def pool_command(
    images: tuple[Path, ...],
    out: Path,
    gsd_m: float,
    place_px: int,
    exclude: tuple[Path, ...],
    probability: Path | None,
    jpeg_quality: int,
) -> None:
    """Cut IMAGES, of any size and CRS, into the unlabelled places of a chip pack.

    `everyroof self-train` reads it. With --probability the teacher has spoken already; without it,
    the teacher labels the pool when the self-training starts.
    """
    # GDAL and GEOS wait for the command itself, so that --help is instant.
    from model.chip_pack import write_pack
    from model.read_pool import PoolOptions, read_pool

    try:
        options = PoolOptions(gsd_m=gsd_m, place_px=place_px)
        places = read_pool(images, options, exclude=exclude, probabilities=probability)
        kept = list(_counted(places))
        out.parent.mkdir(parents=True, exist_ok=True)
        write_pack(out, kept, jpeg_quality=jpeg_quality)
    except (EveryroofError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    area_m2 = sum(float(place.valid.sum()) * place.gsd_m**2 for place in kept)
    click.echo(
        f"{out}: {len(kept)} places, {area_m2 / 1e4:.1f} ha, {out.stat().st_size / 1e6:.1f} MB"
    )


def _counted(places: "Iterable[Place]") -> "Iterator[Place]":
    """The places, with a line for every hundred."""
    for number, place in enumerate(places, start=1):
        if number % 100 == 0:
            click.echo(f"{number} places", err=True)
        yield place
