"""What a command costs: seconds, core seconds, and the peak resident memory of its process tree."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_S = 0.1


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        wall_s: from its start to its end.
        cpu_s: user and system seconds of it and of all its children.
        peak_bytes: largest sum of resident memory over the tree; pages that processes share count
            for each of them.
        status: its exit status; None where it was ended because it took too long.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    status: int | None


def watch(
    command: Sequence[str], log: Path, *, limit_s: float, env: Mapping[str, str] | None = None
) -> Cost:
    """Run a command to its end.

    Args:
        command: what to run; nothing else may end as a child of this process meanwhile.
        log: file for its output and errors.
        limit_s: after which it is ended, with all its children.
        env: added to the environment.
    """
    # A polite end runs the clean-up below, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    before, begin = _children_s(), time.perf_counter()
    peak, is_late = 0, False
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        try:
            while process.poll() is None and not is_late:
                peak = max(peak, tree_bytes(process.pid))
                is_late = time.perf_counter() - begin > limit_s
                time.sleep(SAMPLE_S)
        finally:
            # Too late, or interrupted: its children go with it.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    wall_s = time.perf_counter() - begin
    status = None if is_late else process.returncode
    return Cost(wall_s, _children_s() - before, peak, status)


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and all its descendants."""
    try:
        root = psutil.Process(pid)
        members = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for member in members:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
