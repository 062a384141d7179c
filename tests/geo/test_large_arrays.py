"""Arrays in pages of their own: as numpy's zeros, and gone when nobody holds them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.large_arrays import MIN_BYTES, blank_array


@given(
    shape=st.lists(st.integers(0, 130), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float64, np.bool_]),
)
def test_as_zeros(shape: tuple[int, ...], dtype: type) -> None:
    array, zeros = blank_array(shape, dtype), np.zeros(shape, dtype)
    np.testing.assert_array_equal(array, zeros)
    assert (array.dtype, array.shape, array.strides) == (zeros.dtype, zeros.shape, zeros.strides)
    assert array.flags.writeable
    assert array.flags.c_contiguous
    array[...] = 1
    assert array.all()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_memory_is_taken_when_written_and_goes_back_with_the_last_view() -> None:
    num_bytes = 20 * MIN_BYTES
    before = _resident_bytes()
    array = blank_array((num_bytes,), np.uint8)
    assert _resident_bytes() - before < num_bytes / 4
    array[:] = 1
    view = array[5:].reshape(1, -1)
    del array
    assert _resident_bytes() - before > num_bytes / 2
    assert view.sum() == num_bytes - 5
    del view
    assert _resident_bytes() - before < num_bytes / 2
