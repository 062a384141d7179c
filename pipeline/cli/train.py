"""`everyroof train`: a network from a chip pack."""

from pathlib import Path

import click

from pipeline.cli.training_errors import training_command


@click.command("train")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the output folder.")
def train_command(config: Path, resume: bool) -> None:
    """Train a network as CONFIG (YAML) says, and write its best weights as a bundle.

    Progress, loss and scores are shown, and logged as CSV and for TensorBoard in the output folder.
    """
    with training_command():
        # The network's libraries wait for the command itself, so that --help is instant.
        from model.train_config import TrainConfig
        from model.training import train
        from pipeline.train_config_file import load_config

        result = train(load_config(config, TrainConfig), resume=resume)
    click.echo(
        f"{result.bundle}: weights of step {result.best_step} of {result.num_steps}, mean AP50 "
        f"{result.best_ap50:.3f} on the validation places"
    )
