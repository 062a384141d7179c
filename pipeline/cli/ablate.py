"""`everyroof ablate`: what each part of a training brings."""

from pathlib import Path

import click

from pipeline.cli.training_errors import training_command


@click.command("ablate")
@click.argument("config", type=click.Path(path_type=Path))
def ablate_command(config: Path) -> None:
    """Run the variants that CONFIG (YAML) lists at equal steps and seeds, and print the table.

    Runs that are done are not done again; one that was cut short goes on from its last checkpoint.
    """
    with training_command():
        # The network's libraries wait for the command itself, so that --help is instant.
        from model.ablation import format_table, run_ablation
        from pipeline.ablation_config import load_ablation
        from pipeline.run_variant import run_variant

        ablation = load_ablation(config)
        folder = Path(ablation.config.output)
        scores = run_ablation(
            list(ablation.variants),
            ablation.config.seeds,
            folder,
            lambda name, seed, output: run_variant(ablation.of(name, seed, output), output),
        )
        table = format_table(scores)
        (folder / "table.md").write_text(table, encoding="utf-8")
    click.echo(table, nl=False)
    click.echo(str(folder / "table.md"))
