"""Does a Flink cluster of two TaskManagers finish a job in half the time of one?

    python benchmarks/flink.py [--tiles 225] [--sleep 0.4]

The network's step of every tile sleeps, so that the machine's cores do not matter: what is measured
is whether the graph spreads. Needs `make flink`. Each cluster runs the job once in full.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from flink_cluster import FlinkCluster
from running import EVERYROOF, make_config, write_config
from synthetic import draw_town, write_town

TILE_PX = 128


def time_run(folder: Path, image: Path, num_task_managers: int, sleep_s: float) -> dict[str, float]:
    """What run.json says of one run on a fresh cluster."""
    folder.mkdir()
    config = make_config(
        folder,
        [image],
        grid={"tile_px": TILE_PX, "max_building_m": 30.0},
        segment={"window_px": TILE_PX},
    )
    path = write_config(config, folder / "run.yaml")
    with FlinkCluster(folder, num_task_managers=num_task_managers) as cluster:
        cluster.set_faults(sleep_s=sleep_s)
        command = [str(EVERYROOF), "run", str(path), "--", *cluster.beam_flags]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return json.loads((folder / "out" / "run.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=225)
    parser.add_argument("--sleep", type=float, default=0.4)
    arguments = parser.parse_args()
    side = math.ceil(math.sqrt(arguments.tiles)) * TILE_PX - TILE_PX // 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = write_town(folder / "town.tif", draw_town(side, side, seed=3))
        runs = {
            number: time_run(folder / f"cluster-{number}", image, number, arguments.sleep)
            for number in (1, 2)
        }
    for number, run in runs.items():
        print(
            f"{number} TaskManager(s): {run['tiles_segmented']} tiles, first tile to dataset "
            f"{run['work_s']:.1f} s, in all {run['wall_s']:.1f} s"
        )
    for what in ("work_s", "wall_s"):
        print(f"two / one, {what}: {runs[2][what] / runs[1][what]:.2f}")


if __name__ == "__main__":
    main()
