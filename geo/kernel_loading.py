"""Compiled kernels read from numba's cache without what only the compiler needs.

A cached kernel is its machine code and, for kernels compiled later that call it, its LLVM code.
numba parses both at once, and the second takes eight tenths of the time: 0.09 s for the largest
kernel, 0.27 s for those of a small job, as long as its network takes. Here it is parsed when a
kernel is compiled that calls this one, which in most processes is never.
"""

import logging
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import cpu_target

logger = logging.getLogger(__name__)

KNOWN_NUMBA = ((0, 68),)
"""Versions whose cache is known to be as it is read here; others read it in their own way."""


class CachedLibrary(JITCodeLibrary):
    """The code of one kernel; of a cached one the LLVM code stays unparsed until it is wanted."""

    _machine_code = b""
    _unparsed: bytes | None = None

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> Any:
        """As numba's, which also parses the LLVM code."""
        name, kind, data = state
        if kind != "object":
            return super()._unserialize(codegen, state)
        library = codegen.create_library(name)
        library._machine_code, library._unparsed = data
        library.enable_object_caching()
        library._set_compiled_object(library._machine_code)
        library._finalize_final_module()
        return library

    def _get_module_for_linking(self) -> Any:
        """The LLVM code, for a kernel that calls this one."""
        self._parse()
        return super()._get_module_for_linking()

    def get_pointer_to_function(self, name: str) -> int:
        """Address of a function, 0 where there is none of that name."""
        # numba asks a list of names that comes from the LLVM code. Machine code has a table of its
        # names, each with a zero byte behind it; LLVM may end a process that asks for another.
        if self._unparsed is not None and name.encode() + b"\0" in self._machine_code:
            return int(self._codegen._engine.get_function_address(name))
        self._parse()
        return int(super().get_pointer_to_function(name))

    def _parse(self) -> None:
        if self._unparsed is not None:
            self._shared_module = llvm.parse_bitcode(self._unparsed)
            self._codegen._engine._load_defined_symbols(self._shared_module)
            self._unparsed, self._machine_code = None, b""


def set_up_numba() -> None:
    """Have numba import and register now what it needs to read a first kernel."""
    cpu_target.target_context.refresh()


def load_kernels_without_llvm() -> bool:
    """Have kernels of this process read so; returns whether this numba can.

    A numba that is built in another way is left as it is, and reads kernels more slowly.
    """
    codegen = cpu_target.target_context.codegen()
    if getattr(codegen, "_library_class", None) is CachedLibrary:
        return True
    is_ours_to_set = getattr(codegen, "_library_class", None) is JITCodeLibrary
    if numba.version_info[:2] not in KNOWN_NUMBA or not is_ours_to_set:
        logger.debug("this numba's cache is read in numba's own way")
        return False
    codegen._library_class = CachedLibrary
    return True
