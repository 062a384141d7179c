"""A worker's heap that keeps what a forward pass frees, for the next pass.

glibc asks the system for every block above 32 MB and gives it back when it is freed, and does the
same with the end of its heap. A network on the CPU allocates such blocks some fifty times a window,
and the system zeroes them all, page by page: 5 to 20 % of the time of a U-Net, half of that of a
small network. Here everything comes from one heap, which keeps its size. One, since those that
glibc makes for each thread are at most 64 MB large.

The settings are environment variables, since they must hold before the first thread starts, and in
every process that a job starts. Only processes that everyroof starts get them; who uses `Segmenter`
from a program of their own sets them where they start it. Other C libraries ignore them.
"""

from collections.abc import Mapping

_SETTINGS = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}


def with_heap_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment with settings of glibc's heap for a process that runs networks.

    Args:
        environment: variables; where it has any setting of the heap of its own, it comes back as it
            is.
    """
    own = [name for name in environment if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    return dict(environment) if own else {**_SETTINGS, **environment}
