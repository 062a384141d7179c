"""Small places with known pixels, for tests of training data."""

from typing import Any

import numpy as np

from model.places import Place


def colour_of(ids: np.ndarray) -> np.ndarray:
    """A colour for each id, none of them black; uint8, (..., 3)."""
    ids = np.asarray(ids)
    return np.stack([40 + ids * 53 % 200, 30 + ids * 91 % 210, 20 + ids * 37 % 220], -1).astype(
        np.uint8
    )


def checkered_place(
    name: str = "drawn/one",
    *,
    block_px: int = 16,
    shape: tuple[int, int] = (192, 256),
    **fields: Any,
) -> Place:
    """A place of square buildings and ground in between, each pixel in the colour of its id."""
    rows, cols = np.indices(shape) // block_px
    number = rows * (shape[1] // block_px + 1) + cols + 1
    ids = np.where((rows + cols) % 2 == 0, number, 0).astype(np.int32)
    everywhere = np.ones(shape, np.bool_)
    values: dict[str, Any] = {
        "name": name,
        "source": name.partition("/")[0],
        "category": "drawn",
        "region": name,
        "split": "train",
        "weight": 1.0,
        "gsd_m": 0.3,
        "image": colour_of(ids),
        "ids": ids,
        "known": everywhere,
        "valid": everywhere,
        "has_instances": True,
    }
    return Place(**(values | fields))
