"""The first lines of the job process: its imports, made quick.

A short job is mostly imports (torch, Beam, numba: some 3,000 modules). Two things make them slower
than they need be. Python's collector walks all that was imported so far again and again and finds
nothing. And rasterio and Beam import boto3 where it is installed, which a run on this machine never
uses: images in a bucket are GDAL's and obstore's work.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.job_request import JobRequest
from pipeline.logs import configure_logging

UNUSED = ("boto3",)
"""What rasterio and Beam do without, and say nothing of it, where it is not installed."""


def main() -> None:
    """Entry of the process; the environment names the folder with the request."""
    gc.disable()
    # Before Beam, which warns of what it does without as soon as it is imported.
    configure_logging()
    folder = Path(os.environ["EVERYROOF_JOB"])
    request = JobRequest.read(folder)
    # A launcher of another engine's job may have to put files into a bucket, with boto3.
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
