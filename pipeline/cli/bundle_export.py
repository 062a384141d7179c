"""`everyroof bundle export`: a bundle for other runtimes."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.bundle_path import BundlePath


@click.command("export", short_help="Write a bundle as ONNX or torch.export.")
@click.argument("bundle", type=BundlePath())
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "pt2"]),
    help="onnx for ONNX Runtime, pt2 for torch.export.  [default: by OUT's suffix]",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="FILE.onnx or FILE.pt2."
)
@click.option("--window", "window_px", type=int, help="Core in pixels.  [default: the bundle's]")
@click.option("--margin", "margin_px", type=int, help="Margin in pixels.  [default: the bundle's]")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Number type of the layers; bf16 for pt2 only.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT where it exists.")
def export_bundle_command(
    bundle: Path, kind: str | None, out: Path, overwrite: bool, **options: Any
) -> None:
    """Export BUNDLE with its metadata, and check that the file gives the same answers.

    The file takes the bundle's place in `everyroof run` and `everyroof evaluate`. Windows have one
    size, batches any; the second input says which pixels are known.
    """
    # Here, since torch takes seconds to import.
    from geo.errors import EveryroofError
    from model.bundle import load_bundle
    from model.export import export_bundle
    from model.exported import export_format

    if out.exists() and not overwrite:
        raise click.ClickException(f"{out} exists; choose another name or add --overwrite")
    format_ = kind or export_format(out)
    if format_ is None:
        raise click.ClickException(f"{out}: expected the suffix .onnx or .pt2, or --format")
    try:
        parity = export_bundle(load_bundle(bundle), out, format_, **options)  # type: ignore[arg-type]
    except (EveryroofError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    click.echo(
        f"against the bundle: probability differs by at most {parity.max_difference:.2g}, "
        f"{parity.share_flipped:.4%} of {parity.num_pixels:,} pixels flipped"
    )
