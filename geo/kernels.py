"""How hot kernels are compiled."""

import functools

import numba
import numpy as np

from geo.kernel_loading import load_kernels_without_llvm

load_kernels_without_llvm()

borrowing_njit = functools.partial(
    numba.njit, cache=True, nogil=True, error_model="numpy", _nrt=False
)
"""`numba.njit` for kernels that only borrow their arrays: they allocate none and return none.

Without numba's runtime (`_nrt`, which numba sets so in kernels of its own) no references are
counted, which takes an atomic operation per array and call. An allocation in such a kernel does not
compile, but beware: one that returned an array to a kernel that does count would free it too early.
"""

inlined_njit = functools.partial(borrowing_njit, forceinline=True)
"""As `borrowing_njit`, for kernels that are put into their caller. Otherwise every call copies the
tuples of arrays that it hands on, seven words an array, in and out of memory."""

inner_njit = functools.partial(borrowing_njit, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""As `borrowing_njit`, for kernels that only kernels call: compiled without a way in from Python,
which takes longer than a short kernel with many arrays itself. Beware of constants as arguments:
numba compiles anew for every literal, but not for `np.int64(0)`."""

unsigned = np.uint64
"""For indices in innermost loops, `array[unsigned(k)]`: numba takes negative ones as from the end,
and looks at the sign at every access. Beware of arithmetic with it: with int64 it gives float64."""
