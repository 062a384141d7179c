"""Windows meet where the sets of their pixels do."""

from hypothesis import given
from hypothesis import strategies as st

from geo.pixel_window import PixelWindow

WINDOWS = st.builds(
    PixelWindow, st.integers(-5, 5), st.integers(-5, 5), st.integers(0, 6), st.integers(0, 6)
)


def _pixels(window: PixelWindow) -> set[tuple[int, int]]:
    rows, cols = (
        range(window.row_off, window.row_end),
        range(window.col_off, window.col_end),
    )
    return {(row, col) for row in rows for col in cols}


@given(one=WINDOWS, other=WINDOWS)
def test_the_intersection_holds_the_pixels_of_both(one: PixelWindow, other: PixelWindow) -> None:
    both = one.intersect(other)
    assert _pixels(both) == _pixels(one) & _pixels(other)
    assert min(both.width, both.height) >= 0
