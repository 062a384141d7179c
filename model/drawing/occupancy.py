"""Which ground is taken: a raster of small cells that keeps drawn things apart."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
UInt8Array = npt.NDArray[np.uint8]

CELL_M = 0.25
_SHIFT = 4
FREE, ROAD, BUILT, TAKEN = 0, 1, 2, 4


class Occupancy:
    """Cells of `CELL_M` metres over a scene and a margin around it.

    An outline covers the cells that it fills or whose middle its edge passes; it is put only where
    the cells around those are free too, so that no two outlines overlap.
    """

    def __init__(self, size_m: float, margin_m: float) -> None:
        """All free.

        Args:
            size_m: side of the scene.
            margin_m: ground around it that is planned too.
        """
        self.size_m = size_m
        self.margin_m = margin_m
        cells = int(np.ceil((size_m + 2 * margin_m) / CELL_M))
        self.cells: UInt8Array = np.zeros((cells, cells), np.uint8)

    def claim(
        self,
        rings: Sequence[Float64Array],
        *,
        margin_m: float = 0.0,
        kind: int = BUILT,
        blockers: int = 255,
    ) -> bool:
        """Take the ground of an outline if all of it is free.

        Args:
            rings: corners in metres, float64 (num_corners, 2) each.
            margin_m: how far around it must be free too.
            kind: what it is taken by.
            blockers: kinds that must not be there, added.

        Returns:
            Whether it was free; if not, or if nothing of it lies in the scene, nothing changes.
        """
        window = self._window(rings[0], margin_m)
        if window is None:
            return False
        cover = self._cover(rings[0], window)
        view = self.cells[window]
        if (view[_grown(cover, margin_m) > 0] & blockers).any():
            return False
        view[cover > 0] |= kind
        return True

    def claim_group(self, rings: Sequence[Float64Array]) -> list[bool]:
        """Take the ground of outlines that may touch each other, where it was free before all.

        Args:
            rings: outer corners in metres, disjoint but for shared edges.

        Returns:
            For each whether it was free and is now taken.
        """
        taken: list[tuple[tuple[slice, slice], UInt8Array]] = []
        free = []
        for ring in rings:
            window = self._window(ring, 0.0)
            cover = None if window is None else self._cover(ring, window)
            if window is None or cover is None:
                free.append(False)
                continue
            is_free = not self.cells[window][_grown(cover, 0) > 0].any()
            free.append(is_free)
            if is_free:
                taken.append((window, cover))
        # Last of all: the outlines of a group do not stand in each other's way.
        for window, cover in taken:
            self.cells[window][cover > 0] |= BUILT
        return free

    def take(self, ring: Float64Array, kind: int) -> None:
        """Take ground whatever stands there."""
        window = self._window(ring, 0.0)
        if window is not None:
            view = self.cells[window]
            view[self._cover(ring, window) > 0] |= kind

    def take_line(self, points: Float64Array, breadth_m: float, kind: int) -> None:
        """Take the ground of a line of some breadth."""
        window = self._window(points, breadth_m)
        if window is None:
            return
        view = self.cells[window]
        cover = np.zeros(view.shape, np.uint8)
        thickness = max(round(breadth_m / CELL_M), 1)
        cv2.polylines(
            cover, [self._in_window(points, window)], False, 1, thickness, cv2.LINE_8, _SHIFT
        )
        view[cover > 0] |= kind

    def at(self, x: float, y: float) -> int:
        """What takes a point; TAKEN beyond the margin."""
        col, row = int((x + self.margin_m) / CELL_M), int((y + self.margin_m) / CELL_M)
        if not (0 <= row < len(self.cells) and 0 <= col < len(self.cells)):
            return TAKEN
        return int(self.cells[row, col])

    def scene_cells(self, mask: int, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Share of each pixel of the scene that is taken by one of the kinds of a mask.

        Args:
            mask: kinds, added.
            shape: (height, width) of the scene in pixels.
        """
        first, count = round(self.margin_m / CELL_M), round(self.size_m / CELL_M)
        inner = (self.cells[first : first + count, first : first + count] & mask) > 0
        size = (shape[1], shape[0])
        return cv2.resize(inner.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)

    def _fixed(self, points: Float64Array) -> npt.NDArray[np.int32]:
        """Corners in OpenCV's fixed point; pixel centres there are whole numbers."""
        cells = (points + self.margin_m) / CELL_M - 0.5
        return np.round(cells * (1 << _SHIFT)).astype(np.int32)

    def _in_window(
        self, points: Float64Array, window: tuple[slice, slice]
    ) -> npt.NDArray[np.int32]:
        rows, cols = window
        offset = np.array([cols.start, rows.start]) << _SHIFT
        return self._fixed(points) - offset.astype(np.int32)

    def _window(self, ring: Float64Array, margin_m: float) -> tuple[slice, slice] | None:
        low = np.floor((ring.min(axis=0) + self.margin_m - margin_m) / CELL_M).astype(int) - 1
        high = np.ceil((ring.max(axis=0) + self.margin_m + margin_m) / CELL_M).astype(int) + 1
        if (low >= len(self.cells)).any() or (high <= 0).any():
            return None
        x0, y0 = np.maximum(low, 0)
        x1, y1 = np.minimum(high, len(self.cells))
        return slice(int(y0), int(y1)), slice(int(x0), int(x1))

    def _cover(self, ring: Float64Array, window: tuple[slice, slice]) -> UInt8Array:
        rows, cols = window
        cover = np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.uint8)
        fixed = self._in_window(ring, window)
        cv2.fillPoly(cover, [fixed], 1, cv2.LINE_8, _SHIFT)
        return cover


def _grown(cover: UInt8Array, margin_m: float) -> UInt8Array:
    """Covered cells and those around: what must be free, so that nothing overlaps."""
    size = 2 * int(np.ceil(margin_m / CELL_M)) + 3
    return cv2.dilate(cover, np.ones((size, size), np.uint8))
