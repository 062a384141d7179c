"""What the adapters share: their arguments, and the seconds of the work alone.

An adapter is run by its peer's own Python as

    python NAME.py IMAGE NETWORK OUT THRESHOLD

IMAGE is a tiled GeoTIFF, NETWORK a TorchScript file that maps pixels (N, 3, H, W) of 0 to 255 to
the probability of a building (N, 1, H, W), OUT an empty folder. It leaves the polygons in OUT, in
any vector format, and OUT/adapter.json.
"""

import argparse
import contextlib
import importlib.metadata
import json
import time
from collections.abc import Iterator
from pathlib import Path


class Adapter:
    """One run of a peer.

    Args:
        package: as the package index knows it.

    Attributes:
        image: path of the GeoTIFF.
        network: path of the TorchScript file.
        out: folder for everything that is written.
        threshold: probability from which a pixel is building.
    """

    def __init__(self, package: str) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("image")
        parser.add_argument("network")
        parser.add_argument("out", type=Path)
        parser.add_argument("threshold", type=float)
        arguments = parser.parse_args()
        self.image: str = arguments.image
        self.network: str = arguments.network
        self.out: Path = arguments.out
        self.threshold: float = arguments.threshold
        self._version = f"{package} {importlib.metadata.version(package)}"

    @contextlib.contextmanager
    def work(self, polygons: str) -> Iterator[None]:
        """Times what stands inside: all but imports and loading the network.

        Args:
            polygons: name of the vector file in `out`; a pattern that one file fits will do.
        """
        begin = time.perf_counter()
        yield
        work_s = time.perf_counter() - begin
        (found,) = self.out.glob(polygons)
        facts = {"version": self._version, "work_s": work_s, "polygons": str(found)}
        (self.out / "adapter.json").write_text(json.dumps(facts))
