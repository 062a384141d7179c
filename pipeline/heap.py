"""C heaps that do not creep.

A launcher holds little and for a short time: groups of names on their way through a shuffle. Yet
glibc keeps what was freed, in one arena for each of gRPC's threads, and grew by 2 to 3 kB a tile.
With one arena and freed blocks given back it grows by a quarter of that. Workers, which allocate
and free gigabytes, want the opposite (`pipeline.worker_heap`) and inherit it: this is a call.
"""

import ctypes
import logging
import sys
from typing import Any

logger = logging.getLogger(__name__)

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_GIVE_BACK_BYTES = 64 * 1024
_DEFAULT_MMAP_MAX = 65536


def keep_heap_small() -> bool:
    """Make this process's C heap give freed memory back; whether the system could (glibc can).

    Call it before threads are started, and only where no network is run.
    """
    mallopt = _of_c_library("mallopt")
    if mallopt is None:
        return False
    settings = (
        (_M_ARENA_MAX, 1),
        (_M_TRIM_THRESHOLD, _GIVE_BACK_BYTES),
        (_M_MMAP_THRESHOLD, _GIVE_BACK_BYTES),
        (_M_MMAP_MAX, _DEFAULT_MMAP_MAX),
    )
    results = [mallopt(name, value) for name, value in settings]
    return all(result == 1 for result in results)


def give_back_freed() -> bool:
    """Give the free pages of all arenas back to the system; whether there were any.

    It takes milliseconds, and any thread may call it.
    """
    malloc_trim = _of_c_library("malloc_trim")
    return malloc_trim is not None and malloc_trim(0) == 1


def _of_c_library(name: str) -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        logger.debug("no %s in this C library; the heap keeps its defaults", name)
        return None
