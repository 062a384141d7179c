"""Contact sheets: every place of a source with its outlines, for a person to look at."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from geo.atomic_files import write_atomically
from model.chips import resample_place
from model.places import Place, UInt8Array

_WIDTH_PX = 1800
_MIN_CELL_PX, _MAX_CELL_PX = 160, 1600
_TITLE_PX = 16
_OUTLINE_RGB = (255, 255, 0)
_UNKNOWN_RGB = (120, 0, 120)


def write_contact_sheets(places: Sequence[Place], folder: Path) -> list[Path]:
    """Draw one PNG per source and side of the split.

    Outlines are yellow, ground without labels or image data is purple.

    Args:
        places: the places.
        folder: made if there is none; files of the same names are replaced.

    Returns:
        The files, in the order of the sources.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(f"{place.source}_{place.split}", []).append(place)
    paths = []
    for name, members in groups.items():
        done, data = cv2.imencode(".png", draw_contact_sheet(members)[:, :, ::-1])
        assert done, "OpenCV cannot write PNG"
        paths.append(folder / f"{name}.png")
        write_atomically(paths[-1], bytes(data))
    return paths


def draw_contact_sheet(places: Sequence[Place]) -> UInt8Array:
    """Places side by side, each with its name.

    Args:
        places: at least one.

    Returns:
        RGB, uint8, shape (height, width, 3).
    """
    columns = min(math.ceil(math.sqrt(len(places))), _WIDTH_PX // _MIN_CELL_PX)
    cell_px = min(_WIDTH_PX // columns, _MAX_CELL_PX)
    cells = [_draw_cell(place, cell_px) for place in places]
    blank = np.zeros_like(cells[0])
    cells += [blank] * (-len(cells) % columns)
    rows = [np.hstack(cells[at : at + columns]) for at in range(0, len(cells), columns)]
    return np.vstack(rows)


def _draw_cell(place: Place, cell_px: int) -> UInt8Array:
    picture = draw_place(place, cell_px - 4)
    cell = np.zeros((cell_px + _TITLE_PX, cell_px, 3), np.uint8)
    cell[_TITLE_PX : _TITLE_PX + picture.shape[0], : picture.shape[1]] = picture
    title = place.name.partition("/")[2]
    cv2.putText(cell, title, (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    return cell


def draw_place(place: Place, max_px: int) -> UInt8Array:
    """A place with its outlines.

    Args:
        place: the place.
        max_px: longest side of the picture.

    Returns:
        RGB, uint8, shape (height, width, 3).
    """
    chip = resample_place(place, place.gsd_m * max(place.shape) / max_px)
    picture = np.ascontiguousarray(chip.image.transpose(1, 2, 0))
    unknown = ~chip.known
    picture[unknown] = picture[unknown] // 2 + np.array(_UNKNOWN_RGB, np.uint8) // 2
    is_edge = np.zeros(unknown.shape, np.bool_)
    is_edge[:, 1:] |= chip.ids[:, 1:] != chip.ids[:, :-1]
    is_edge[1:] |= chip.ids[1:] != chip.ids[:-1]
    picture[is_edge] = _OUTLINE_RGB
    return picture
