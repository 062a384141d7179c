"""C heaps give memory back, each in a process of its own."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes
from pathlib import Path
from pipeline.heap import give_back_freed, keep_heap_small

libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None

def resident_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

{before}
before = resident_kb()
blocks = [libc.malloc(100_000) for _ in range(300)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
pin = libc.malloc(60_000)  # ends the heap: what lies before it cannot be cut off
ctypes.memset(pin, 1, 60_000)
for block in blocks:
    libc.free(block)
{after}
print(resident_kb() - before)
"""


def kept_kb(*, before: str = "", after: str = "") -> int:
    """What stays resident of 30 MB that were freed."""
    script = SCRIPT.replace("{before}", before).replace("{after}", after)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_memory_goes_back_to_the_system() -> None:
    assert kept_kb() > 20_000
    assert kept_kb(before="assert keep_heap_small()") < 2_000
    assert kept_kb(after="assert give_back_freed()") < 2_000
