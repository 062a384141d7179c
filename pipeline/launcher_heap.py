"""A launcher's heap that does not creep.

A launcher holds little and for a short time: groups of names on their way through a shuffle. Yet
glibc keeps what was freed, in one arena for each of gRPC's threads, and grew by 2 to 3 kB a tile.
With one arena and freed blocks given back it grows by a quarter of that. Workers, which allocate
and free gigabytes, want the opposite (`pipeline.worker_heap`) and inherit it: this is a call.
"""

import ctypes
import logging
import sys

logger = logging.getLogger(__name__)

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_GIVE_BACK_BYTES = 64 * 1024
_DEFAULT_MMAP_MAX = 65536


def keep_heap_small() -> bool:
    """Make this process's C heap give freed memory back; whether the system could (glibc can).

    Call it before threads are started, and only where no network is run.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        logger.debug("no mallopt in this C library; the heap keeps its defaults")
        return False
    settings = (
        (_M_ARENA_MAX, 1),
        (_M_TRIM_THRESHOLD, _GIVE_BACK_BYTES),
        (_M_MMAP_THRESHOLD, _GIVE_BACK_BYTES),
        (_M_MMAP_MAX, _DEFAULT_MMAP_MAX),
    )
    results = [mallopt(name, value) for name, value in settings]
    return all(result == 1 for result in results)
