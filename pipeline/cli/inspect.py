"""`everyroof inspect`: what a result holds, what failed and whether its files are whole."""

import json
from typing import Any

import click

MAX_REASONS = 20


@click.command("inspect")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--check", is_flag=True, help="Compare every file with its checksum.")
def inspect_command(out: str, check: bool) -> None:
    """Show what the result in OUT holds: counts, tiles by status, failures, times."""
    from rich.console import Console

    from geo.dataset import open_dataset

    dataset = open_dataset(out)
    folder, manifest = dataset.place, dataset.manifest
    console = Console()
    console.print(_summary(manifest), highlight=False)
    _print_failures(console, folder)
    run = folder / "run.json"
    if run.exists():
        _print_times(console, json.loads(run.read_text()))
    if check:
        _check_files(console, dataset)


def _summary(manifest: dict[str, Any]) -> Any:
    from rich.table import Table

    counts, tiles = manifest["counts"], manifest["tiles"]
    num_bytes = sum(shard["num_bytes"] for shard in manifest["shards"])
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("footprints", f"{counts['footprints']:,}")
    table.add_row("built area", f"{counts['area_m2'] / 1e4:,.2f} ha")
    per_row = f" ({num_bytes / counts['footprints']:.1f} bytes each)" if num_bytes else ""
    table.add_row("files", f"{counts['shards']} shard(s), {num_bytes / 1e6:,.2f} MB{per_row}")
    states = ", ".join(f"{number} {status}" for status, number in tiles["num_by_status"].items())
    table.add_row("tiles", f"{tiles['num_tiles']:,}: {states}")
    table.add_row("pixel size", f"{manifest['gsd_m']:g} m")
    table.add_row("model", manifest["model"]["model_id"])
    images = manifest.get("images_file")
    if images is not None:
        states = ", ".join(f"{n} {status}" for status, n in images["num_by_status"].items())
        table.add_row("images", f"{images['num_images']:,}: {states}")
    for image in manifest.get("images", [])[:MAX_REASONS]:
        date = f", {image['date']}" if image["date"] else ""
        table.add_row("image", f"{image['image_id']}{date} ({image['path']})")
    return table


def _print_failures(console: Any, folder: Any) -> None:
    import pyarrow.parquet as pq

    from geo.places import arrow_source

    columns = ["tile", "image", "status", "reason"]
    rows = pq.read_table(arrow_source(folder / "tiles.parquet"), columns=columns).to_pylist()
    told = [row for row in rows if row["reason"]]
    for row in told[:MAX_REASONS]:
        name = row["tile"] or row["image"]
        colour = "red" if row["status"] == "failed" else "yellow"
        console.print(f"[{colour}]{row['status']}[/] {name}: {row['reason']}", highlight=False)
    if len(told) > MAX_REASONS:
        console.print(f"... and {len(told) - MAX_REASONS} more in {folder / 'tiles.parquet'}")


def _print_times(console: Any, run: dict[str, Any]) -> None:
    from pipeline.progress import format_duration

    if run.get("wall_s") is None:
        return
    stages = sorted(run["stage_s"].items(), key=lambda item: -item[1])
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages[:5] if seconds >= 0.05)
    console.print(f"took {format_duration(run['wall_s'])}: {parts}", highlight=False)


def _check_files(console: Any, dataset: Any) -> None:
    from rich.progress import track

    from geo.dataset import check_files

    checked = check_files(dataset)
    for _ in track(checked, "checking", total=len(dataset.shards), console=console, transient=True):
        pass
    console.print(f"{len(dataset.shards)} file(s) match their checksums")
