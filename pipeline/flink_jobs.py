"""Flink's own list of jobs, over its REST interface: to find, follow and stop a job again.

Beam's job server forgets a job when it ends with the launcher; Flink does not.
"""

import dataclasses
import json
import time
import urllib.error
import urllib.request
from typing import Any

from geo.errors import EveryroofError

POLL_S = 1.0
PATIENCE_S = 30.0
"""How long a JobManager may fail to answer before a followed job is given up."""
ENDED = frozenset({"FINISHED", "FAILED", "CANCELED"})


class FlinkError(EveryroofError):
    """A Flink cluster that cannot be reached, or a job there that failed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlinkJob:
    """A job as Flink lists it.

    Attributes:
        job_id: Flink's id.
        name: the name it was submitted under.
        state: RUNNING, RESTARTING, FINISHED, FAILED, CANCELED and others.
    """

    job_id: str
    name: str
    state: str


def list_jobs(master: str) -> list[FlinkJob]:
    """The jobs that a JobManager knows.

    Args:
        master: HOST:PORT of its REST interface, with or without http://.

    Raises:
        FlinkError: if it does not answer.
    """
    return [
        FlinkJob(job_id=job["jid"], name=job["name"], state=job["state"])
        for job in _ask(master, "/jobs/overview")["jobs"]
    ]


def find_active_jobs(master: str, prefix: str) -> list[FlinkJob]:
    """Jobs that have not ended and whose names begin with `prefix`.

    Raises:
        FlinkError: if the JobManager does not answer.
    """
    jobs = list_jobs(master)
    return [job for job in jobs if job.name.startswith(prefix) and job.state not in ENDED]


def follow_job(master: str, job: FlinkJob) -> None:
    """Wait for a job's end.

    Raises:
        FlinkError: if it fails, is cancelled, or its JobManager is gone.
    """
    heard = time.monotonic()
    while job.state not in ENDED:
        time.sleep(POLL_S)
        try:
            job = dataclasses.replace(job, state=_ask(master, f"/jobs/{job.job_id}")["state"])
            heard = time.monotonic()
        except FlinkError:
            if time.monotonic() - heard > PATIENCE_S:
                raise
    if job.state != "FINISHED":
        raise FlinkError(
            f"the Flink job {job.name} ended as {job.state}: {root_exception(master, job)}"
        )


def cancel_job(master: str, job: FlinkJob) -> None:
    """Ask for a job's end.

    Raises:
        FlinkError: if the JobManager does not answer.
    """
    _ask(master, f"/jobs/{job.job_id}?mode=cancel", method="PATCH")


def root_exception(master: str, job: FlinkJob) -> str:
    """The last cause that Flink names for a job's failure, as one line."""
    history = _ask(master, f"/jobs/{job.job_id}/exceptions")
    return last_cause(history.get("root-exception") or "no exception is recorded")


def last_cause(trace: str) -> str:
    """The line of a Java stack trace that tells what went wrong first."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    # A Python worker's error arrives as its whole traceback inside a Java message.
    python = [line for line in lines if _is_python_error(line)]
    return (python or causes or lines or ["no reason given"])[-1]


def _is_python_error(line: str) -> bool:
    name, _, text = line.partition(": ")
    is_dotted = name.replace(".", "").replace("_", "").isalnum() and " " not in name
    is_java = name.startswith(("java.", "org.", "io.", "javax."))
    return bool(text) and is_dotted and not is_java and name.endswith(("Error", "Exception"))


def _ask(master: str, path: str, method: str = "GET") -> Any:
    base = master if "://" in master else f"http://{master}"
    request = urllib.request.Request(base.rstrip("/") + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FlinkError(
            f"the Flink JobManager at {master} does not answer ({reason}); check --flink_master "
            "and that the cluster runs"
        ) from error
