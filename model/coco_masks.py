"""COCO's run-length masks, plain and compressed, without pycocotools."""

from pathlib import Path
from typing import Any

import numpy as np

from model.errors import SourceError
from model.places import BoolArray

_BITS, _MORE, _SIGN = 0x1F, 0x20, 0x10


def decode_mask(mask: dict[str, Any], shape: tuple[int, int], path: Path) -> BoolArray:
    """A run-length mask as pixels.

    Runs alternate between outside and inside, starting outside, down the columns from left to
    right; compressed, they are differences in base 32 (`rleFrString` of pycocotools).

    Args:
        mask: {"counts": list of numbers or text, "size": [height, width]}.
        shape: (height, width) of the image.
        path: the image, for messages.

    Returns:
        bool of that shape.

    Raises:
        SourceError: if it is for another size, or its runs do not fill it.
    """
    try:
        counts, size = mask["counts"], tuple(mask["size"])
        runs = _decompress(counts) if isinstance(counts, str) else [int(run) for run in counts]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SourceError(f"an annotation of {path.name} is no run-length mask") from error
    if size != shape or sum(runs) != shape[0] * shape[1] or min(runs, default=0) < 0:
        raise SourceError(
            f"a run-length mask of {path.name} holds {sum(runs)} px for a size of {size}; the "
            f"image has {shape}"
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(shape[1], shape[0]).T


def _decompress(text: str) -> list[int]:
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            code = ord(text[position]) - 48
            value |= (code & _BITS) << shift
            more, position, shift = bool(code & _MORE), position + 1, shift + 5
            if not more and code & _SIGN:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
