"""A first look at half the resolution: ground without a building needs no second one.

Most of a continent is desert, forest and water. The network itself sees that much from further
away: a window shrunk to half its sides costs a quarter of the work, and where not one of its pixels
looks like a building the window is left out. What that loses is measured in docs/first-look.md.
"""

from torch import Tensor
from torch.nn import functional

from model.quantise import Quantiser
from model.staging import StagedWindows
from model.window_network import Slices, WindowNetwork
from model.windows import FIRST_LOOK_FACTOR as FACTOR


class FirstLook:
    """Looks at windows from further away.

    Args:
        network: the segmenter's.
        quantiser: likewise.
        level: a window is worth another look where a pixel has at least this probability, 0 to 1.

    Attributes:
        least: the same as a byte, 1 to 255.
    """

    def __init__(self, network: WindowNetwork, quantiser: Quantiser, level: float) -> None:
        self._network, self._quantiser = network, quantiser
        self.least = max(round(255 * level), 1)

    def highest(self, staged: StagedWindows, seen: Slices) -> Tensor:
        """The highest level of each window, uint8, shape (N,), on the network's device.

        Args:
            staged: the windows; their sides are multiples of twice the network's stride.
            seen: the rows and columns of them that matter.
        """
        images = functional.avg_pool2d(staged.images, FACTOR)
        rows, cols = (_shrunk(part) for part in seen)
        known = staged.known
        if known is not None:
            known = functional.max_pool2d(known.to(images.dtype), FACTOR) > 0
        levels = self._quantiser.quantise(self._network(images, known, (rows, cols)))
        if known is not None:
            levels = levels * known[:, 0, rows, cols]
        return levels.amax(dim=(1, 2))


def _shrunk(part: slice) -> slice:
    """The pixels that hold any of those of a part."""
    return slice(part.start // FACTOR, -(-part.stop // FACTOR))
