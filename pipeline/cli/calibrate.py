"""`everyroof calibrate`: make a bundle's confidence say how often it is right."""

from pathlib import Path

import click

from pipeline.cli.bundle_path import BundlePath


@click.command("calibrate")
@click.argument("bundle", type=BundlePath())
@click.option(
    "--places",
    type=click.Path(path_type=Path),
    required=True,
    help="YAML of validation places (see configs/evaluate), never of test places.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The calibrated bundle."
)
@click.option(
    "--root", type=click.Path(path_type=Path), help="Folder that the paths in PLACES start from."
)
@click.option(
    "--gsd",
    "gsds_m",
    type=float,
    multiple=True,
    help="Pixel sizes in metres; several may be given.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.html with the reliability before and after.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT where it exists.")
def calibrate_command(
    bundle: Path,
    places: Path,
    out: Path,
    root: Path | None,
    gsds_m: tuple[float, ...],
    report: Path | None,
    overwrite: bool,
) -> None:
    """Fit the confidence of BUNDLE to validation places and write it to a new bundle.

    A calibrated confidence of 0.8 means that eight of ten such footprints match a building at IoU
    0.5. The order of footprints, and so average precision, stays.
    """
    # Here, since torch and Beam take seconds to import.
    from geo.errors import EveryroofError
    from model.bundle import load_bundle
    from pipeline.cli.evaluate_bundle import run_places

    if out.exists() and not overwrite:
        raise click.ClickException(f"{out} exists; choose another name or add --overwrite")
    try:
        loaded = load_bundle(bundle)
        evaluations = run_places(bundle, places, root, gsds_m)
        from pipeline.calibrate_bundle import fit_to_places, save_calibrated
        from pipeline.evaluation_report import EvaluationSummary, write_evaluation

        result = fit_to_places(evaluations)
        sha256 = save_calibrated(out, loaded, result)
        if report is not None:
            summary = EvaluationSummary(
                title=f"Calibration of {loaded.meta.name}",
                evaluations=evaluations,
                meta=loaded.meta,
                sha256=loaded.sha256,
                panels=result.panels,
                note=result.note,
            )
            write_evaluation(report, summary)
    except EveryroofError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"footprints  {int(result.before.num_samples.sum())} right or wrong")
    for name, found in (("before", result.before), ("after", result.after)):
        interval = f"{found.error_low:.3f} to {found.error_high:.3f}"
        click.echo(f"{name:<11} expected calibration error {found.error:.3f} ({interval})")
    for name, errors in result.place_errors.items():
        click.echo(f"  {name}: {errors[0]:.3f} before, {errors[1]:.3f} after")
    click.echo(result.note)
    click.echo(f"{out}: {len(result.knots)} knots, sha256 {sha256}")
