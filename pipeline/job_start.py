"""The first lines of the job process: its imports, made quick.

A short job is mostly imports (torch, Beam, numba: some 3,000 modules). Two things make them slower
than they need be. Python's collector walks all that was imported so far again and again and finds
nothing. And rasterio, Beam and numba import what they find installed and a run never uses: clients
of buckets (images there are GDAL's and obstore's work) and of a database, an interactive Python.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.job_request import JobRequest
from pipeline.logs import configure_logging

UNUSED = ("boto3", "pymongo")
"""What rasterio and Beam do without, and say nothing of it, where it is not installed."""
UNUSED_EVER = ("IPython",)
"""What Beam asks for whenever a step is added to a graph, and nobody else in a job's process."""
UNUSED_BY_NUMBA = ("scipy.linalg.cython_blas", "cffi")
"""What numba calls for linear algebra and for functions of C libraries: no kernel has either."""


def main() -> None:
    """Entry of the process; the environment names the folder with the request."""
    gc.disable()
    # Before Beam, which warns of what it does without as soon as it is imported.
    configure_logging()
    folder = Path(os.environ["EVERYROOF_JOB"])
    request = JobRequest.read(folder)
    # A launcher of another engine's job may have to put files into a bucket, with boto3.
    with hidden(UNUSED_EVER):
        with hidden(() if request.is_remote else UNUSED):
            from pipeline.job import run_and_leave
        run_and_leave(request, folder)


@contextlib.contextmanager
def hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Let modules look as if they were not installed, for imports that do as well without them.

    Args:
        names: of the modules; one that is loaded already stays visible. Afterwards all can be
            imported as ever.
    """
    hidden_now = [name for name in names if name not in sys.modules]
    # What the import system takes for a module that cannot be found.
    sys.modules.update(dict.fromkeys(hidden_now))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden_now:
            sys.modules.pop(name, None)


def settle_heap() -> None:
    """Collect garbage from here on, but not among what is there: it stays until the end."""
    gc.freeze()
    gc.enable()
