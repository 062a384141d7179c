"""What a run found when it opened images of a catalogue, shared by its workers through the store.

    work/RUN/opened/P/POSITION.json     the image, and its cloud mask
    work/RUN/opened/P/POSITION.failed   why and when a worker failed to open it

Of several workers that open an image at once the first one's record stays, and the others take it
for theirs: all tiles of a run see the same version and date of an image. A failure never replaces
what another worker found.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from geo.atomic_files import create_atomically, write_atomically
from geo.images import ImageInfo
from geo.places import Place
from pipeline.spec import JobSpec
from pipeline.tile_store import TileStore

FAILED_FOR_S = 300.0
"""Seconds for which an image that could not be opened is not tried again. A server that stalls
keeps a worker waiting for a minute and a half, which not every tile of the image shall pay; and one
that is back after some minutes shall be used by a job of hours."""
READS_AT_ONCE = 32
"""Requests for records under way, in a bucket."""
READ_AHEAD = 1024
"""Records that wait to be used: bounds the memory of a hundred thousand."""

OpenedPair = tuple[ImageInfo, ImageInfo | None]
"""An image and its cloud mask."""


def opened_path(spec: JobSpec, store: TileStore, position: int) -> Place:
    """Where the run keeps what it found of an image."""
    return _opened_folder(spec, store) / f"{position // 1000}/{position}.json"


def read_opened(path: Place) -> OpenedPair | None:
    """What a run found; None where nobody opened the image.

    Args:
        path: as `opened_path` gives it.
    """
    record = _read_json(path)
    if record is None:
        return None
    mask = record["mask"]
    return ImageInfo.from_dict(record["info"]), ImageInfo.from_dict(mask) if mask else None


def share_opened(path: Place, info: ImageInfo, mask: ImageInfo | None) -> OpenedPair:
    """Keep what this worker found, unless another one did sooner.

    Returns:
        What counts in this run: this worker's or the other's.
    """
    record = {"info": info.to_dict(), "mask": mask and mask.to_dict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if create_atomically(path, json.dumps(record, sort_keys=True)):
        return info, mask
    return read_opened(path) or (info, mask)


def note_failure(path: Place, reason: str) -> None:
    """Tell other workers that an image could not be opened just now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"reason": reason, "at": time.time()}
    write_atomically(_failure_of(path), json.dumps(record, sort_keys=True))


def recent_failure(path: Place) -> str | None:
    """Why a worker of this run could not open an image in the last `FAILED_FOR_S` seconds."""
    record = _read_json(_failure_of(path))
    # Clocks of machines differ by seconds; one that is wrong by more costs a try.
    if record is None or abs(time.time() - record["at"]) >= FAILED_FOR_S:
        return None
    return str(record["reason"])


def all_opened(spec: JobSpec) -> Iterator[tuple[int, OpenedPair | str]]:
    """What this run found of every image that it tried to open, by position.

    Yields:
        (position, the image and its mask), or (position, reason) where no worker succeeded.
    """
    folder = _opened_folder(spec, TileStore(spec.store_path))
    found: dict[str, dict[int, Place]] = {".json": {}, ".failed": {}}
    for path in _files_below(folder):
        for ending, paths in found.items():
            if path.name.endswith(ending):
                paths[int(path.stem)] = path
    chosen = sorted((found[".failed"] | found[".json"]).items())
    records = _read_all([path for _, path in chosen])
    for (position, _), record in zip(chosen, records, strict=True):
        if record is not None:
            yield position, record


def _opened_folder(spec: JobSpec, store: TileStore) -> Place:
    return store.root / "work" / spec.run_token / "opened"


def _files_below(folder: Place) -> Iterator[Place]:
    if isinstance(folder, Path):
        yield from folder.glob("*/*")
    else:
        yield from (path for path, _ in folder.walk())


def _read_all(paths: list[Place]) -> Iterator[OpenedPair | str | None]:
    """Records in the order of their paths; of a bucket many at a time, each a wait of its own."""
    if not paths or isinstance(paths[0], Path):
        yield from map(_read_either, paths)
        return
    with ThreadPoolExecutor(READS_AT_ONCE, "opened") as pool:
        for start in range(0, len(paths), READ_AHEAD):
            yield from pool.map(_read_either, paths[start : start + READ_AHEAD])


def _read_either(path: Place) -> OpenedPair | str | None:
    if path.name.endswith(".json"):
        return read_opened(path)
    record = _read_json(path)
    return str(record["reason"]) if record is not None else None


def _read_json(path: Place) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return record


def _failure_of(path: Place) -> Place:
    return path.parent / f"{path.stem}.failed"
