"""A worker's heap keeps what was freed, in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

from pipeline.worker_heap import with_heap_settings

SCRIPT = """
import ctypes, resource, threading
{before}
libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None

def use(num_bytes):
    block = libc.malloc(num_bytes)
    ctypes.memset(block, 1, num_bytes)
    libc.free(block)

def rounds():
    global num_faults
    use(100_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        use(80_000_000)
        use(30_000_000)
    num_faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# As the network runs: in a thread.
thread = threading.Thread(target=rounds)
thread.start()
thread.join()
print(num_faults)
"""
PLAIN = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES" and k[:7] != "MALLOC_"}


def count_faults(environment: dict[str, str], before: str = "") -> int:
    """Page faults of writing 1.1 GB into blocks that are freed in between."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{before}", before)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_memory_is_used_again() -> None:
    assert count_faults(PLAIN) > 100_000
    assert count_faults(with_heap_settings(PLAIN)) < 2_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_a_launcher_gives_memory_back_all_the_same() -> None:
    call = "from pipeline.heap import keep_heap_small; assert keep_heap_small()"
    assert count_faults(with_heap_settings(PLAIN), before=call) > 100_000


def test_a_users_own_settings_stay() -> None:
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        assert with_heap_settings({name: "x", "PATH": "y"}) == {name: "x", "PATH": "y"}
    assert with_heap_settings({"PATH": "y"})["PATH"] == "y"
