"""Logits to bytes: round(255 * probability), where logits are bf16 on the CPU by table.

bf16 has 65,536 values, so the probability's factors are looked up instead of computed: one pass
over the logits instead of eight.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geo.level_kernels import look_up_bytes, look_up_products
from model.separation import building_factors
from model.unet import NetworkConfig

UInt8Array = npt.NDArray[np.uint8]


class Quantiser:
    """Turns a network's logits into bytes.

    Args:
        config: the network's; says what its channels mean.
    """

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._tables: list[npt.NDArray[np.float32]] = []
        self._bytes: UInt8Array | None = None

    def quantise(self, logits: Tensor) -> Tensor:
        """round(255 * probability) of a building, ties to even.

        Args:
            logits: shape (N, channels, H, W).

        Returns:
            uint8, shape (N, H, W), on the same device.
        """
        if logits.device.type != "cpu" or logits.dtype != torch.bfloat16:
            return to_bytes(self._config.probability(logits))
        self._make_tables()
        bits = logits.view(torch.int16).numpy().view(np.uint16)
        levels = np.empty((len(bits), *bits.shape[2:]), np.uint8)
        for image, out in zip(bits, levels, strict=True):
            if self._bytes is not None:
                look_up_bytes(image[0], self._bytes, out)
            else:
                look_up_products(image, *self._tables, out)
        return torch.from_numpy(levels)

    def _make_tables(self) -> None:
        if self._tables:
            return
        every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
        factors = building_factors(
            every.view(1, 1, 1, -1).expand(1, 2, 1, -1),
            self._config.separation,
            self._config.border_exponent,
        )
        if len(factors) == 1:
            self._bytes = to_bytes(factors[0].nan_to_num(0.0)).flatten().numpy()
        # Last, since other threads take them for a sign that all is there. Among the bits are some
        # that are no number.
        self._tables = [factor.nan_to_num_(0.0).flatten().numpy() for factor in factors]


def to_bytes(probability: Tensor) -> Tensor:
    """round(255 * probability), uint8, ties to even.

    Args:
        probability: float32, 0 to 1; changed.
    """
    return probability.mul_(255.0).round_().to(torch.uint8)
