"""`everyroof fine-tune`: a bundle, fitted to labels of one's own."""

from pathlib import Path

import click

from pipeline.cli.bundle_path import BundlePath
from pipeline.cli.training_errors import training_command


@click.command("fine-tune")
@click.argument("bundle", type=BundlePath())
@click.option(
    "--images",
    multiple=True,
    required=True,
    help="Georeferenced image, or a pattern such as 'scenes/*.tif'; may be given again.",
)
@click.option(
    "--labels",
    default="{stem}.geojson",
    show_default=True,
    help="Building polygons, relative to the image's folder; {stem} stands for the image's name.",
)
@click.option("--area", help="Polygons of the ground that is labelled, likewise.  [default: all]")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--steps", default=120, show_default=True, help="Batches to learn from.")
@click.option("--batch-size", default=8, show_default=True, help="Chips a batch.")
@click.option("--learning-rate", default=3e-4, show_default=True, help="Highest of the schedule.")
@click.option(
    "--freeze", default=2, show_default=True, help="Halvings of the encoder that do not learn."
)
@click.option(
    "--validation-share",
    default=0.0,
    show_default=True,
    help="Share of each image's width to hold out; the step that is best there is kept.",
)
@click.option(
    "--keep",
    type=float,
    help="Share of the old weights in the result.  [default: 0.5, or the best on held out ground]",
)
@click.option("--gsd", "gsd_m", type=float, help="Pixel size in metres.  [default: the bundle's]")
@click.option("--seed", default=0, show_default=True, help="Of every draw.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the folder.")
def fine_tune_command(
    bundle: Path,
    images: tuple[str, ...],
    labels: str,
    area: str | None,
    out: Path,
    steps: int,
    batch_size: int,
    learning_rate: float,
    freeze: int,
    validation_share: float,
    keep: float | None,
    gsd_m: float | None,
    seed: int,
    resume: bool,
) -> None:
    """Fit BUNDLE to labelled images of your own region, in minutes and without a GPU.

    \b
    everyroof fine-tune shipped --images town.tif --labels town.geojson --out tuned
    everyroof run --image other.tif --model tuned/everyroof-tuned.safetensors --out result
    """  # noqa: D301 - click reads the backslash
    with training_command():
        # The network's libraries wait for the command itself, so that --help is instant.
        from model.fine_tune import FineTuneOptions, fine_tune

        try:
            options = FineTuneOptions(
                steps=steps,
                batch_size=batch_size,
                learning_rate=learning_rate,
                frozen_stages=freeze,
                validation_share=validation_share,
                kept_share=keep,
                gsd_m=gsd_m,
                seed=seed,
            )
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        result, report = fine_tune(
            bundle, out, options, images=images, labels=labels, area=area, resume=resume
        )
    for source in report.sources:
        click.echo(
            f"{source.num_instances} buildings on {source.train_m2 / 1e4:.2f} ha learned from, "
            f"{source.validation_m2 / 1e4:.2f} ha held out, {len(source.skipped)} images skipped"
        )
        for skipped in source.skipped:
            click.echo(f"  skipped {skipped.stem}: {skipped.reason}")
    found = result.training
    click.echo(
        f"{found.bundle}: step {found.best_step} of {found.num_steps}, "
        f"{result.kept_share:.0%} of the old weights kept"
    )
    if validation_share > 0.0:
        click.echo(
            f"AP50 on held out ground: {found.best_ap50:.3f}, with the old weights "
            f"{result.old_ap50:.3f}"
        )
    if result.old_ap50 > found.best_ap50:
        click.echo("the old weights do better there: look at the labels, or keep the old bundle")
