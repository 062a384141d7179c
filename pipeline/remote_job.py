"""A job on another engine: submitted, found again, followed and stopped.

A launcher that dies leaves the engine's job running. The same command then finds it by its name
and follows it to its end, so that never two jobs write one output.
"""

import dataclasses
import logging
import signal
import sys
import time
from collections.abc import Collection
from types import FrameType
from typing import Any

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
)

from geo.errors import EveryroofError
from pipeline.flink_jobs import (
    POLL_S,
    FlinkError,
    FlinkJob,
    cancel_job,
    find_active_jobs,
    follow_job,
    last_cause,
)
from pipeline.job_request import EXIT_INTERRUPTED, EXIT_RUN_FAILED
from pipeline.spec import JobSpec, output_name

logger = logging.getLogger(__name__)
PREFIX = "everyroof-"
ENDING = frozenset({"CANCELLING", "FAILING"})
ENDING_S = 50.0
"""How long a job may take to end once it was asked to."""
MASTERS_WITHIN = ("[local]", "[auto]")
"""Flink masters that live and die with the launcher."""


class RemoteJobError(Exception):
    """An engine's job ended otherwise than well; running the same command again goes on."""


class OutputInUseError(EveryroofError):
    """Another job writes to the output now."""


def job_name(spec: JobSpec) -> str:
    """The job's name on the engine: its output, this run's journal, and what it computes."""
    return f"{PREFIX}{spec.run_token}-{spec.job_hash[:10]}"


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
        return self.job.name.removeprefix(PREFIX).rsplit("-", 1)[0]

    def follow(self) -> None:
        """Wait for the job's end; SIGTERM stops it.

        Raises:
            RemoteJobError: if it does not end well.
        """
        signal.signal(signal.SIGTERM, _Stopper(self.job.name, self.master))
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
    prefix = f"{PREFIX}{output_name(spec.out_path)}-"
    for job in _jobs_that_go_on(master, prefix):
        if fresh or not job.name.endswith(f"-{spec.job_hash[:10]}"):
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


def wait_remotely(pipeline: Any, spec: JobSpec, options: PipelineOptions) -> Any:
    """Submit a job and wait for its end; SIGTERM stops it on the engine, too.

    Returns:
        Beam's result, for its counters.

    Raises:
        RemoteJobError: naming the first cause, if the job did not end well.
    """
    stopper = _Stopper(job_name(spec), _flink_master(options))
    signal.signal(signal.SIGTERM, stopper)
    try:
        result = stopper.result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:
        raise RemoteJobError(f"the engine's job failed: {last_cause(str(error))}") from error
    return result


class _Stopper:
    """Handles SIGTERM: the launcher was asked to end the job, not only to leave.

    Attributes:
        result: Beam's, once the job is submitted.
    """

    def __init__(self, name: str, master: str | None) -> None:
        self.result: Any = None
        self._name = name
        self._master = master

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        status = EXIT_INTERRUPTED
        try:
            self._stop()
        except Exception as error:  # noqa: BLE001 - whatever an engine's client raises
            logger.error("the job %s could not be stopped (%s); stop it there", self._name, error)
            status = EXIT_RUN_FAILED
        sys.stderr.flush()
        raise SystemExit(status)

    def _stop(self) -> None:
        if self._master is None:
            if self.result is not None:
                self.result.cancel()
            return
        # Flink is asked itself: the job may have been submitted a moment ago, unknown to Beam.
        for job in find_active_jobs(self._master, self._name):
            cancel_job(self._master, job)
        _wait_until_none(self._master, self._name)


def _jobs_that_go_on(master: str, prefix: str) -> list[FlinkJob]:
    """Active jobs; those that are ending are waited for."""
    jobs = find_active_jobs(master, prefix)
    if any(job.state in ENDING for job in jobs):
        _wait_until_none(master, prefix, ENDING)
    return find_active_jobs(master, prefix)


def _wait_until_none(master: str, prefix: str, states: Collection[str] | None = None) -> None:
    """Wait until no active job, or none in the given states, has such a name.

    Raises:
        FlinkError: if there still is one after `ENDING_S`.
    """
    deadline = time.monotonic() + ENDING_S
    while True:
        jobs = find_active_jobs(master, prefix)
        left = [job for job in jobs if states is None or job.state in states]
        if not left:
            return
        if time.monotonic() > deadline:
            raise FlinkError(
                f"the Flink job {left[0].name} ({left[0].job_id}) is {left[0].state} for more than "
                f"{ENDING_S:g} s; look at the cluster"
            )
        time.sleep(POLL_S)


def _flink_master(options: PipelineOptions) -> str | None:
    runner = options.get_all_options()["runner"]
    master = options.view_as(FlinkRunnerOptions).flink_master
    is_flink = runner is not None and "flink" in str(runner).lower()
    return master if is_flink and master not in MASTERS_WITHIN else None
