"""Attempt marks: written before the work on a tile, removed after; what stays tells of a death."""

import contextlib
import os
import uuid
from pathlib import Path

from geo.object_path import ObjectPath
from geo.places import Place


class AttemptMarks:
    """The marks of a store's tiles; workers of several machines may share them.

    On a disk a folder is listed when needed. In a bucket the marks that this process has seen or
    made are remembered, so that forgetting them takes one request.
    """

    def __init__(self, folder: Place) -> None:
        self._folder = folder
        self._known: dict[str, list[ObjectPath]] = {}

    def count(self, tile_hash: str) -> int:
        """How many attempts at a tile began and never ended."""
        folder = self._folder / tile_hash
        if isinstance(folder, Path):
            return len(_entries(folder))
        self._known[tile_hash] = [path for path, _ in folder.walk()]
        return len(self._known[tile_hash])

    def mark(self, tile_hash: str) -> None:
        """Note that the work on a tile begins."""
        path = self._folder / tile_hash / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        if isinstance(path, ObjectPath):
            path.touch()
            self._known.setdefault(tile_hash, []).append(path)
            return
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                return path.touch()
            except (FileNotFoundError, FileExistsError):
                continue  # another worker removed the folder meanwhile

    def clear(self, tile_hash: str) -> None:
        """Forget the attempts of a tile that ended, well or with an error."""
        folder = self._folder / tile_hash
        if isinstance(folder, ObjectPath):
            ObjectPath.remove(self._known.pop(tile_hash, []))
            return
        for mark in _entries(folder):
            mark.unlink(missing_ok=True)
        # Not there, or another worker has just marked the tile.
        with contextlib.suppress(OSError):
            folder.rmdir()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
