"""A virtual environment for each peer of `benchmarks/peers.py`, made once and kept.

An environment gets the peer from the package index, and a `.pth` file that puts the packages of the
project's own environment behind its own: pip then takes torch and rasterio for installed where the
peer's bounds allow them, instead of another 6 GB of torch for each.
"""

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ADAPTERS = Path(__file__).parent / "peers"
INSTALL_LIMIT_S = 1800


class InstallError(Exception):
    """A peer cannot be installed here; the message says why."""


@dataclass(frozen=True)
class Peer:
    """Another program from images to building polygons.

    Attributes:
        name: as people know it.
        requirement: what pip is asked for.
        adapter: the script in benchmarks/peers that runs it.
        network_suffix: form of the network that it takes.
    """

    name: str
    requirement: str
    adapter: str
    network_suffix: str = ".pt"


PEERS = (
    Peer("geo-inference", "geo-inference==3.2.*", "run_geo_inference.py"),
    Peer("geoai", "geoai-py", "run_geoai.py"),
    Peer("raster-vision", "rastervision==0.31.*", "run_raster_vision.py"),
    Peer("GeoDeep", "geodeep", "run_geodeep.py", ".onnx"),
)


def make_environment(folder: Path, peer: Peer) -> Path:
    """The Python of a peer's environment.

    Raises:
        InstallError: if the peer cannot be installed, with pip's last words.
    """
    place = folder / peer.name
    python, stamp = place / "bin" / "python", place / "installed.txt"
    if stamp.exists() and stamp.read_text() == peer.requirement:
        return python
    print(f"installing {peer.requirement} into {place}", file=sys.stderr, flush=True)
    venv.create(place, with_pip=True, clear=True)
    paths = {"base": str(place), "platbase": str(place)}
    own = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    (own / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--no-cache-dir", peer.requirement],
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_LIMIT_S,
        preexec_fn=lambda: os.nice(10),
    )
    if done.returncode:
        raise InstallError(done.stderr.strip()[-500:])
    stamp.write_text(peer.requirement)
    return python
