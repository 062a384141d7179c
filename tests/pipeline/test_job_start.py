"""What the two processes of a run import, and from when on a job counts."""

import dataclasses
import gc
import importlib
import json
import pkgutil
import subprocess
import sys
import time

import pytest
from running import EVERYROOF, make_config, run_here, write_config
from synthetic import draw_town, write_town

from pipeline.job_request import JobRequest
from pipeline.job_start import UNUSED, UNUSED_BY_NUMBA, UNUSED_EVER, hidden, settle_heap
from pipeline.run import build_graph

# Each takes a tenth of a second or more, and is for something that a plain run does not do.
NOT_FOR_A_RUN = (
    "boto3",
    "pymongo",
    "IPython",
    "geopandas",
    "matplotlib",
    "rich",
    "starlette",
    "timm",
    "scipy.linalg",
)
NOT_FOR_THE_SUPERVISOR = ("torch", "apache_beam", "numpy", "pydantic", "numba", "rasterio")


def _loaded(code, names):
    """Those of the modules that a fresh interpreter has after some code."""
    program = f"{code}\nimport sys\nprint([name for name in {names!r} if sys.modules.get(name)])"
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_job_process_imports_only_what_a_run_needs():
    code = (
        "from pipeline.job_start import UNUSED, hidden\n"
        "with hidden(UNUSED):\n"
        "    import pipeline.job, pipeline.run\n"
        "    import apache_beam.runners.portability.fn_api_runner\n"
        "from pipeline.job import set_up_numba\n"
        "from pipeline.job_start import UNUSED_BY_NUMBA, UNUSED_EVER\n"
        "with hidden(UNUSED_BY_NUMBA):\n"
        "    set_up_numba()\n"
        "import apache_beam as beam\n"
        "from apache_beam.runners.portability.fn_api_runner import FnApiRunner\n"
        "with hidden(UNUSED_EVER):\n"
        "    beam.Pipeline(runner=FnApiRunner()) | beam.Impulse()\n"
    )
    assert _loaded(code, NOT_FOR_A_RUN) == "[]"


def test_the_supervisor_imports_nothing_heavy():
    assert _loaded("import pipeline.cli.run, pipeline.supervise", NOT_FOR_THE_SUPERVISOR) == "[]"


def test_hidden_modules_cannot_be_imported_until_later():
    assert "this" not in sys.modules
    with hidden(("this", "json")):
        with pytest.raises(ImportError):
            __import__("this")
        # Loaded before: as it was.
        assert __import__("json") is json
    assert "this" not in sys.modules
    assert sys.modules["json"] is json


def test_hidden_modules_come_back_after_an_error():
    with pytest.raises(RuntimeError), hidden(("this",)):
        raise RuntimeError
    assert "this" not in sys.modules


def test_what_is_hidden_is_what_others_do_without():
    # The clients of buckets that we use ourselves stay.
    assert not {"obstore", "rasterio"} & {*UNUSED, *UNUSED_EVER, *UNUSED_BY_NUMBA}


def test_no_kernel_needs_the_linear_algebra_that_is_hidden_from_numba():
    from numba.core.registry import CPUDispatcher

    import geo

    kernels = {
        f"{module.name}.{name}": value.py_func
        for module in pkgutil.iter_modules(geo.__path__, "geo.")
        for name, value in vars(importlib.import_module(module.name)).items()
        if isinstance(value, CPUDispatcher)
    }
    assert len(kernels) > 50
    algebra = {"dot", "vdot", "linalg", "matmul", "kron", "cross"}
    assert not [name for name, one in kernels.items() if algebra & {*one.__code__.co_names}]


def test_a_settled_heap_is_collected_again():
    gc.disable()
    try:
        settle_heap()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.enable()
        gc.unfreeze()


def test_a_request_is_read_as_it_was_written(tmp_path):
    request = JobRequest(
        config_path=None,
        config={"a": [1]},
        fresh=True,
        workers=2,
        beam_flags=("--x", "y"),
        begin=4.5,
    )
    request.write(tmp_path)
    assert JobRequest.read(tmp_path) == request
    assert not request.is_remote
    flags = ("--runner=FlinkRunner", "--x")
    assert dataclasses.replace(request, beam_flags=flags).is_remote


def test_start_up_is_counted_from_the_start_of_the_command(tmp_path):
    image = write_town(tmp_path / "town.tif", draw_town(700, 600, seed=3))
    config = write_config(make_config(tmp_path, [image]), tmp_path / "run.yaml")
    before = time.time()
    subprocess.run([EVERYROOF, "run", config], check=True, capture_output=True)
    after = time.time()
    events = [
        json.loads(line)
        for path in (tmp_path / "out" / ".tiles").rglob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    started = next(event for event in events if event["event"] == "started")
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    # Before the job process was there, which is long before the job says that it has started.
    assert before - 0.1 <= started["begin"] <= started["time"] - started["seconds"] + 0.1
    assert started["begin"] + facts["wall_s"] <= after + 0.1
    assert facts["startup_s"] >= started["seconds"]
    assert facts["startup_s"] + facts["work_s"] == pytest.approx(facts["wall_s"], abs=0.01)


def test_quick_options_lay_out_the_same_graph(tmp_path):
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from pipeline.beam_options import QuickOptions

    image = write_town(tmp_path / "town.tif", draw_town(700, 600, seed=3))
    spec = run_here(make_config(tmp_path, [image]))
    graphs = []
    for kind in (PipelineOptions, QuickOptions):
        options = kind(["--runner", "FnApiRunner"])
        root = beam.Pipeline(runner=FnApiRunner(), options=options)
        build_graph(root, spec)
        parts = root.to_runner_api().components
        coders = sorted((c.spec.urn, c.spec.payload) for c in parts.coders.values())
        names = sorted((t.unique_name, t.spec.urn) for t in parts.transforms.values())
        graphs.append((coders, names))
        options.view_as(StandardOptions).streaming = True
        assert options.view_as(StandardOptions).streaming
        assert options.get_all_options()["streaming"]
    assert graphs[0] == graphs[1]
