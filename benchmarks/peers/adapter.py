"""What the adapters share: their arguments, the network, and the seconds of the work alone.

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

import torch
from torch import Tensor, nn


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


class Probability(nn.Module):
    """The network for pixels of 0 to 1.

    Args:
        path: the TorchScript file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.network = torch.jit.load(path, map_location="cpu").eval()

    def forward(self, images: Tensor) -> Tensor:
        """Probability of building (N, 1, H, W) of images (N, 3, H, W)."""
        return self.network(images * 255.0)


class TwoClasses(Probability):
    """The network as one of two classes, background and building, for pixels of 0 to 1.

    Args:
        path: the TorchScript file.
        threshold: probability at which both classes are to be equal.
    """

    def __init__(self, path: str, threshold: float) -> None:
        super().__init__(path)
        self.shift = float(torch.logit(torch.tensor(threshold)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 2, H, W), for a softmax."""
        logit = torch.logit(super().forward(images), eps=1e-6) - self.shift
        return torch.cat([torch.zeros_like(logit), logit], dim=1)
