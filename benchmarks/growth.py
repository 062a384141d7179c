"""Whether time and memory grow with the job: the real command from 10 to 10,000 tiles.

    python benchmarks/growth.py [--tiles 10 100 1000 10000] [--workers 1]

Drawn images of growing size through the stand-in network (see `benchmarks/peer_networks.py`), in
tiles and windows of 256 px, the smallest sensible, so that what is done once a tile shows and ten
thousand of them are affordable (655 Mpx). For jobs of millions of buildings see
`benchmarks/scale.py`.
"""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from peer_networks import save_stand_in_bundle
from peer_scene import Scene, draw_scene
from plots import Panel, plot_panels
from results import RESULTS, ROOT, facts_as_text, machine_facts, markdown_table, write_part
from watching import watch

TILE_PX, MARGIN_PX = 256, 16
MAX_BUILDING_M = 450.0
"""Just above the drawn halls. A tile looks at all neighbours that the largest building can reach:
with tiles of 77 m and the default of 1000 m those are 841, with a usual tile 9."""
HEADER = (
    "tiles", "Mpx", "buildings", "whole s", "work s", "work s / Mpx", "core s / Mpx",
    "work s / million buildings", "peak MB", "output MB",
)  # fmt: skip


def measure(folder: Path, scene: Scene, bundle: Path, workers: int) -> dict[str, Any]:
    """One run of the command; what it took.

    Raises:
        SystemExit: if it fails or a building is missing.
    """
    out, config = folder / "out", folder / "growth.yaml"
    shutil.rmtree(out, ignore_errors=True)
    data = {"images": [str(scene.image)], "model": str(bundle), "output": str(out)}
    grid = {"tile_px": TILE_PX, "max_building_m": MAX_BUILDING_M}
    config.write_text(yaml.safe_dump({**data, "grid": grid}))
    command = [str(Path(sys.executable).parent / "everyroof"), "run", str(config), "--fresh"]
    log = folder / "growth.log"
    environment = {"PYTHONPATH": str(ROOT)}
    cost = watch([*command, "--workers", str(workers)], log, limit_s=7200, env=environment)
    if cost.status:
        raise SystemExit(f"the command failed with status {cost.status}; see {log}")
    run, manifest = (json.loads((out / name).read_text()) for name in ("run.json", "manifest.json"))
    return {
        "tiles": manifest["tiles"]["num_tiles"],
        "mpx": scene.size_px**2 / 1e6,
        "buildings": manifest["counts"]["footprints"],
        "whole_s": cost.wall_s,
        "work_s": run["work_s"],
        "cpu_s": cost.cpu_s,
        "peak_mb": cost.peak_bytes / 1e6,
        "output_mb": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6,
        "stage_s": run["stage_s"],
    }


def as_row(got: dict[str, Any]) -> Sequence[str]:
    """A line of the table."""
    return (
        f"{got['tiles']:,}",
        f"{got['mpx']:,.1f}",
        f"{got['buildings']:,}",
        f"{got['whole_s']:.1f}",
        f"{got['work_s']:.1f}",
        f"{got['work_s'] / got['mpx']:.3f}",
        f"{got['cpu_s'] / got['mpx']:.3f}",
        f"{got['work_s'] / got['buildings'] * 1e6:,.0f}",
        f"{got['peak_mb']:,.0f}",
        f"{got['output_mb']:,.1f}",
    )


def plot(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """Time per Mpx and peak memory over the number of tiles."""
    time_lines = {
        name: [(got["tiles"], got[key] / got["mpx"]) for got in found]
        for name, key in (("work, s", "work_s"), ("whole command, core s", "cpu_s"))
    }
    memory = {"peak memory": [(got["tiles"], got["peak_mb"]) for got in found]}
    panels = [
        Panel("Seconds per Mpx", "tiles of 256 px", time_lines),
        Panel("Peak memory of the process tree, MB", "tiles of 256 px", memory, True),
    ]
    plot_panels(path, panels)


def main() -> None:
    """Run every size; results are written after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / ".peers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    facts, found = machine_facts(), []
    folder, images = args.folder / "growth", args.folder / "images"
    folder.mkdir(parents=True, exist_ok=True)
    images.mkdir(exist_ok=True)
    bundle = save_stand_in_bundle(
        folder / "stand_in.safetensors", window_px=TILE_PX, margin_px=MARGIN_PX
    )
    for num_tiles in args.tiles:
        scene = draw_scene(images, round(math.sqrt(num_tiles) * TILE_PX))
        found.append(measure(folder, scene, bundle, args.workers))
        print(*as_row(found[-1]), file=sys.stderr, flush=True)
        text = f"# Growth\n\n{facts_as_text(facts)}\n{args.workers} worker(s).\n\n"
        text += markdown_table(HEADER, [as_row(got) for got in found])
        text += "\n![Time and memory by tiles](growth.png)\n"
        write_part(args.results, "growth", text, {"machine": facts, "runs": found})
        plot(args.results / "growth.png", found)
    print(text)


if __name__ == "__main__":
    main()
