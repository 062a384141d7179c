"""A job on another engine: submitted, found again, followed and stopped.

A launcher that dies leaves the engine's job running. The same command then finds it by its name
and follows it to its end, so that never two jobs write one output.
"""

import functools
import hashlib
import logging
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
    cancel_job,
    find_active_jobs,
    follow_job,
    last_cause,
)
from pipeline.spec import JobSpec
from pipeline.supervise import EXIT_INTERRUPTED

logger = logging.getLogger(__name__)
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


def job_name(spec: JobSpec) -> str:
    """The job's name on the engine: its output and what it computes."""
    return output_prefix(spec) + spec.job_hash[:10]


def follow_running_job(spec: JobSpec, options: PipelineOptions, *, fresh: bool) -> bool:
    """Follow the engine's job of an earlier, killed launcher to its end, if there is one.

    Returns:
        Whether there was one; its result is the run's.

    Raises:
        OutputInUseError: if a job with other settings writes to the same output, or everything was
            to begin anew.
        FlinkError: if the cluster cannot be reached.
        RemoteJobError: if the job failed.
    """
    master = _flink_master(options)
    if master is None:
        return False
    for job in find_active_jobs(master, output_prefix(spec)):
        if fresh or job.name != job_name(spec):
            raise OutputInUseError(
                f"{spec.out_path}: the Flink job {job.name} ({job.job_id}) writes there now"
                f"{'' if fresh else ' with other settings'}; wait for it, or stop it: flink cancel "
                f"{job.job_id}"
            )
        logger.warning("the job runs already (%s, %s); following it", job.name, job.job_id)
        signal.signal(signal.SIGTERM, _Canceller(functools.partial(cancel_job, master, job)))
        try:
            follow_job(master, job)
        except FlinkError as error:
            raise RemoteJobError(str(error)) from error
        return True
    return False


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
