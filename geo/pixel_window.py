"""PixelWindow: a rectangle of pixels."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class PixelWindow:
    """A rectangle of grid pixels (global columns and rows of one zone's grid).

    Attributes:
        col_off: first column.
        row_off: first row.
        width: number of columns.
        height: number of rows.
    """

    col_off: int
    row_off: int
    width: int
    height: int

    @property
    def col_end(self) -> int:
        """Column after the last one."""
        return self.col_off + self.width

    @property
    def row_end(self) -> int:
        """Row after the last one."""
        return self.row_off + self.height

    def expand(self, margin_px: int) -> "PixelWindow":
        """The window with a margin on every side."""
        return PixelWindow(
            self.col_off - margin_px,
            self.row_off - margin_px,
            self.width + 2 * margin_px,
            self.height + 2 * margin_px,
        )

    def within(self, outer: "PixelWindow") -> tuple[slice, slice]:
        """Row and column slices of this window in an array that holds `outer`."""
        row, col = self.row_off - outer.row_off, self.col_off - outer.col_off
        return slice(row, row + self.height), slice(col, col + self.width)

    def intersect(self, other: "PixelWindow") -> "PixelWindow":
        """What both windows hold; without width or height where they do not meet."""
        col, row = max(self.col_off, other.col_off), max(self.row_off, other.row_off)
        width = max(0, min(self.col_end, other.col_end) - col)
        return PixelWindow(col, row, width, max(0, min(self.row_end, other.row_end) - row))
