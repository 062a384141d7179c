"""The supervisor of a run: starts the job in a process of its own and shows its progress.

It starts the job again when a worker died. Light on purpose: no torch, no Beam, no arrays.
"""

import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import IO

import psutil
from rich.console import Console

from geo.errors import StorageError
from geo.places import as_place
from pipeline.job_request import (
    EXIT_INTERRUPTED,
    EXIT_REMOTE_FAILED,
    EXIT_WORKER_DIED,
    JobRequest,
)
from pipeline.journal import JournalReader
from pipeline.orphan_guard import ENVIRONMENT_NAME, supervisor_name
from pipeline.progress import BarView, LineView, ProgressView, RunState
from pipeline.worker_heap import with_heap_settings

logger = logging.getLogger(__name__)

MAX_IDLE_RESTARTS = {EXIT_WORKER_DIED: 3, EXIT_REMOTE_FAILED: 1}
"""Runs in a row that end so without a single new tile, after which the run is given up."""
STOP_S = 3.0
CANCEL_S = 60.0
"""How long an engine may take to stop a job."""
POLL_S = 0.25
REMOTE_POLL_S = 3.0
"""Between looks into a journal in a bucket: each look is a request for a thousand objects."""


def supervise(request: JobRequest, console: Console) -> int:
    """Run a job to its end, starting it again while worker deaths leave it progress to make.

    Returns:
        The exit status for the command.
    """
    idle_restarts = 0
    while True:
        status, state = _run_once(request, console)
        if status not in MAX_IDLE_RESTARTS and status >= 0:
            return status
        kind = status if status in MAX_IDLE_RESTARTS else EXIT_WORKER_DIED
        is_idle = state.num_worked == 0
        idle_restarts = idle_restarts + 1 if is_idle else 0
        reason = _death_reason(status)
        if idle_restarts >= MAX_IDLE_RESTARTS[kind]:
            times = "" if idle_restarts == 1 else f"{idle_restarts} times in a row "
            console.print(
                f"[red]the job died {times}without finishing a tile ({reason}); giving up.[/] "
                "Finished tiles are kept: the same command resumes."
            )
            return kind
        what = "the engine's job failed" if kind == EXIT_REMOTE_FAILED else "a worker died"
        console.print(f"[yellow]{what} ({reason}); finished tiles are kept, resuming[/]")
        request = dataclasses.replace(request, fresh=False, begin=time.time())


def _death_reason(status: int) -> str:
    if status in MAX_IDLE_RESTARTS:
        return "see above"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = "; the machine may have run out of memory" if name == "SIGKILL" else ""
    return f"{name}{hint}"


def _run_once(request: JobRequest, console: Console) -> tuple[int, RunState]:
    state = RunState()
    view: ProgressView = BarView(console) if console.is_terminal else LineView(console)
    with tempfile.TemporaryDirectory(prefix="everyroof-") as folder:
        job = _start_job(request, Path(folder))
        pump = threading.Thread(target=_pump, args=(job.stderr, view), daemon=True)
        pump.start()
        try:
            _follow(job, Path(folder), state, view, pump)
            pump.join(timeout=5)
        except KeyboardInterrupt:
            view.close()
            console.print(_interrupt(job, request, console))
            return EXIT_INTERRUPTED, state
        finally:
            view.close()
            _stop(job)
    return job.returncode, state


def _interrupt(job: "subprocess.Popen[bytes]", request: JobRequest, console: Console) -> str:
    """End a run at a person's wish; returns what to tell them."""
    if request.is_remote and console.is_terminal and sys.stdin.isatty():
        answer = console.input("Stop the job on the engine, too? \\[Y/n] ")
        if answer.strip().lower().startswith("n"):
            job.kill()
            _stop(job)
            return "[yellow]the job goes on without us; the same command follows it[/]"
    _stop(job, CANCEL_S if request.is_remote else STOP_S)
    if request.is_remote and job.returncode != EXIT_INTERRUPTED:
        return "[red]left, but the engine did not say that it stopped the job; look there[/]"
    return "[yellow]stopped; finished tiles are kept: the same command resumes[/]"


def _start_job(request: JobRequest, folder: Path) -> "subprocess.Popen[bytes]":
    request.write(folder)
    environment = {
        **with_heap_settings(os.environ),
        ENVIRONMENT_NAME: supervisor_name(),
        # Without it a folder called model/ in the working directory would shadow ours.
        "PYTHONSAFEPATH": "1",
        "EVERYROOF_JOB": str(folder),
        "EVERYROOF_RUN_TOKEN": uuid.uuid4().hex[:12],
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-c", "from pipeline.job_start import main; main()"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _follow(
    job: "subprocess.Popen[bytes]",
    folder: Path,
    state: RunState,
    view: ProgressView,
    pump: threading.Thread,
) -> None:
    reader: JournalReader | None = None
    hello = folder / "journal"
    looked_at, interval_s = 0.0, POLL_S
    while True:
        is_over = job.poll() is not None
        if reader is None and hello.exists():
            place = as_place(hello.read_text())
            reader = JournalReader(place)
            interval_s = POLL_S if isinstance(place, Path) else REMOTE_POLL_S
        if reader is not None and (is_over or time.monotonic() - looked_at >= interval_s):
            looked_at = time.monotonic()
            _update(state, reader)
            view.show(state)
        if is_over:
            return
        # Not asleep: the pump ends with the job's last word, so that its end is seen at once.
        pump.join(timeout=POLL_S)
        if not pump.is_alive():
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.wait(timeout=POLL_S)


def _update(state: RunState, reader: JournalReader) -> None:
    try:
        for event in reader.new_events():
            state.update(event)
    except (OSError, StorageError) as error:
        # The job has tries and errors of its own; what is missed here is seen at the next look.
        logger.debug("the journal cannot be read: %s", error)


def _pump(stream: IO[bytes] | None, view: ProgressView) -> None:
    if stream is None:
        return
    for line in stream:
        view.say(line.decode(errors="replace").rstrip("\n"))


def _stop(job: "subprocess.Popen[bytes]", patience_s: float = STOP_S) -> None:
    """End the job and every process of its session: no orphans."""
    members = _session_members(job.pid)
    if job.poll() is None:
        job.terminate()
        try:
            job.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            job.kill()
            job.wait()
    for process in members:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _session_members(session: int) -> list[psutil.Process]:
    members = []
    for pid in psutil.pids():
        try:
            if pid != session and os.getsid(pid) == session:
                members.append(psutil.Process(pid))
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    return members
