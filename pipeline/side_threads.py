"""Threads beside the network: how many, and that they stand back for it.

Where a forward pass on a CPU runs in several threads (`model.streams`), each waits for the slowest
at the end of every layer. A thread that reads or traces takes a core from one of them for a while,
and all wait; so it should take what time the network leaves (on two cores, with a single stream, a
tenth less time for the whole job). Python's lock is the other way to wait: a thread that wants it
gets it after the switch interval, by default as long as a layer takes.
"""

import contextlib
import dataclasses
import os
import sys
import threading

from pipeline.engine_config import EngineConfig

_NICENESS = 10
_SWITCH_INTERVAL_S = 0.0005


MAX_READING, MAX_TRACING = 8, 4
"""Where none are configured, at most: each tile that is read or traced takes memory."""
CPU_CORES_A_READER, CPU_CORES_A_TRACER = 8, 16
"""Cores that a network on a CPU needs for what one thread reads, or traces."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideThreads:
    """Threads of one worker beside its network.

    Attributes:
        num_reading: tiles read at once, ahead of the network.
        num_tracing: tiles traced at once, behind it.
    """

    num_reading: int
    num_tracing: int


def pick_side_threads(config: EngineConfig, *, num_cores: int, is_on_cpu: bool) -> SideThreads:
    """Threads as configured, else as many as keep the network busy.

    A window of the shipped network takes a core 0.6 s on a CPU, 0.05 s of reading and 0.02 s of
    tracing: one thread of either serves some cores. A GPU takes windows faster than that; it
    gets half of the cores for reading and a quarter for tracing, up to `MAX_READING` and
    `MAX_TRACING`, and two processes on one GPU, which would hold the network twice, are not needed.

    Args:
        config: what was configured.
        num_cores: of this worker.
        is_on_cpu: whether the network runs on them, too.
    """
    cores_a_reader, cores_a_tracer = (
        (CPU_CORES_A_READER, CPU_CORES_A_TRACER) if is_on_cpu else (2, 4)
    )
    return SideThreads(
        num_reading=config.read_threads or min(max(num_cores // cores_a_reader, 1), MAX_READING),
        num_tracing=config.trace_threads or min(max(num_cores // cores_a_tracer, 1), MAX_TRACING),
    )


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
