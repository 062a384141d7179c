"""No orphans: a process of a run ends when the process that supervises the run has died."""

import contextlib
import logging
import os
import threading
import time

import psutil

logger = logging.getLogger(__name__)
ENVIRONMENT_NAME = "EVERYROOF_SUPERVISOR"
_started = threading.Event()


def end_with_supervisor(interval_s: float = 1.0) -> None:
    """Watch the supervisor named in the environment and leave when it is gone.

    Does nothing where no supervisor is named (a remote engine, a test), and starts one thread at
    most per process.
    """
    name = os.environ.get(ENVIRONMENT_NAME)
    if not name or _started.is_set():
        return
    _started.set()
    pid, created = name.split(":")
    threading.Thread(
        target=_watch, args=(int(pid), float(created), interval_s), name="orphan-guard", daemon=True
    ).start()


def supervisor_name() -> str:
    """This process as a name for the environment: pid and start time, as pids are used again."""
    process = psutil.Process()
    return f"{process.pid}:{process.create_time()}"


def _watch(pid: int, created: float, interval_s: float) -> None:
    while True:
        try:
            if abs(psutil.Process(pid).create_time() - created) > 1.0:
                break
        except psutil.NoSuchProcess:
            break
        time.sleep(interval_s)
    logger.error("the supervising process %d is gone; leaving", pid)
    # What this process started, such as an engine's job server, would stay for ever.
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    # Threads of the runner would keep a polite exit from happening.
    os._exit(75)
