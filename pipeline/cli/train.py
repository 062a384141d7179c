"""`everyroof train`: a network from a chip pack."""

import logging
from pathlib import Path

import click

from geo.errors import EveryroofError


@click.command("train")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the output folder.")
def train_command(config: Path, resume: bool) -> None:
    """Train a network as CONFIG (YAML) says, and write its best weights as a bundle.

    Progress, loss and scores are shown, and logged as CSV and for TensorBoard in the output folder.
    """
    # The network's libraries wait for the command itself, so that --help is instant.
    try:
        from model.training import train
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"training needs {error.name}: pip install 'everyroof[train]'"
        ) from error
    from model.train_config import TrainConfig
    from pipeline.train_config_file import load_config

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        result = train(load_config(config, TrainConfig), resume=resume)
    except EveryroofError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"{result.bundle}: weights of step {result.best_step} of {result.num_steps}, mean AP50 "
        f"{result.best_ap50:.3f} on the validation places"
    )
