"""Jobs on other engines: their names, their failures in one line, and flags that mean one."""

import dataclasses

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from running import make_config, with_options
from synthetic import draw_town, write_town

from geo.finish import FinishConfig
from pipeline.engine_config import EngineConfig
from pipeline.flink_jobs import FlinkError, FlinkJob, last_cause, list_jobs
from pipeline.image_index import ImageIndex
from pipeline.job_request import JobRequest
from pipeline.remote_job import RunningJob, find_running_job, job_name, name_job
from pipeline.run import is_local
from pipeline.spec import output_name, resolve_config

PYTHON_TRACE = """\
java.lang.RuntimeException: Error received from SDK harness for instruction 19: Traceback (most
  File "pipeline/merge.py", line 159, in process
    yield from self._emit_whole(zone, name, result.whole)
AttributeError: 'RunConfig' object has no attribute 'engine'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "apache_beam/runners/worker/sdk_worker.py", line 310, in _execute
AttributeError: 'RunConfig' object has no attribute 'engine' [while running 'MergeSeams']

	at java.base/java.util.concurrent.CompletableFuture.reportGet(CompletableFuture.java:396)
Caused by: java.lang.IllegalStateException: call already closed
	... 5 more
"""
JAVA_TRACE = """\
org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestartBackoffTimeStrategy
	at org.apache.flink.runtime.executiongraph.failover.ExecutionFailureHandler.handleFailure()
Caused by: java.util.concurrent.TimeoutException: Heartbeat of TaskManager with id 7 timed out.
	... 31 more
"""


@pytest.mark.parametrize(
    ("trace", "line"),
    [
        (PYTHON_TRACE, "AttributeError: 'RunConfig' object has no attribute 'engine' [while "),
        (JAVA_TRACE, "java.util.concurrent.TimeoutException: Heartbeat of TaskManager"),
        ("just one line\n", "just one line"),
        ("", "no reason given"),
    ],
)
def test_the_last_cause_of_a_trace_is_one_line(trace, line):
    assert last_cause(trace).startswith(line)
    assert "\n" not in last_cause(trace)


@pytest.fixture
def spec(tmp_path):
    image = write_town(tmp_path / "town.tif", draw_town(300, 300, seed=1))
    return resolve_config(make_config(tmp_path, [image]))


def test_a_jobs_name_tells_its_output_its_journal_and_what_it_computes(spec):
    assert job_name(spec) == f"everyroof-{spec.run_token}-{spec.job_hash[:10]}"
    assert spec.run_token.startswith(f"{output_name(spec.out_path)}-")
    running = RunningJob(
        master="host:1", job=FlinkJob(job_id="1", name=job_name(spec), state="RUNNING")
    )
    assert running.run_token == spec.run_token
    options = PipelineOptions(["--runner=FlinkRunner"])
    name_job(spec, options)
    assert options.get_all_options()["job_name"] == job_name(spec)
    # Dataflow takes nothing else.
    assert set(job_name(spec)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_the_same_command_is_known_again_whatever_its_images_are_now(spec):
    config = spec.config
    engine = dataclasses.replace(
        spec, config=with_options(config, engine=EngineConfig(min_ram="1GB"))
    )
    square = dataclasses.replace(
        spec, config=with_options(config, finish=FinishConfig(square=False))
    )
    moved = dataclasses.replace(spec, images=ImageIndex.of([], []))
    assert engine.job_hash == moved.job_hash == spec.job_hash
    assert square.job_hash != spec.job_hash


def test_a_cluster_that_does_not_answer_is_named():
    with pytest.raises(FlinkError, match=r"127\.0\.0\.1:1 does not answer .* --flink_master"):
        list_jobs("127.0.0.1:1")


@pytest.mark.parametrize("flags", [["--runner=SparkRunner"], ["--runner=FlinkRunner"]])
def test_without_a_cluster_to_ask_there_is_no_job_to_follow(spec, flags):
    assert find_running_job(spec, PipelineOptions(flags), fresh=False) is None


@pytest.mark.parametrize(
    ("flags", "is_remote"),
    [
        ((), False),
        (("--direct_num_workers=2",), False),
        (("--runner=DirectRunner",), False),
        (("--runner", "FnApiRunner"), False),
        (("--runner=FlinkRunner", "--parallelism=2"), True),
        (("--runner", "DataflowRunner"), True),
    ],
)
def test_the_supervisor_knows_from_the_flags_whether_the_job_is_remote(flags, is_remote):
    request = JobRequest(config_path=None, config={}, fresh=False, workers=1, beam_flags=flags)
    assert request.is_remote == is_remote
    assert is_local(PipelineOptions(list(flags))) != is_remote
