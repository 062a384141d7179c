"""Peak resident memory of the whole process tree, for drawn images of growing size.

    python benchmarks/memory.py BUNDLE [--sizes 2048 8192 16384] [--tile-px 4096] [--workers 1]

Prints the peak of the tree and of the launcher alone, and by how much the launcher grew a tile
between the first size and the last (with several workers, since a single one computes itself).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from synthetic import write_large_town


def measure(config: Path, workers: int) -> tuple[int, int]:
    """Run a config; peak bytes of the tree, and of the job's own process."""
    command = [str(Path(sys.executable).parent / "everyroof"), "run", str(config)]
    process = subprocess.Popen([*command, "--workers", str(workers)], stderr=subprocess.DEVNULL)
    peak = launcher_peak = 0
    while process.poll() is None:
        total = 0
        try:
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        except psutil.NoSuchProcess:
            break
        for member in tree:
            try:
                resident = member.memory_info().rss
                if "pipeline.job" in " ".join(member.cmdline()):
                    launcher_peak = max(launcher_peak, resident)
            except psutil.NoSuchProcess:
                continue
            total += resident
        peak = max(peak, total)
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"the run failed with status {process.returncode}")
    return peak, launcher_peak


def main() -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 8192, 16384])
    parser.add_argument("--tile-px", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    launchers: list[tuple[int, int]] = []
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "town.tif"
            write_large_town(image, size, compress="jpeg", overviews=False)
            config = Path(folder) / "run.yaml"
            data = {
                "images": [str(image)],
                "model": str(Path(args.bundle).resolve()),
                "output": str(Path(folder) / "out"),
                "grid": {"tile_px": args.tile_px},
            }
            config.write_text(yaml.safe_dump(data))
            peak, launcher = measure(config, args.workers)
            manifest = json.loads((Path(folder) / "out" / "manifest.json").read_text())
            launchers.append((manifest["tiles"]["num_tiles"], launcher))
            print(
                f"{size} px: {manifest['tiles']['num_tiles']} tiles, "
                f"{manifest['counts']['footprints']} footprints, peak {peak / 1e9:.3f} GB, "
                f"launcher {launcher / 1e6:.1f} MB",
                flush=True,
            )
    (first_tiles, first), (last_tiles, last) = launchers[0], launchers[-1]
    if args.workers > 1 and last_tiles > first_tiles:
        grown = (last - first) / 1e3 / (last_tiles - first_tiles)
        print(f"the launcher grew by {grown:.2f} kB a tile")


if __name__ == "__main__":
    main()
