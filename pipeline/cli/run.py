"""`everyroof run`: imagery in, footprints out."""

import sys
import time
from pathlib import Path
from typing import Any

import click

EPILOG = """\
Flags after -- go to Beam untouched, for instance: everyroof run city.yaml --
--runner=FlinkRunner --flink_master=HOST:8081
"""


@click.command("run", epilog=EPILOG)
@click.argument("config", required=False, type=click.Path(dir_okay=False))
@click.argument("beam_flags", nargs=-1, type=click.UNPROCESSED)
@click.option("--image", type=str, help="One image instead of CONFIG.")
@click.option("--out", type=click.Path(file_okay=False), help="Output folder, with --image.")
@click.option("--model", type=click.Path(dir_okay=False), help="Bundle, with --image.")
@click.option("--resume/--fresh", default=True, help="Keep or forget finished tiles.")
@click.option("--dry-run", is_flag=True, help="Check everything and show the plan; do nothing.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, help="Local processes.")
def run_command(
    config: str | None,
    beam_flags: tuple[str, ...],
    image: str | None,
    out: str | None,
    model: str | None,
    resume: bool,
    dry_run: bool,
    workers: int,
) -> None:
    """Turn the images of CONFIG (YAML) into building footprints.

    A killed run is finished by the same command; finished tiles are never segmented twice.
    """
    if config is not None and config.startswith("-"):
        # `everyroof run --image X --out DIR -- --flag`: the flag is Beam's, not a config.
        beam_flags, config = (config, *beam_flags), None
    data = image_config(config, image, out, model)
    if dry_run:
        from pipeline.cli.plan import show_plan
        from pipeline.logs import configure_logging

        configure_logging()
        show_plan(config, data)
        return
    from rich.console import Console

    from pipeline.job_request import JobRequest
    from pipeline.supervise import supervise

    request = JobRequest(
        config_path=config,
        config=data,
        fresh=not resume,
        workers=workers,
        beam_flags=beam_flags,
        # All that this process did so far was to start.
        begin=time.time() - time.process_time(),
    )
    sys.exit(supervise(request, Console(stderr=True)))


def image_config(
    config: str | None, image: str | None, out: str | None, model: str | None
) -> dict[str, Any] | None:
    """The config of `--image ... --out ...`, or None where CONFIG was named.

    Raises:
        click.UsageError: if neither or both are given.
    """
    if config is not None:
        given = [n for n, v in (("--image", image), ("--out", out), ("--model", model)) if v]
        if given:
            raise click.UsageError(f"{', '.join(given)} stand in CONFIG; give one or the other")
        return None
    if image is None or out is None:
        raise click.UsageError(
            "name a CONFIG, or one image and a folder: everyroof run --image X.tif --out DIR"
        )
    return singleimage_config(image, out, model)


def singleimage_config(image: str, out: str, model: str | None) -> dict[str, Any]:
    """The packaged config for a single image, filled in.

    Raises:
        click.UsageError: if there is no bundle to use.
    """
    import yaml

    path = Path(__file__).parent.parent / "defaults" / "single_geotiff.yaml"
    data: dict[str, Any] = yaml.safe_load(path.read_text())
    return {**data, "images": [image], "output": out, "model": model or shipped_bundle()}


def shipped_bundle() -> str:
    """Path of the weights that come with the package.

    Raises:
        click.UsageError: if there are none.
    """
    from model.errors import BundleError
    from model.shipped import shipped_bundle_path

    try:
        return str(shipped_bundle_path())
    except BundleError as error:
        raise click.UsageError(str(error)) from error
