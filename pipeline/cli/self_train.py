"""`everyroof self-train`: Noisy Student."""

from pathlib import Path

import click

from pipeline.cli.training_errors import training_command


@click.command("self-train")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on where an earlier run stopped.")
def self_train_command(config: Path, resume: bool) -> None:
    """Let a student learn from labels and from a teacher's opinion of unlabelled images.

    CONFIG (YAML) names the teacher's bundle, the pool (`everyroof pool`) and the training of the
    student.
    Each round writes a bundle and a picture of what the student changed.
    """
    with training_command():
        # The network's libraries wait for the command itself, so that --help is instant.
        from model.noisy_student import SelfTrainConfig, self_train
        from pipeline.train_config_file import load_config

        results = self_train(load_config(config, SelfTrainConfig), resume=resume)
    for number, result in enumerate(results, start=1):
        click.echo(
            f"round {number}: {result.bundle}, mean AP50 {result.best_ap50:.3f} on the validation "
            "places"
        )
