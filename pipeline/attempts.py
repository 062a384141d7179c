"""Attempt marks: written before the work on a tile, removed after; what stays tells of a death."""

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
            return len(list(folder.iterdir())) if folder.is_dir() else 0
        self._known[tile_hash] = [path for path, _ in folder.walk()]
        return len(self._known[tile_hash])

    def mark(self, tile_hash: str) -> None:
        """Note that the work on a tile begins."""
        folder = self._folder / tile_hash
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        path.touch()
        if isinstance(path, ObjectPath):
            self._known.setdefault(tile_hash, []).append(path)

    def clear(self, tile_hash: str) -> None:
        """Forget the attempts of a tile that ended, well or with an error."""
        folder = self._folder / tile_hash
        if isinstance(folder, ObjectPath):
            ObjectPath.remove(self._known.pop(tile_hash, []))
            return
        if folder.is_dir():
            for mark in folder.iterdir():
                mark.unlink(missing_ok=True)
            folder.rmdir()
