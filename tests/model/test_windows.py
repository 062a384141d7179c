import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geo.pixel_window import PixelWindow
from model.errors import SegmentError
from model.windows import check_window, plan_cores


@given(
    num_rows=st.integers(1, 4),
    num_cols=st.integers(1, 4),
    window_px=st.integers(1, 6),
    margin_px=st.integers(0, 3),
    data=st.data(),
)
def test_cores_cover_every_valid_pixel_once(
    num_rows: int, num_cols: int, window_px: int, margin_px: int, data: st.DataObject
) -> None:
    height, width = num_rows * window_px, num_cols * window_px
    shape = (height + 2 * margin_px, width + 2 * margin_px)
    valid = data.draw(hnp.arrays(np.bool_, shape))
    cores, num_skipped = plan_cores(valid, window_px, margin_px)
    covered = np.zeros((height, width), int)
    inner = valid[margin_px : margin_px + height, margin_px : margin_px + width]
    for core in cores:
        assert (core.width, core.height) == (window_px, window_px)
        assert core.row_off % window_px == core.col_off % window_px == 0
        rows, cols = core.within(PixelWindow(0, 0, width, height))
        covered[rows, cols] += 1
        assert inner[rows, cols].any()
    assert covered.max(initial=0) <= 1
    assert covered[inner].all()
    assert len(cores) + num_skipped == num_rows * num_cols
    assert cores == sorted(cores, key=lambda core: (core.row_off, core.col_off))


@pytest.mark.parametrize("shape", [(16, 12), (12, 16), (16, 0), (0, 16), (4, 4)])
def test_a_tile_of_broken_cores_is_refused(shape: tuple[int, int]) -> None:
    valid = np.ones((shape[0] + 4, shape[1] + 4), bool)
    with pytest.raises(ValueError, match="whole number of cores of 8 px"):
        plan_cores(valid, 8, 2)


@given(st.integers(1, 3000), st.integers(0, 300), st.sampled_from([1, 8, 32]))
def test_a_refused_window_names_one_that_fits(
    window_px: int, margin_px: int, stride_px: int
) -> None:
    if (window_px + 2 * margin_px) % stride_px == 0:
        check_window(window_px, margin_px, stride_px)
        return
    with pytest.raises(SegmentError) as caught:
        check_window(window_px, margin_px, stride_px)
    proposed = int(str(caught.value).split("window_px = ")[-1].split()[0])
    assert abs(proposed - window_px) <= stride_px
    check_window(proposed, margin_px, stride_px)


@pytest.mark.parametrize(("window_px", "margin_px"), [(0, 0), (-32, 16), (32, -1)])
def test_impossible_windows(window_px: int, margin_px: int) -> None:
    with pytest.raises(SegmentError, match="expected at least 1 and 0"):
        check_window(window_px, margin_px, 32)
