"""A job on another engine: submitted, found again, followed and stopped.

A launcher that dies leaves the engine's job running. The same command then finds it by its name
and follows it to its end, so that never two jobs write one output.
"""

import dataclasses
import hashlib
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
)

from geo.errors import EveryroofError
from pipeline.flink_jobs import (
    FlinkError,
    FlinkJob,
    cancel_job,
    find_active_jobs,
    follow_job,
    last_cause,
)
from pipeline.spec import JobSpec
from pipeline.supervise import EXIT_INTERRUPTED

MASTERS_WITHIN = ("[local]", "[auto]")
"""Flink masters that live and die with the launcher."""


class RemoteJobError(Exception):
    """An engine's job ended otherwise than well; running the same command again goes on."""


class OutputInUseError(EveryroofError):
    """Another job writes to the output now."""


def output_prefix(spec: JobSpec) -> str:
    """How the names of all jobs that write to one output begin."""
    where = str(spec.out_path.resolve())
    return f"everyroof-{hashlib.sha256(where.encode()).hexdigest()[:10]}-"


def job_prefix(spec: JobSpec) -> str:
    """How the names of all jobs of the same command begin: their output and what they compute."""
    return f"{output_prefix(spec)}{spec.job_hash[:10]}-"


def job_name(spec: JobSpec) -> str:
    """The job's name on the engine; it ends with the name of the journal."""
    return job_prefix(spec) + spec.run_token


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunningJob:
    """A job on a Flink cluster whose launcher is gone.

    Attributes:
        master: host and port of the JobManager.
        job: the job there.
    """

    master: str
    job: FlinkJob

    @property
    def run_token(self) -> str:
        """Name of the journal that its workers write."""
        return self.job.name.rsplit("-", 1)[1]

    def follow(self) -> None:
        """Wait for the job's end; SIGTERM stops it.

        Raises:
            RemoteJobError: if it does not end well.
        """
        signal.signal(signal.SIGTERM, _Canceller(lambda: cancel_job(self.master, self.job)))
        try:
            follow_job(self.master, self.job)
        except FlinkError as error:
            raise RemoteJobError(str(error)) from error


def find_running_job(spec: JobSpec, options: PipelineOptions, *, fresh: bool) -> RunningJob | None:
    """The engine's job of an earlier, killed launcher of the same command; its result is the run's.

    Raises:
        OutputInUseError: if a job with other settings writes to the same output, or everything was
            to begin anew.
        FlinkError: if the cluster cannot be reached.
    """
    master = _flink_master(options)
    if master is None:
        return None
    for job in find_active_jobs(master, output_prefix(spec)):
        if fresh or not job.name.startswith(job_prefix(spec)):
            raise OutputInUseError(
                f"{spec.out_path}: the Flink job {job.name} ({job.job_id}) writes there now"
                f"{'' if fresh else ' with other settings'}; wait for it, or stop it: flink cancel "
                f"{job.job_id}"
            )
        return RunningJob(master=master, job=job)
    return None


def name_job(spec: JobSpec, options: PipelineOptions) -> None:
    """Set the name under which the engine lists the job."""
    options.view_as(GoogleCloudOptions).job_name = job_name(spec)


def wait_remotely(pipeline: Any) -> Any:
    """Submit a job and wait for its end; SIGTERM stops it on the engine, too.

    Returns:
        Beam's result, for its counters.

    Raises:
        RemoteJobError: naming the first cause, if the job did not end well.
    """
    try:
        result = pipeline.run()
        signal.signal(signal.SIGTERM, _Canceller(result.cancel))
        result.wait_until_finish()
    except Exception as error:
        raise RemoteJobError(f"the engine's job failed: {last_cause(str(error))}") from error
    return result


class _Canceller:
    """Handles SIGTERM: the launcher was asked to end the job, not only to leave."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        try:
            self._cancel()
        finally:
            sys.stderr.flush()
            raise SystemExit(EXIT_INTERRUPTED)


def _flink_master(options: PipelineOptions) -> str | None:
    runner = options.get_all_options()["runner"]
    master = options.view_as(FlinkRunnerOptions).flink_master
    is_flink = runner is not None and "flink" in str(runner).lower()
    return master if is_flink and master not in MASTERS_WITHIN else None
