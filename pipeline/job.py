"""The job process: resolves the config, prepares the output folder and runs the graph."""

import json
import logging
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from geo.errors import EveryroofError
from geo.kernel_loading import set_up_numba
from geo.remote_names import redact
from pipeline.config import RunConfig, load_config, parse_config
from pipeline.heap import keep_heap_small
from pipeline.job_request import (
    EXIT_FAILED_TILES,
    EXIT_OK,
    EXIT_REMOTE_FAILED,
    EXIT_RUN_FAILED,
    EXIT_USAGE,
    EXIT_WORKER_DIED,
    JobRequest,
)
from pipeline.job_start import UNUSED_BY_NUMBA, hidden, settle_heap
from pipeline.orphan_guard import end_with_supervisor
from pipeline.output_folder import prepare_output
from pipeline.spec import JobSpec, resolve_config
from pipeline.tile_store import TileStore

logger = logging.getLogger(__name__)


def run_and_leave(request: JobRequest, folder: Path) -> NoReturn:
    """Run a job and end the process with its exit status.

    Args:
        request: what to do.
        folder: where the supervisor looks for word of us.
    """
    end_with_supervisor()
    try:
        status = run_job(request, folder)
    except EveryroofError as error:
        _say(f"everyroof: {error}")
        status = EXIT_USAGE
    except SystemExit as error:
        status = int(error.code or 0)
    except Exception as error:  # noqa: BLE001 - the process's last resort: one line for a person
        # By name: the class belongs to a module that only jobs on other engines load.
        is_remote = type(error).__name__ == "RemoteJobError"
        _say(f"everyroof: {error if is_remote else f'the run failed: {_root_message(error)}'}")
        _say("finished tiles are kept: the same command resumes (EVERYROOF_DEBUG=1 shows more)")
        if os.environ.get("EVERYROOF_DEBUG"):
            traceback.print_exc()
        status = EXIT_REMOTE_FAILED if is_remote else EXIT_RUN_FAILED
    sys.stderr.flush()
    # Threads of the runner's servers would delay a polite exit by seconds.
    os._exit(status)


def _root_message(error: BaseException) -> str:
    """The first cause; Beam wraps what a worker raises, message and all, in a RuntimeError."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return f"{type(error).__name__}: {error}"


def request_config(request: JobRequest) -> RunConfig:
    """The config that a request names or holds."""
    if request.config_path is not None:
        return load_config(request.config_path)
    return parse_config(request.config, source="the command line")


def run_job(request: JobRequest, folder: Path) -> int:
    """Run one job; returns the exit status."""
    if request.workers > 1:
        # With one worker this process runs the network, too.
        keep_heap_small()
    from pipeline.run import is_local, run_graph

    if request.workers == 1 and not request.is_remote:
        with hidden(UNUSED_BY_NUMBA):
            set_up_numba()
    settle_heap()
    config = request_config(request)
    spec = resolve_config(config, run_token=os.environ["EVERYROOF_RUN_TOKEN"])
    options = _beam_options(request)
    running = None if is_local(options) else _running_job(spec, options, fresh=request.fresh)
    store = TileStore(spec.store_path)
    token = running.run_token if running else spec.run_token
    if not running:
        prepare_output(spec, fresh=request.fresh)
    (folder / "journal").write_text(str(store.journal_path(token)))
    if running:
        logger.warning("the job runs already (%s); following it", running.job.name)
        running.follow()
        return _verdict(spec)
    journal = store.journal(token)
    _limit_threads(request)
    if is_local(options) and request.workers > 1:
        _end_when_worker_dies()
    seconds = round(time.time() - request.begin, 3)
    journal.write("started", seconds=seconds, begin=request.begin)
    run_graph(spec, options)
    journal.flush()
    return _verdict(spec)


def _running_job(spec: JobSpec, options: Any, *, fresh: bool) -> Any:
    from pipeline.remote_job import find_running_job

    return find_running_job(spec, options, fresh=fresh)


def _beam_options(request: JobRequest) -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipeline.beam_options import QuickOptions
    from pipeline.quick_beam import make_runner_quick

    if request.is_remote:
        return PipelineOptions(list(request.beam_flags))
    make_runner_quick()
    flags = list(request.beam_flags)
    if request.workers > 1:
        flags += [
            f"--direct_num_workers={request.workers}",
            "--direct_running_mode=multi_processing",
        ]
    return QuickOptions(flags)


def _limit_threads(request: JobRequest) -> None:
    # Workers share the cores; each network takes its part. Results do not depend on it.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("EVERYROOF_THREADS", str(max((cores or 1) // request.workers, 1)))


def _end_when_worker_dies() -> None:
    """End the run when a worker process dies: the runner itself would wait for it for ever.

    Beam waits for each worker in a thread of its own, which raises when the worker's exit status is
    not 0 (`SubprocessSdkWorker.run`); nobody there listens, so we do.
    """
    default = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if "Worker subprocess exited" in str(args.exc_value):
            logger.error("%s; ending the run", args.exc_value)
            sys.stderr.flush()
            os._exit(EXIT_WORKER_DIED)
        default(args)

    threading.excepthook = hook


def _verdict(spec: JobSpec) -> int:
    manifest = json.loads((spec.out_path / "manifest.json").read_text())
    tiles, counts = manifest["tiles"], manifest["counts"]
    _say(
        f"{counts['footprints']:,} footprints in {counts['shards']} shard(s), "
        f"{tiles['num_tiles']} tiles: "
        + ", ".join(f"{number} {status}" for status, number in tiles["num_by_status"].items())
    )
    _say(f"written to {spec.out_path}; look at {spec.out_path / 'report.html'}")
    limit = spec.config.limits.max_failed_share
    if tiles["failed_share"] > limit:
        _say(
            f"everyroof: {tiles['failed_share']:.1%} of the tiles failed (limits.max_failed_share "
            f"= {limit:g}); why: everyroof inspect {spec.out_path}. The same command tries again"
        )
        return EXIT_FAILED_TILES
    return EXIT_OK


def _say(line: str) -> None:
    print(redact(line), file=sys.stderr)  # noqa: T201 - the command's own output, shown by the supervisor
