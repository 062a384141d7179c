"""Threads beside the network that stand back for it.

Where a forward pass on a CPU runs in several threads (`model.streams`), each waits for the slowest
at the end of every layer. A thread that reads or traces takes a core from one of them for a while,
and all wait; so it should take what time the network leaves (on two cores, with a single stream, a
tenth less time for the whole job). Python's lock is the other way to wait: a thread that wants it
gets it after the switch interval, by default as long as a layer takes.
"""

import contextlib
import os
import sys
import threading

_NICENESS = 10
_SWITCH_INTERVAL_S = 0.0005


def stand_back() -> None:
    """Let the calling thread run after others; on Linux, where threads have priorities."""
    if sys.platform.startswith("linux"):
        thread = threading.get_native_id()
        # Lowering one's priority is always allowed, but a sandbox may know no such call.
        with contextlib.suppress(OSError):
            before = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, max(before, _NICENESS))


def switch_quickly() -> None:
    """Let Python's threads change places sooner, in the whole process."""
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
