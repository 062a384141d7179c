"""How soon `everyroof view` is up and has drawn, and what its tiles and counts cost.

Run: python benchmarks/view.py OUT [--repeats 5] [--rows 1000000]
The browser is Chromium with a drawn screen, as on a machine without a graphics card: a real one is
faster. Start-up is a process from cold to its first answer; first draw is from the start of the
navigation to MapLibre's `idle`, footprints and counts on the screen.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("", "tests")]

import mapbox_vector_tile  # noqa: E402 (after the path is set)
import numpy as np  # noqa: E402
import shapely  # noqa: E402
from page_visits import ARGUMENTS  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

from geo.dataset import open_dataset  # noqa: E402
from geo.footprint_index import View  # noqa: E402
from pipeline.viewer.index_builder import IndexBuilder  # noqa: E402
from pipeline.viewer.row_groups import RowGroups, open_footprints  # noqa: E402
from pipeline.viewer.vector_tiles import (  # noqa: E402
    OutlineTiles,
    density_tile,
    footprint_properties,
)

WORLD = View(west=-180, south=-85, east=180, north=85, min_confidence=0.7)
PORT = 8977
DRAWN = "#stage[aria-busy=false]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, help="only the first shards, of so many rows or fewer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out
        if arguments.rows is not None:
            out = first_shards(out, Path(folder) / "part", arguments.rows)
        groups = open_footprints(open_dataset(out))
        print(f"{groups.num_rows:,} footprints in {len(groups):,} row groups")
        measure_parts(groups, arguments.repeats)
        measure_page(out, arguments.repeats)


def first_shards(out: Path, part: Path, num_rows: int) -> Path:
    """A dataset of links to the first shards."""
    (part / "footprints").mkdir(parents=True)
    manifest = json.loads((out / "manifest.json").read_text())
    kept, total = [], 0
    for shard in manifest["shards"]:
        if total + shard["num_rows"] <= num_rows:
            total += shard["num_rows"]
            kept.append(shard)
            (part / shard["path"]).symlink_to((out / shard["path"]).resolve())
    (part / "manifest.json").write_text(json.dumps(manifest | {"shards": kept}))
    return part


def measure_parts(groups: RowGroups, repeats: int) -> None:
    """The index, one count of everything, and tiles in the densest place."""
    show("index built", [timed(lambda: build(groups))[0] for _ in range(repeats)])
    index = build(groups)
    index.summarise(WORLD)  # compiled on first use
    show("count of everything", [timed(lambda: index.summarise(WORLD))[0] for _ in range(repeats)])
    x, y, z = densest(index)
    density_tile(index, z - 4, x >> 4, y >> 4, 0.7, 0.0)
    density = [
        timed(lambda: density_tile(index, z - 4, x >> 4, y >> 4, 0.7, 0.0))[0]
        for _ in range(repeats)
    ]
    show("density tile", density)
    columns = ["confidence", "area_in_meters"]

    def fresh() -> OutlineTiles:
        return OutlineTiles(groups, "footprints", columns, footprint_properties)

    fresh().tile(z, x, y)
    show("outline tile, nothing cached", [timed(fresh().tile, z, x, y)[0] for _ in range(repeats)])
    tiles = fresh()
    tiles.tile(z, x, y)
    show("outline tile, decoded before", [timed(tiles.tile, z, x, y)[0] for _ in range(repeats)])
    compare_library(tiles.tile(z, x, y))


def compare_library(tile: bytes) -> None:
    """The same features written by mapbox-vector-tile."""
    layer = mapbox_vector_tile.decode(tile, default_options={"y_coord_down": True})["footprints"]
    features = [
        {
            "id": feature["id"],
            "geometry": shapely.geometry.shape(feature["geometry"]),
            "properties": feature["properties"],
        }
        for feature in layer["features"]
    ]
    options = {"y_coord_down": True, "extents": layer["extent"]}
    seconds, _ = timed(
        mapbox_vector_tile.encode,
        [{"name": "footprints", "features": features}],
        default_options=options,
    )
    print(
        f"  of {len(features):,} features, {len(tile):,} bytes; mapbox-vector-tile: {seconds:.3f} s"
    )


def build(groups: RowGroups) -> Any:
    with IndexBuilder(groups) as builder:
        builder.wait()
    return builder.index


def densest(index: Any) -> tuple[int, int, int]:
    """The tile of zoom 14 that holds most footprints."""
    tiles, counts = np.unique(
        (index.x >> 18).astype(np.int64) << 14 | (index.y >> 18), return_counts=True
    )
    best = int(tiles[np.argmax(counts)])
    return best >> 14, best & (2**14 - 1), 14


def measure_page(out: Path, repeats: int) -> None:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        print("no Chromium: make chromium")
        return
    starts, first, again = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        for _ in range(repeats):
            server, seconds = start_server(out)
            try:
                starts.append(seconds)
                first.append(draw(browser))
                again.append(draw(browser))
            finally:
                server.terminate()
                server.wait()
        browser.close()
    show("server up", starts)
    show("first draw", first)
    show("drawn again by the same server", again)


def start_server(out: Path) -> tuple["subprocess.Popen[bytes]", float]:
    begin = time.monotonic()
    command = [sys.executable, "-c", "from pipeline.cli.main import main; main()", "view", str(out)]
    server = subprocess.Popen(
        [*command, "--no-browser", "--port", str(PORT)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/progress", timeout=5).read()
        except OSError:
            time.sleep(0.01)
        else:
            return server, time.monotonic() - begin


def draw(browser: Browser) -> float:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    begin = time.monotonic()
    page.goto(f"http://127.0.0.1:{PORT}/", wait_until="commit")
    page.wait_for_selector(DRAWN, timeout=120_000)
    seconds = time.monotonic() - begin
    assert page.locator("#count").inner_text() != "–"
    context.close()
    return seconds


def timed(action: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = action(*arguments, **options)
    return time.perf_counter() - begin, result


def show(name: str, seconds: list[float]) -> None:
    print(
        f"{name:32s} {statistics.median(seconds):8.3f} s   "
        f"({min(seconds):.3f} to {max(seconds):.3f}, {len(seconds)} runs)",
        flush=True,
    )


if __name__ == "__main__":
    main()
