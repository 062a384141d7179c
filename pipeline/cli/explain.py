"""`everyroof explain`: one tile again, with a picture of every stage."""

from pathlib import Path
from typing import Any

import click


@click.command("explain")
@click.argument("out", type=click.Path(file_okay=False))
@click.argument("tile")
@click.option("--picture", type=click.Path(dir_okay=False), help="PNG; OUT's name unless given.")
@click.option("--model", type=click.Path(dir_okay=False), help="Bundle, if it was moved.")
def explain_command(out: str, tile: str, picture: str | None, model: str | None) -> None:
    """Work on TILE of the result in OUT again and draw every stage as a PNG.

    Image, valid mask, probability, instances, pieces cut at the tile's edge, final outlines. TILE
    is a name from tiles.parquet, such as z36_g300mm_s4096_r-28_c370.
    """
    import dataclasses
    import tempfile

    from geo.dataset import open_dataset
    from geo.grid import Tile
    from pipeline.config import parse_config
    from pipeline.logs import configure_logging

    configure_logging()
    from geo.places import as_place
    from pipeline.explain import explain_tile
    from pipeline.spec import resolve_config

    wanted = Tile.parse(tile)
    folder = as_place(out)
    manifest = open_dataset(folder).manifest
    config = parse_config(manifest["config"], source=str(folder / "manifest.json"))
    if model is not None:
        config = dataclasses.replace(config, model=model)
    _check_tile(folder, wanted)
    path = Path(picture) if picture else Path(f"{wanted.name}.png")
    with tempfile.TemporaryDirectory() as store:
        # What is found out about images now is not part of the dataset.
        config = dataclasses.replace(config, tile_store=store)
        facts = explain_tile(resolve_config(config), folder, wanted, path)
    for name, value in facts.items():
        click.echo(f"{name:<22}{value}")
    click.echo(f"drawn to {path}")


def _check_tile(out: Any, tile: Any) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from geo.errors import DatasetError
    from geo.places import arrow_source

    names = pq.read_table(arrow_source(out / "tiles.parquet"), columns=["tile"])["tile"].drop_null()
    if not pc.any(pc.equal(names, tile.name)).as_py():
        some = ", ".join(names.slice(0, 3).to_pylist())
        raise DatasetError(f"{out} has no tile {tile.name}; it has {len(names)}, such as {some}")
