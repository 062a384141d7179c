"""Arrays that stay outside the C heap.

A tile's pixels are tens of megabytes that live as long as the tile. glibc puts what is smaller than
32 MB into the heap, one for each thread, between blocks that outlive it; there it leaves holes that
go back to nobody. With pages of their own they go back to the system with the last reference.
"""

import contextlib
import math
import mmap
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

MIN_BYTES = 1 << 20
"""Smaller arrays are numpy's own: a page table's entry costs more than a hole."""


def blank_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros, C-contiguous and writable, as `np.zeros` gives them.

    Pages that are never written take no memory.

    Args:
        shape: of the array.
        dtype: of the array.
    """
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    if count * dtype.itemsize < MIN_BYTES or sys.platform == "win32":
        return np.zeros(shape, dtype)
    # Private: Python's default is memory that a fork would share.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    pages = mmap.mmap(-1, count * dtype.itemsize, flags=flags)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # One fault for 2 MB instead of 512; a kernel without such pages refuses.
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype, count).reshape(shape)
