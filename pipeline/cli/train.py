"""`everyroof train`: a network from a chip pack."""

import math
from pathlib import Path

import click

from pipeline.cli.training_errors import training_command


@click.command("train")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the output folder.")
@click.option(
    "--find-learning-rate",
    is_flag=True,
    help="Train a hundred steps at rising rates and suggest one; nothing is kept but their losses.",
)
def train_command(config: Path, resume: bool, find_learning_rate: bool) -> None:
    """Train a network as CONFIG (YAML) says, and write its best weights as a bundle.

    Progress, loss and scores are shown, and logged as CSV and for TensorBoard in the output folder.
    """
    with training_command():
        # The network's libraries wait for the command itself, so that --help is instant.
        from model.train_config import TrainConfig
        from model.training import train
        from model.try_learning_rates import try_learning_rates
        from pipeline.train_config_file import load_config

        training = load_config(config, TrainConfig)
        if find_learning_rate:
            tried = try_learning_rates(training)
            click.echo(f"{tried.csv}: losses at {tried.num_rates} rates, up to {tried.last:.2g}")
            click.echo(f"suggestion: schedule.learning_rate: {tried.suggestion:.2g}")
            return
        result = train(training, resume=resume)
    score = "nothing was held out to score"
    if not math.isnan(result.best_ap50):
        score = f"mean AP50 {result.best_ap50:.3f} on the validation places"
    click.echo(
        f"{result.bundle}: weights of step {result.best_step} of {result.num_steps}, {score}"
    )
