"""The output folder: ours, new or empty, or refused."""

from pathlib import Path

from geo.atomic_files import is_leftover
from geo.errors import DatasetError
from geo.object_path import ObjectPath
from geo.places import Place, remove_tree
from geo.remote_names import to_url
from pipeline.fetch import local_copy
from pipeline.gis_files import GIS_NAMES
from pipeline.spec import JobSpec, output_name
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
    "thresholds.csv",
    "manifest.json",
    *GIS_NAMES,
}


def prepare_output(spec: JobSpec, *, fresh: bool) -> None:
    """Make the output folder ready: checked, marked, without a manifest, old journals removed.

    Args:
        spec: the job.
        fresh: also forget the tile store and everything written before.

    Raises:
        DatasetError: if the folder holds anything that is not ours, or cannot be written.
        StorageError: if a bucket does not exist or may not be used.
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
        _remove_earlier_runs(spec)
        TileStore(spec.store_path).journal_path(spec.run_token).mkdir(parents=True, exist_ok=True)
        _share_bundle(spec)
    except OSError as error:
        raise DatasetError(
            f"{error.filename or out}: cannot be written ({error.strerror}); choose another "
            "output folder or tile_store"
        ) from error


def _remove_earlier_runs(spec: JobSpec) -> None:
    """Remove what earlier runs of this output left; other outputs may share the store."""
    own = f"{output_name(spec.out_path)}-"
    for name in ("journal", "work"):
        folder = spec.store_path / name
        if isinstance(folder, ObjectPath) or folder.is_dir():
            for entry in folder.iterdir():
                if entry.name.startswith(own):
                    remove_tree(entry)


def _share_bundle(spec: JobSpec) -> None:
    """Leave the bundle in a store that other machines share: they may lack the file."""
    path = TileStore(spec.store_path).bundle_path(spec.bundle_sha256)
    if isinstance(path, ObjectPath) and to_url(spec.config.model) is None and not path.exists():
        path.upload(Path(local_copy(spec.config.model)))


def check_output(out: Place) -> None:
    """Refuse a folder that holds anything else.

    Raises:
        DatasetError: naming what is in the way.
    """
    if isinstance(out, Path):
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
        remove_tree(spec.store_path / name)
    for name in ENTRIES - {MARKER, ".tiles"}:
        path = spec.out_path / name
        if path.is_dir():
            remove_tree(path)
        if isinstance(path, ObjectPath) or path.is_file():
            path.unlink(missing_ok=True)
