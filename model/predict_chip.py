"""One chip of any size through a network, as it is: nothing is drawn, nothing is changed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.chips import Chip


def normalise(image: Tensor, valid: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Levels to what a network takes; the mean colour where not valid.

    Args:
        image: uint8, shape (N, bands, h, w).
        valid: bool, shape (N, h, w).
        mean: per band, on 0 to 1.
        std: per band, on 0 to 1.

    Returns:
        float32, channels last, same shape.
    """
    shape = (1, -1, 1, 1)
    centre = torch.tensor(mean, device=image.device).view(shape)
    spread = torch.tensor(std, device=image.device).view(shape)
    values = (image.float() / 255.0 - centre) / spread
    values = values.masked_fill(~valid[:, None], 0.0)
    return values.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def predict_chip(
    network: nn.Module, chip: Chip, *, mean: Sequence[float], std: Sequence[float], has_bf16: bool
) -> Tensor:
    """Logits of one chip, float32, shape (channels, h, w), on the network's device.

    Args:
        network: put into evaluation mode.
        chip: its sides are multiples of the network's stride.
        mean: of the network's input.
        std: of the network's input.
        has_bf16: compute in bf16 where that is enough.
    """
    device = next(network.parameters()).device
    image = torch.from_numpy(chip.image)[None].to(device)
    valid = torch.from_numpy(chip.valid)[None].to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16):
        logits: Tensor = network.eval()(normalise(image, valid, mean, std))
    return logits[0].float()
