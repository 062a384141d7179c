"""`everyroof bundle`: make bundles of plain weights, and look into them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from pipeline.cli.bundle_export import export_bundle_command
from pipeline.cli.bundle_path import BundlePath


@click.group(name="bundle")
def bundle_group() -> None:
    """Make and inspect bundles: weights with all that is needed to use them."""


bundle_group.add_command(export_bundle_command)


def _numbers(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    """One number, or several with commas between."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r}; expected a number, or several like 0.4,0.4,0.5"
        ) from error


@bundle_group.command(name="import")
@click.argument("state_dict", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--name", default=None, help="Name of the model.  [default: OUT without its suffix]")
@click.option("--encoder", required=True, help="Encoder of the U-Net, for example resnet18.")
@click.option("--encoder-depth", default=5, show_default=True, help="Levels of the encoder.")
@click.option("--bands", default="red,green,blue", show_default=True, help="Order of the bands.")
@click.option("--gsd", "gsd_m", type=float, required=True, help="Pixel size in metres.")
@click.option(
    "--mean",
    default="0.485,0.456,0.406",
    show_default=True,
    callback=_numbers,
    help="Subtracted from level / 255; one value, or one a band.",
)
@click.option(
    "--std",
    default="0.229,0.224,0.225",
    show_default=True,
    callback=_numbers,
    help="Divides what is left; one value, or one a band.",
)
@click.option("--threshold", default=0.5, show_default=True, help="Probability of a building.")
@click.option(
    "--valley-depth",
    default=0.0,
    show_default=True,
    help="Neighbours are cut apart where the probability falls by this much; 0: nowhere.",
)
@click.option(
    "--erosion",
    "erosion_px",
    default=0,
    show_default=True,
    help="Erosion of the training labels in pixels; detections are grown back by it.",
)
@click.option("--window", "window_px", default=1024, show_default=True, help="Core in pixels.")
@click.option("--margin", "margin_px", default=128, show_default=True, help="Margin in pixels.")
@click.option("--data", default=None, help="Provenance: what the weights were trained on.")
@click.option("--licence", default=None, help="Provenance: licence of the weights.")
@click.option("--source", default=None, help="Provenance: where the weights come from.")
@click.option("--created", default=None, help="Provenance: when the weights were trained.")
@click.option("--overwrite", is_flag=True, help="Replace OUT where it exists.")
def import_bundle(state_dict: Path, out: Path, overwrite: bool, **options: Any) -> None:
    """Make a bundle OUT of the weights of a U-Net in STATE_DICT.

    STATE_DICT is a safetensors file with the tensors of segmentation_models_pytorch.Unet. They are
    taken over as they are; every one must fit the encoder given.
    """
    # Here, since torch takes seconds to import.
    from geo.errors import EveryroofError
    from model.bundle import read_state_dict, save_bundle

    if out.exists() and not overwrite:
        raise click.ClickException(f"{out} exists; choose another name or add --overwrite")
    try:
        meta = _make_meta(state_dict, out, options)
        sha256 = save_bundle(out, meta, read_state_dict(state_dict))
    except (EveryroofError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {meta.name}, {out.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")


def _make_meta(state_dict: Path, out: Path, options: dict[str, Any]) -> Any:
    """`BundleMeta` of the options."""
    from model.bundle import BundleMeta
    from model.unet import NetworkConfig

    bands = tuple(options["bands"].split(","))
    depth = options["encoder_depth"]
    provenance = {key: options[key] for key in ("data", "licence", "source", "created")}
    return BundleMeta(
        name=options["name"] or out.stem,
        network=NetworkConfig(
            encoder=options["encoder"],
            encoder_depth=depth,
            decoder_channels=NetworkConfig().decoder_channels[-depth:],
            in_channels=len(bands),
        ),
        bands=bands,
        mean=_per_band(options["mean"], len(bands)),
        std=_per_band(options["std"], len(bands)),
        **{
            key: options[key]
            for key in (
                "gsd_m",
                "threshold",
                "valley_depth",
                "erosion_px",
                "window_px",
                "margin_px",
            )
        },
        provenance={"imported_from": state_dict.name}
        | {key: value for key, value in provenance.items() if value is not None},
    )


def _per_band(values: tuple[float, ...], num_bands: int) -> tuple[float, ...]:
    """One value repeated for every band; several as they are."""
    return values * num_bands if len(values) == 1 else values


@bundle_group.command(name="change")
@click.argument("path", metavar="BUNDLE", type=BundlePath())
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--name", default=None, help="Name of the model.")
@click.option("--threshold", type=float, default=None, help="Probability of a building.")
@click.option(
    "--valley-depth",
    type=float,
    default=None,
    help="Neighbours are cut apart where the probability falls by this much; 0: nowhere.",
)
@click.option(
    "--confidence",
    type=click.Choice(["mean", "contrast"]),
    default=None,
    help="Mean of the probability inside, or that times one minus the mean just outside.",
)
@click.option(
    "--border-exponent",
    type=float,
    default=None,
    help="Of a network with borders: how much they count, 1 in full.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT where it exists.")
def change_bundle(path: Path, out: Path, overwrite: bool, **options: Any) -> None:
    """Write BUNDLE with other settings as OUT; what is not named stays.

    Anything but another name gives other confidences, so that the calibration is left out:
    calibrate again (everyroof calibrate).
    """
    from geo.errors import EveryroofError
    from model.bundle import load_bundle, save_bundle

    if out.exists() and not overwrite:
        raise click.ClickException(f"{out} exists; choose another name or add --overwrite")
    changes = {key: value for key, value in options.items() if value is not None}
    if not changes:
        raise click.ClickException(
            "nothing to change; give --name, --threshold, --valley-depth, --confidence or "
            "--border-exponent"
        )
    try:
        bundle = load_bundle(path)
        exponent = changes.pop("border_exponent", None)
        if exponent is not None:
            network = dataclasses.replace(bundle.meta.network, border_exponent=exponent)
            changes["network"] = network
        if set(changes) - {"name"} and bundle.meta.calibration:
            changes["calibration"] = ()
            click.echo("the calibration is left out: it was of the old settings")
        sha256 = save_bundle(out, dataclasses.replace(bundle.meta, **changes), bundle.state_dict)
    except (EveryroofError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")


@bundle_group.command(name="average")
@click.argument("paths", metavar="BUNDLE BUNDLE...", type=BundlePath(), nargs=-1)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Bundle to write.")
@click.option(
    "--shares", default=None, callback=_numbers, help="Of each, like 0.65,0.35.  [default: equal]"
)
@click.option("--name", default=None, help="Name of the model.  [default: the first one's]")
@click.option(
    "--pack",
    type=click.Path(path_type=Path),
    help="Chip pack: the threshold is chosen on its validation places, and the score is printed.",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle where it exists.")
def average_bundle_files(
    paths: tuple[Path, ...],
    out: Path,
    shares: tuple[float, ...] | None,
    name: str | None,
    pack: Path | None,
    overwrite: bool,
) -> None:
    """Average the weights of bundles that were trained on from the same weights.

    \b
    everyroof bundle average first.safetensors second.safetensors --out mean.safetensors

    The mean mostly does better on new ground than each of them. Name and threshold are the first
    one's unless given or chosen. It has no calibration: calibrate it (everyroof calibrate).
    """  # noqa: D301 - click reads the backslash
    from geo.errors import EveryroofError
    from model.bundle import load_bundle, save_bundle
    from model.weight_average import average_bundles

    if out.exists() and not overwrite:
        raise click.ClickException(f"{out} exists; choose another name or add --overwrite")
    if len(paths) < 2:
        raise click.ClickException(f"{len(paths)} bundles given; an average takes at least two")
    try:
        bundles = [load_bundle(path) for path in paths]
        meta, state = average_bundles(bundles, shares or (1 / len(paths),) * len(paths))
        meta = dataclasses.replace(meta, name=name or meta.name)
        if pack is not None:
            meta = dataclasses.replace(meta, threshold=_best_threshold(meta, state, pack))
        sha256 = save_bundle(out, meta, state)
    except (EveryroofError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")


def _best_threshold(meta: Any, state: Any, pack: Path) -> float:
    """The threshold with the highest mean AP50 on a pack's validation places."""
    import math

    from model.bundle import Bundle
    from model.chip_pack import read_pack
    from model.validation import score_bundle

    places = [place for place in read_pack(pack) if place.split == "validation"]
    # The pixels that it is for, and coarser ones: 0.3 and 0.5 m for a bundle of 0.3 m.
    gsd_m = (meta.gsd_m, round(meta.gsd_m * 5 / 3, 3))
    score = score_bundle(Bundle(meta, state, sha256=""), places, gsd_m=gsd_m)
    if math.isnan(score.ap50):
        raise click.ClickException(f"{pack} holds no validation place with buildings")
    click.echo(f"mean AP50 {score.ap50:.3f} on its validation places, threshold {score.threshold}")
    return score.threshold


@bundle_group.command(name="show")
@click.argument("path", metavar="FILE", type=BundlePath())
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option("--check", is_flag=True, help="Load and check every tensor, too.")
def show_bundle(path: Path, as_json: bool, check: bool) -> None:
    """Print what a bundle says about itself."""
    from geo.errors import EveryroofError
    from model.bundle import load_bundle, read_meta

    try:
        meta = read_meta(path)
        sha256 = load_bundle(path).sha256 if check else None
    except EveryroofError as error:
        raise click.ClickException(str(error)) from error
    fields = dataclasses.asdict(meta) | {"file_bytes": path.stat().st_size}
    if sha256 is not None:
        fields["sha256"] = sha256
    if as_json:
        click.echo(json.dumps(fields, indent=2, ensure_ascii=False))
        return
    for name, value in _flat_fields(fields):
        click.echo(f"{name:<28} {value}")


def _flat_fields(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested fields as rows of name and text."""
    rows: list[tuple[str, str]] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            rows += _flat_fields(value, f"{prefix}{name}.")
        elif isinstance(value, tuple):
            rows.append((prefix + name, ", ".join(str(item) for item in value) or "none"))
        else:
            rows.append((prefix + name, str(value)))
    return rows
