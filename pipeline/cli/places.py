"""`everyroof places`: the held-out places of a chip pack as files to evaluate and calibrate on."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from geo.errors import EveryroofError

if TYPE_CHECKING:
    from model.places import Split


@click.command("places")
@click.argument("pack", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--split",
    type=click.Choice(["validation", "train"]),
    default="validation",
    show_default=True,
    help="Which side of the split.",
)
def places_command(pack: Path, out: Path, split: str) -> None:
    """Write the places of PACK as GeoTIFF and GeoJSON, with the YAML that lists them.

    \b
    everyroof places train.pack.zip --out held_out
    everyroof calibrate model.safetensors --places held_out/places.yaml --out calibrated.safetensors
    """  # noqa: D301 - click reads the backslash
    # GDAL and GEOS wait for the command itself, so that --help is instant.
    import yaml

    from geo.atomic_files import write_atomically
    from model.chip_pack import read_pack
    from model.write_places import write_places

    try:
        side: Split = "train" if split == "train" else "validation"
        entries = write_places(read_pack(pack), out, split=side)
        text = yaml.safe_dump({"places": entries}, sort_keys=False)
        path = out / "places.yaml"
        write_atomically(path, f"# Places for {side}, out of {pack.name}.\n{text}".encode())
    except EveryroofError as error:
        raise click.ClickException(str(error)) from error
    click.echo(str(path))
