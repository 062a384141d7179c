"""Pictures of the windows with the highest losses, with what labels and network say."""

from collections.abc import Sequence

import cv2
import numpy as np

from model.chip_losses import ChipLoss
from model.places import BoolArray, Int32Array, UInt8Array

_CELL_PX = 300
_TITLE_PX = 20
_COLUMNS = 2
_LABEL_RGB, _NETWORK_RGB = (255, 220, 0), (0, 200, 255)


def draw_loss_sheet(losses: Sequence[ChipLoss]) -> UInt8Array:
    """Draw windows two a row: the image with labels (yellow), with the network's (blue), the loss.

    Args:
        losses: at least one, in the order to draw.

    Returns:
        RGB, uint8, shape (height, width, 3).
    """
    cells = [_draw(number, loss) for number, loss in enumerate(losses, start=1)]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % _COLUMNS)
    rows = [np.hstack(cells[at : at + _COLUMNS]) for at in range(0, len(cells), _COLUMNS)]
    return np.vstack(rows)


def _draw(number: int, loss: ChipLoss) -> UInt8Array:
    image = np.ascontiguousarray(loss.chip.image.transpose(1, 2, 0))
    found = np.asarray(
        cv2.connectedComponents((loss.probability >= 0.5).astype(np.uint8), connectivity=4)[1]
    ).astype(np.int32)
    heat = np.clip(loss.loss_map / 4.0, 0.0, 1.0)[:, :, None]
    parts = [
        _outlined(image, loss.chip.ids, _LABEL_RGB),
        _outlined(image, found, _NETWORK_RGB),
        np.rint(image * (0.6 - 0.5 * heat) + heat * np.array([255, 60, 30])).astype(np.uint8),
    ]
    cells = [
        cv2.resize(part, (_CELL_PX - 4, _CELL_PX - 4), interpolation=cv2.INTER_AREA)
        for part in parts
    ]
    padded = [np.pad(cell, ((0, 4), (0, 4), (0, 0)), constant_values=255) for cell in cells]
    title = np.full((_TITLE_PX, len(padded) * _CELL_PX, 3), 255, np.uint8)
    text = f"{number}. {loss.chip.place} {loss.chip.corner}  loss {loss.loss:.2f}"
    cv2.putText(title, text, (2, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1, cv2.LINE_AA)
    return np.vstack([title, np.hstack(padded)])


def _outlined(image: UInt8Array, ids: Int32Array, colour: tuple[int, int, int]) -> UInt8Array:
    drawn = image.copy()
    drawn[_borders(ids)] = colour
    return drawn


def _borders(ids: Int32Array) -> BoolArray:
    """Pixels of an instance with something else to the right or below, or to the left or above."""
    borders = np.zeros(ids.shape, np.bool_)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    borders[:, 1:] |= across
    borders[:, :-1] |= across
    borders[1:] |= down
    borders[:-1] |= down
    return borders & (ids > 0)
