"""Everyroof beside its peers: the same image, the same network, from GeoTIFF to polygons.

    python benchmarks/peers.py [--sizes 2048 8192 16384] [--rounds 3]
        [--large-px 10000] [--large-rounds 1] [--shipped-sizes 2048] [--only NAME ...]

Peers are geo-inference, geoai, raster-vision and GeoDeep, each from the package index in a virtual
environment of its own below --folder (made once and kept, with the images; see
`benchmarks/peer_environments.py`), each called as its own documents say by a script in
benchmarks/peers, which names what was set beyond the defaults. First all of them run the stand-in
network, so that the pipelines are timed, then the shipped one (on a drawn town that it knows, not
on the largest sizes: there the network is all).

Contenders take turns. *Whole* is the command from start to end, *work* what is left without imports
and loading the network, *core s* the processor's seconds of the whole command, which say more on a
machine that does other things as well; memory is the peak of the process tree. *Cut* counts
buildings that came out as several polygons, *lost* those that no polygon matches at IoU 0.5,
*merged* polygons that are several buildings. A contender that fails or exceeds --limit-s is left
out at larger sizes. Tables, plot and figures go to --results.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio
import shapely
from peer_environments import ADAPTERS, PEERS, InstallError, Peer, make_environment
from peer_networks import RedMean, ShippedProbability, save_onnx, save_script, save_stand_in_bundle
from peer_scene import ROOT, Scene, draw_demo_town, draw_scene
from plots import Panel, plot_panels
from results import RESULTS, facts_as_text, machine_facts, markdown_table, write_part
from watching import Cost, watch

from geo.metrics import evaluate_polygons
from model.shipped import shipped_bundle_path

OURS = "Everyroof"
HEADER = (
    "", "side px", "whole s", "work s", "core s", "peak MB", "lost", "cut", "merged", "extra",
    "mean IoU", "work, times ours", "core s, times ours",
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network in every form.

    Attributes:
        name: stand-in or shipped.
        bundle: for Everyroof.
        stem: path of the other forms, without their suffix.
        threshold: probability from which a pixel is building.
    """

    name: str
    bundle: Path
    stem: Path
    threshold: float


@dataclass(frozen=True)
class Row:
    """One run: who, what, what it took and how right it was; `error` where it did not finish."""

    contender: str
    network: str
    size_px: int
    version: str = ""
    whole_s: float = 0.0
    work_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    quality: dict[str, float] | None = None
    error: str = ""


Finished = tuple[float, str, list[Path]]
"""Seconds of work, version, files with polygons."""


def run_ours(scene: Scene, network: Network, out: Path, limit_s: float) -> tuple[Cost, Finished]:
    """One run of the real command."""
    everyroof = Path(sys.executable).parent / "everyroof"
    command = [str(everyroof), "run", "--fresh", "--image", str(scene.image), "--out", str(out)]
    cost = watch(
        [*command, "--model", str(network.bundle)],
        out.with_suffix(".log"),
        limit_s=limit_s,
        env={"PYTHONPATH": str(ROOT)},
    )
    _check(cost, out.with_suffix(".log"))
    facts = json.loads((out / "run.json").read_text())
    return cost, (facts["work_s"], OURS, sorted((out / "footprints").glob("*.parquet")))


def run_peer(
    peer: Peer, python: Path, scene: Scene, network: Network, out: Path, limit_s: float
) -> tuple[Cost, Finished]:
    """One run of a peer by its adapter."""
    command = [str(python), "-W", "ignore", str(ADAPTERS / peer.adapter), str(scene.image)]
    form = network.stem.with_suffix(peer.network_suffix)
    log = out.with_suffix(".log")
    cost = watch(
        [*command, str(form), str(out), str(network.threshold)],
        log,
        limit_s=limit_s,
        env={"PYTHONPATH": ""},
    )
    _check(cost, log)
    facts = json.loads((out / "adapter.json").read_text())
    return cost, (facts["work_s"], facts["version"], [Path(facts["polygons"])])


def _check(cost: Cost, log: Path) -> None:
    if cost.status is None:
        raise RuntimeError(f"ended after {cost.wall_s:.0f} s")
    if cost.status:
        words = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"exit status {cost.status}: {' '.join(words)[:300]}")


def rate(polygons: list[Path], scene: Scene) -> dict[str, float]:
    """How right polygons are; buildings that the image's edge cuts do not count."""
    with rasterio.open(scene.image) as image:
        area, crs = shapely.box(*image.bounds), image.crs
    truth, *frames = (
        geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
        for path in (scene.truth, *polygons)
    )
    found = pd.concat([frame.geometry.to_crs(crs) for frame in frames])
    parts = shapely.get_parts(shapely.make_valid(found.to_numpy()))
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    references = truth.geometry.to_crs(crs).to_numpy()
    at = evaluate_polygons(parts, np.ones(len(parts)), references, aoi=area).at_threshold
    return {
        "buildings": at.num_true_positives + at.num_false_negatives,
        "lost": at.num_false_negatives,
        "cut": at.num_splits,
        "merged": at.num_merges,
        "extra": at.num_false_positives,
        "mean_iou": at.mean_iou,
    }


class Race:
    """Contenders in turns on scenes of growing size.

    Args:
        folder: kept: environments, images, networks.
        limit_s: longest run.
    """

    def __init__(self, folder: Path, limit_s: float, only: list[str]) -> None:
        self.rows: list[Row] = []
        self._folder, self._limit_s = folder, limit_s
        self._runs: dict[str, Callable[..., tuple[Cost, Finished]]] = {OURS: run_ours}
        for peer in PEERS:
            if not only or peer.name in only:
                self._add_peer(peer)
        self._is_out: set[tuple[str, str]] = set()

    def _add_peer(self, peer: Peer) -> None:
        try:
            python = make_environment(self._folder / "environments", peer)
        except InstallError as error:
            self.rows.append(Row(peer.name, "", 0, error=f"cannot be installed: {error}"))
            return
        self._runs[peer.name] = lambda *rest: run_peer(peer, python, *rest)

    def round(self, scene: Scene, network: Network) -> None:
        """One run of every contender that has not dropped out."""
        for name, run in self._runs.items():
            if (name, network.name) in self._is_out:
                continue
            row = self._one(name, run, scene, network)
            self.rows.append(row)
            print(json.dumps(asdict(row)), file=sys.stderr, flush=True)
            if row.error:
                self._is_out.add((name, network.name))

    def _one(self, name: str, run: Callable[..., Any], scene: Scene, network: Network) -> Row:
        out = self._folder / "runs" / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        try:
            cost, (work_s, version, polygons) = run(scene, network, out, self._limit_s)
        except RuntimeError as error:
            return Row(name, network.name, scene.size_px, error=str(error))
        known = (row.quality for row in self._of(name, network, scene) if row.quality)
        quality = next(known, None) or rate(polygons, scene)
        shutil.rmtree(out)
        peak_mb = cost.peak_bytes / 1e6
        return Row(
            name, network.name, scene.size_px, version, cost.wall_s, work_s, cost.cpu_s, peak_mb,
            quality,
        )  # fmt: skip

    def _of(self, name: str, network: Network, scene: Scene) -> Iterator[Row]:
        wanted = (name, network.name, scene.size_px)
        return (row for row in self.rows if (row.contender, row.network, row.size_px) == wanted)


def medians(rows: list[Row]) -> dict[tuple[int, str], dict[str, float]]:
    """Medians of the runs that finished, with their quality, by size and contender."""
    groups: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        if not row.error:
            groups[row.size_px, row.contender].append(row)
    fields = ("whole_s", "work_s", "cpu_s", "peak_mb")
    return {
        key: {field: statistics.median(getattr(row, field) for row in group) for field in fields}
        | (group[0].quality or {})
        for key, group in groups.items()
    }


def table(rows: list[Row]) -> str:
    """The rows of one network as Markdown, with those that dropped out below."""
    found, lines = medians(rows), []
    for (size_px, name), got in sorted(found.items(), key=lambda item: item[0][0]):
        ours = found.get((size_px, OURS), {})
        lines.append(
            (
                name, f"{size_px}", *(f"{got[key]:.1f}" for key in ("whole_s", "work_s", "cpu_s")),
                *(f"{got[key]:,.0f}" for key in ("peak_mb", "lost", "cut", "merged", "extra")),
                f"{got['mean_iou']:.3f}",
                *(f"{got[key] / ours[key]:.1f}" if ours else "" for key in ("work_s", "cpu_s")),
            )
        )  # fmt: skip
    counts = {size: f"{got['buildings']:,.0f}" for (size, _), got in found.items()}
    text = ", ".join(f"{count} buildings at {size} px" for size, count in counts.items())
    failed = "".join(
        f"- {row.contender}, {row.size_px} px: {row.error}\n" for row in rows if row.error
    )
    return f"{text}.\n\n{markdown_table(HEADER, lines)}\n{failed}"


def growth_table(found: dict[tuple[int, str], dict[str, float]]) -> str:
    """What a further Mpx costs each contender, start-up being taken off by the smallest size."""
    rows = []
    for name in dict.fromkeys(name for _, name in found):
        sizes = sorted(size for size, other in found if other == name)
        if len(sizes) < 2:
            continue
        first, last = found[sizes[0], name], found[sizes[-1], name]
        mpx = (sizes[-1] ** 2 - sizes[0] ** 2) / 1e6
        costs = {key: (last[key] - first[key]) / mpx for key in ("work_s", "cpu_s", "peak_mb")}
        rows.append((name, f"{sizes[0]} to {sizes[-1]}", costs))
    ours = next((costs for name, _, costs in rows if name == OURS), None)
    lines = [
        (
            name, sizes, f"{costs['work_s']:.3f}", f"{costs['cpu_s']:.3f}",
            f"{costs['peak_mb']:.1f}", f"{costs['cpu_s'] / ours['cpu_s']:.1f}" if ours else "",
        )
        for name, sizes, costs in rows
    ]  # fmt: skip
    header = ("", "px", "work s", "core s", "MB", "core s, times ours")
    return f"A further Mpx costs\n\n{markdown_table(header, lines)}" if lines else ""


def report(race: Race, folder: Path, facts: dict[str, Any]) -> None:
    """Write tables, plot and figures."""
    text = "# Beside peers\n\n" + facts_as_text(facts)
    versions = sorted({row.version for row in race.rows if row.version} - {OURS})
    text += f"\n{', '.join(versions)}.\n"
    text += "".join(f"\n{row.contender} {row.error}\n" for row in race.rows if not row.network)
    for network in dict.fromkeys(row.network for row in race.rows if row.network):
        rows = [row for row in race.rows if row.network == network]
        text += f"\n## The {network} network\n\n" + table(rows)
        found = medians(rows)
        if len({size for size, _ in found}) > 1:
            plot_panels(folder / f"peers_{network}.png", _panels(found))
            text += growth_table(found)
            text += f"\n![Time and memory by size](peers_{network}.png)\n"
    data = {"machine": facts, "runs": [asdict(row) for row in race.rows]}
    write_part(folder, "peers", text, data)


def _panels(found: dict[tuple[int, str], dict[str, float]]) -> list[Panel]:
    panels = []
    for field, title in (
        ("work_s", "Seconds of work"),
        ("cpu_s", "Core seconds, start-up included"),
        ("peak_mb", "Peak memory, MB"),
    ):
        lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for (size_px, name), got in found.items():
            lines[name].append((size_px, got[field]))
        panels.append(Panel(title, "side of the image, px", lines, field == "peak_mb"))
    return panels


def make_networks(folder: Path) -> tuple[Network, Network]:
    """Both networks in every form, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    stand_in, shipped = folder / "stand_in", folder / "shipped"
    if not stand_in.with_suffix(".onnx").exists():
        save_stand_in_bundle(stand_in.with_suffix(".safetensors"))
        save_script(stand_in.with_suffix(".pt"), RedMean())
        save_onnx(stand_in.with_suffix(".onnx"), RedMean(), 0.5)
    network = ShippedProbability(shipped_bundle_path())
    if not shipped.with_suffix(".onnx").exists():
        save_script(shipped.with_suffix(".pt"), network)
        save_onnx(shipped.with_suffix(".onnx"), network, network.threshold)
    return (
        Network("stand-in", stand_in.with_suffix(".safetensors"), stand_in, 0.5),
        Network("shipped", shipped_bundle_path(), shipped, network.threshold),
    )


def main() -> None:
    """Run all rounds; the results are written anew after each, so that a break loses one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[2048, 8192, 16384])
    parser.add_argument("--shipped-sizes", type=int, nargs="*", default=[2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large-rounds", type=int, default=1, help="above --large-px")
    parser.add_argument("--large-px", type=int, default=10_000)
    parser.add_argument("--shipped-rounds", type=int, default=3)
    parser.add_argument("--limit-s", type=float, default=1200.0)
    parser.add_argument("--only", nargs="*", default=[], help="names of peers")
    parser.add_argument("--folder", type=Path, default=ROOT / ".peers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    facts, folder = machine_facts(), args.folder.absolute()
    stand_in, shipped = make_networks(folder / "networks")
    race = Race(folder, args.limit_s, args.only)
    images = folder / "images"
    images.mkdir(exist_ok=True)
    jobs = [(size, args.rounds, draw_scene, stand_in) for size in args.sizes]
    jobs += [(size, args.shipped_rounds, draw_demo_town, shipped) for size in args.shipped_sizes]
    for size_px, rounds, draw, network in sorted(jobs, key=lambda job: job[0]):
        scene = draw(images, size_px)
        for _ in range(args.large_rounds if size_px > args.large_px else rounds):
            race.round(scene, network)
            report(race, args.results, {**facts, "load_at_end": os.getloadavg()})
    print((args.results / "peers.md").read_text())


if __name__ == "__main__":
    main()
