"""The two networks of `benchmarks/peers.py`, in every form that a contender takes.

The *stand-in* is a mean over 5 x 5 pixels: next to no arithmetic, so that the pipelines are timed.
The *shipped* network is that of the weights in the package.
"""

import json
import sys
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from model.bundle import BundleMeta, load_bundle, save_bundle
from model.pixel_net import MAX_LOGIT, colour_weights
from model.unet import NetworkConfig

KERNEL_PX, HALF_LEVEL = 5, 127.5
GSD_M = 0.3
ONNX_WINDOW_PX = 1024


class RedMean(nn.Module):
    """The stand-in network: the mean of the first band over 5 x 5 pixels, as a probability.

    Beyond a window's edge it sees a logit of 0, which cuts nothing: neither a building that the
    edge crosses nor the ground beside it changes sides. What is cut is cut by what comes after.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Probability (N, 1, H, W), 1/2 at a mean of 127.5, of pixels (N, 3, H, W) of 0 to 255."""
        logits = (images[:, :1].float() - HALF_LEVEL) * (MAX_LOGIT / HALF_LEVEL)
        return torch.sigmoid(nn.functional.avg_pool2d(logits, KERNEL_PX, 1, KERNEL_PX // 2))


def save_stand_in_bundle(path: Path, *, window_px: int = 1024, margin_px: int = 128) -> Path:
    """The stand-in network as a bundle, with the windows of the shipped one unless told.

    A `ColourNet` that looks for the brightest red and does not weigh the other bands: its logit is
    6 at 255, -6 at 0 and straight between, and its mean over 5 x 5 pixels is that of `RedMean`.
    """
    mean = std = (0.5, 0.5, 0.5)
    weights = colour_weights(
        [(255, 255, 255)], mean=mean, std=std, tolerance=HALF_LEVEL, kernel_px=KERNEL_PX
    )
    weights["score.weight"][:, [1, 2, 4, 5]] = 0.0
    network = NetworkConfig(
        architecture="colour", in_channels=3, num_colours=1, kernel_px=KERNEL_PX
    )
    meta = BundleMeta(
        name="red-mean",
        network=network,
        bands=("red", "green", "blue"),
        mean=mean,
        std=std,
        gsd_m=GSD_M,
        window_px=window_px,
        margin_px=margin_px,
        provenance={"source": "made by hand: a mean over 5 x 5 pixels", "licence": "Apache-2.0"},
    )
    save_bundle(path, meta, weights)
    return path


class ShippedProbability(nn.Module):
    """A bundle's network for pixels of 0 to 255, with its normalisation, as a probability.

    Args:
        path: the bundle.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        bundle = load_bundle(path)
        self.config, self.threshold = bundle.meta.network, bundle.meta.threshold
        self.network = bundle.build()
        for name in ("mean", "std"):
            values = torch.tensor(getattr(bundle.meta, name)) * 255.0
            self.register_buffer(name, values[None, :, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Probability (N, 1, H, W) of pixels (N, 3, H, W)."""
        return self.config.probability(self.network((images.float() - self.mean) / self.std))[
            :, None
        ]


class TwoClasses(nn.Module):
    """A network as GeoDeep takes it: pixels of 0 to 1, one probability for each of two classes.

    Args:
        network: probability of building (N, 1, H, W) of pixels of 0 to 255.
        threshold: probability of it that is to become one half.
    """

    def __init__(self, network: nn.Module, threshold: float) -> None:
        super().__init__()
        self.network = network
        self.shift = float(torch.logit(torch.tensor(threshold)))

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (N, 2, H, W) of background and building."""
        building = self.network(images * 255.0)
        if self.shift:
            building = torch.sigmoid(torch.logit(building, eps=1e-6) - self.shift)
        return torch.cat([1.0 - building, building], dim=1)


def save_script(path: Path, network: nn.Module, window_px: int = 512) -> Path:
    """Trace a network into a TorchScript file that holds for windows of other sizes too.

    Raises:
        RuntimeError: if it does not.
    """
    network = network.eval()
    with torch.inference_mode(), warnings.catch_warnings():
        # Torch would rather have torch.export; the peers read TorchScript.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(network, torch.rand(1, 3, window_px, window_px) * 255)
        other = torch.rand(2, 3, 2 * window_px, window_px) * 255
        difference = float((traced(other) - network(other)).abs().max())
        traced.save(str(path))
    if difference > 1e-4:
        raise RuntimeError(f"the traced network differs by {difference:g} at another size")
    return path


def save_onnx(path: Path, network: nn.Module, threshold: float) -> Path:
    """Export a network with the metadata that GeoDeep goes by.

    Windows of 1024 px, as large as those of others, its default overlap of 5 %, and small segments
    kept: by default it drops buildings and fills courtyards below 484 pixels.
    """
    facts = {
        "model_type": "Segmentor",
        "class_names": {"0": "ground", "1": "building"},
        "resolution": GSD_M * 100,
        "tiles_overlap": 5,
        "seg_thresh": 0.5,
        "seg_small_segment": 0,
    }
    example = torch.rand(1, 3, ONNX_WINDOW_PX, ONNX_WINDOW_PX)
    torch.onnx.export(
        TwoClasses(network, threshold).eval(),
        (example,),
        str(path),
        dynamo=True,
        external_data=False,
    )
    model = onnx.load(str(path))
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    onnx.save(model, str(path))
    return path
