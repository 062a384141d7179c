"""Picture of what a student changed: image, teacher, student, student minus teacher."""

from collections.abc import Sequence

import cv2
import numpy as np

from model.places import Place, UInt8Array

_CELL_PX = 384
_GAP_PX = 6
_TITLE_PX = 26
_COLUMNS = ("image", "teacher", "student", "student minus teacher: more, less")
_MORE_RGB, _LESS_RGB = np.array([214, 69, 40]), np.array([33, 102, 172])


def draw_student_minus_teacher(
    places: Sequence[Place], students: Sequence[UInt8Array], *, max_rows: int = 8
) -> UInt8Array:
    """Draw the places that changed most, a row each.

    Args:
        places: with the teacher's output.
        students: the student's output on each, uint8, shape (height, width, channels).
        max_rows: places to draw.

    Returns:
        RGB, uint8, shape (height, width, 3).
    """
    changes = [
        float(np.abs(student[:, :, 0].astype(int) - _teacher(place)).mean())
        for place, student in zip(places, students, strict=True)
    ]
    order = np.argsort(-np.array(changes), kind="stable")[:max_rows]
    rows = [_draw_row(places[index], students[index]) for index in order]
    return np.vstack([_draw_titles(rows[0].shape[1]), *rows])


def _teacher(place: Place) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    assert place.soft is not None
    return place.soft[:, :, 0].astype(int)


def _draw_row(place: Place, student: UInt8Array) -> UInt8Array:
    teacher, after = _teacher(place), student[:, :, 0].astype(int)
    change = (after - teacher)[:, :, None] / 255.0
    grey = place.image.mean(axis=2, keepdims=True) * 0.5 + 120
    colour = np.where(change > 0, _MORE_RGB, _LESS_RGB)
    difference = grey + np.abs(change) * (colour - grey)
    cells = [
        place.image,
        np.repeat(teacher[:, :, None], 3, 2),
        np.repeat(after[:, :, None], 3, 2),
        difference,
    ]
    return np.hstack([_fit(cell) for cell in cells])


def _fit(cell: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> UInt8Array:
    """A picture in its cell, with a gap to the right and below."""
    height, width = cell.shape[:2]
    scale = _CELL_PX / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(
        np.clip(np.rint(cell.astype(float)), 0, 255).astype(np.uint8),
        size,
        interpolation=cv2.INTER_AREA,
    )
    canvas = np.full((_CELL_PX + _GAP_PX, _CELL_PX + _GAP_PX, 3), 255, np.uint8)
    canvas[: size[1], : size[0]] = small
    return canvas


def _draw_titles(width: int) -> UInt8Array:
    canvas = np.full((_TITLE_PX, width, 3), 255, np.uint8)
    for number, title in enumerate(_COLUMNS):
        at = (number * (_CELL_PX + _GAP_PX) + 2, _TITLE_PX - 9)
        cv2.putText(canvas, title, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return canvas
