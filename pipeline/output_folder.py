"""The output folder: ours, new or empty, or refused."""

import shutil
from pathlib import Path

from geo.atomic_files import is_leftover
from geo.errors import DatasetError
from pipeline.spec import JobSpec
from pipeline.tile_store import TileStore

MARKER = ".everyroof"
ENTRIES = {
    MARKER,
    ".tiles",
    "footprints",
    "items",
    "probability",
    "tiles.parquet",
    "images.parquet",
    "collection.json",
    "report.html",
    "run.json",
    "manifest.json",
}


def prepare_output(spec: JobSpec, *, fresh: bool) -> None:
    """Make the output folder ready: checked, marked, without a manifest, old journals removed.

    Args:
        spec: the job.
        fresh: also forget the tile store and everything written before.

    Raises:
        DatasetError: if the folder holds anything that is not ours, or cannot be written.
    """
    out = spec.out_path
    check_output(out)
    try:
        if fresh:
            _forget(spec)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text("This folder belongs to everyroof: files may be replaced.\n")
        # Its presence means that the dataset is complete, which it is not from here on.
        (out / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(spec.store_path / "journal", ignore_errors=True)
        TileStore(spec.store_path).journal_path(spec.run_token).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(
            f"{error.filename or out}: cannot be written ({error.strerror}); choose another "
            "output folder or tile_store"
        ) from error


def check_output(out: Path) -> None:
    """Refuse a folder that holds anything else.

    Raises:
        DatasetError: naming what is in the way.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise DatasetError(f"{out} is a file; name a folder for the output")
    entries = sorted(entry.name for entry in out.iterdir() if not is_leftover(entry))
    foreign = [name for name in entries if name not in ENTRIES]
    if foreign:
        raise DatasetError(
            f"{out} holds something that is not everyroof's: {', '.join(foreign[:5])}"
            f"{' ...' if len(foreign) > 5 else ''}; choose a new or empty folder"
        )
    if entries and MARKER not in entries:
        raise DatasetError(
            f"{out} is not empty and was not made by everyroof (no {MARKER} in it); choose a new "
            "or empty folder"
        )


def _forget(spec: JobSpec) -> None:
    for name in ("tiles", "images", "attempts", "work", "journal"):
        shutil.rmtree(spec.store_path / name, ignore_errors=True)
    for name in ENTRIES - {MARKER, ".tiles"}:
        path = spec.out_path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
