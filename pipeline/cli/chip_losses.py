"""`everyroof chip-losses`: where labels and network disagree most."""

import csv
import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geo.errors import EveryroofError
from pipeline.cli.bundle_path import BundlePath

if TYPE_CHECKING:
    from model.chip_losses import ChipLoss

_SHOWN = 10


@click.command("chip-losses")
@click.argument("bundle", type=BundlePath())
@click.argument("pack", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--gsd", "gsd_m", type=float, help="Pixel size in metres.  [default: the bundle's]")
@click.option("--size-px", default=256, show_default=True, help="Side of a window in pixels.")
@click.option("--pictures", default=40, show_default=True, help="Windows to draw, the worst first.")
def chip_losses_command(
    bundle: Path, pack: Path, out: Path, gsd_m: float | None, size_px: int, pictures: int
) -> None:
    """Score every window of PACK with BUNDLE, and draw those with the highest losses.

    On ground that the network has learned from, a high loss is mostly a wrong label: a building
    nobody drew, one that is gone, an outline that is off. OUT/losses.csv lists all windows.
    """
    # The network's libraries wait for the command itself, so that --help is instant.
    from model.bundle import load_bundle
    from model.chip_losses import chip_losses
    from model.chip_pack import read_pack
    from model.devices import pick_device, pick_precision

    try:
        found = load_bundle(bundle)
        places = [place for place in read_pack(pack) if place.known.any()]
        device = pick_device("auto")
        losses = chip_losses(
            found.build().to(device),
            found.meta,
            places,
            gsd_m=gsd_m or found.meta.gsd_m,
            size_px=size_px,
            has_bf16=pick_precision("auto", device) == "bf16",
        )
        facts, worst = _collect(losses, pictures)
        _write(facts, worst, out)
    except EveryroofError as error:
        raise click.ClickException(str(error)) from error
    for loss, place, _, _, row, col, missed_m2, invented_m2 in facts[:_SHOWN]:
        click.echo(
            f"{loss:6.2f}  {place} ({row}, {col}): {missed_m2:.0f} m2 labelled but not seen, "
            f"{invented_m2:.0f} m2 seen but not labelled"
        )
    click.echo(f"{out / 'losses.csv'}: {len(facts)} windows; pictures in {out / 'worst.png'}")


def _collect(
    losses: "Iterable[ChipLoss]", num_pictures: int
) -> "tuple[list[tuple[Any, ...]], list[ChipLoss]]":
    """Facts of all windows and the worst windows themselves, both from the highest loss on."""
    facts: list[tuple[Any, ...]] = []
    worst: list[tuple[float, int, ChipLoss]] = []
    for number, one in enumerate(losses):
        facts.append(one.facts)
        heapq.heappush(worst, (one.loss, number, one))
        if len(worst) > num_pictures:
            heapq.heappop(worst)
    ordered = [one for _, _, one in sorted(worst, key=lambda entry: (-entry[0], entry[1]))]
    return sorted(facts, key=lambda entry: -entry[0]), ordered


def _write(facts: "Sequence[tuple[Any, ...]]", worst: "Sequence[ChipLoss]", out: Path) -> None:
    import cv2

    from geo.atomic_files import write_atomically
    from model.loss_sheet import draw_loss_sheet

    out.mkdir(parents=True, exist_ok=True)
    with (out / "losses.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["loss", "place", "source", "split", "row", "col", "missed_m2", "invented_m2"]
        )
        for loss, *where, missed_m2, invented_m2 in facts:
            writer.writerow([f"{loss:.4f}", *where, f"{missed_m2:.1f}", f"{invented_m2:.1f}"])
    if worst:
        done, data = cv2.imencode(".png", draw_loss_sheet(worst)[:, :, ::-1])
        assert done, "OpenCV cannot write PNG"
        write_atomically(out / "worst.png", bytes(data))
