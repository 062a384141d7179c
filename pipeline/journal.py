"""The journal of a run: what each worker did, for progress, timings and the report.

On a disk a worker appends lines to a file of its own. Objects cannot be appended to: there a worker
puts its latest object again, longer, every few seconds and at the end of each bundle, and begins
another when it is large. Readers follow both alike, since what was there never changes.
"""

import functools
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geo.object_path import ObjectPath
from geo.places import Place
from geo.remote_names import redact

FLUSH_S = 5.0
"""Seconds after which a worker's new lines are put into its object."""
MAX_OBJECT_BYTES = 256 << 10
"""Size from which a worker begins another object; more would be put again and again."""
_AT_ONCE = ("started", "model")
"""Events that other processes wait for, or that the manifest needs."""


class Journal:
    """Lines of JSON in a file of one worker's own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, event: str, **facts: Any) -> None:
        """Append one event; a torn last line (a killed worker) is skipped by readers."""
        with self._path.open("a") as file:
            file.write(_line(event, facts))

    def flush(self) -> None:
        """Nothing is held back."""


class ObjectJournal:
    """Lines of JSON in objects of one worker's own; its threads share it."""

    def __init__(self, folder: ObjectPath, name: str) -> None:
        self._folder = folder
        self._name = name
        self._lock = threading.Lock()
        self._number = 0
        self._text = ""
        self._num_put = 0
        self._put_at = 0.0

    def write(self, event: str, **facts: Any) -> None:
        """Add one event; it is put with others, soon."""
        with self._lock:
            self._text += _line(event, facts)
            is_due = time.monotonic() - self._put_at >= FLUSH_S
            if is_due or event in _AT_ONCE:
                self._put()

    def flush(self) -> None:
        """Put what was not put yet."""
        with self._lock:
            if len(self._text) > self._num_put:
                self._put()

    def _put(self) -> None:
        (self._folder / f"{self._name}-{self._number:06}.jsonl").write_text(self._text)
        self._num_put, self._put_at = len(self._text), time.monotonic()
        if self._num_put >= MAX_OBJECT_BYTES:
            self._number += 1
            self._text, self._num_put = "", 0


AnyJournal = Journal | ObjectJournal


def open_journal(folder: Place) -> AnyJournal:
    """A journal of this process's own in a run's folder."""
    if isinstance(folder, ObjectPath):
        return _object_journal(folder, os.getpid())
    return Journal(folder / f"{_worker_name()}.jsonl")


@functools.lru_cache(maxsize=64)
def _object_journal(folder: ObjectPath, pid: int) -> ObjectJournal:
    # One for all stages of a process: objects are put less often.
    return ObjectJournal(folder, _worker_name())


def _worker_name() -> str:
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _line(event: str, facts: dict[str, Any]) -> str:
    line = json.dumps({"event": event, "time": round(time.time(), 3), **facts})
    return redact(line) + "\n"


class JournalReader:
    """Follows the journals of a run; every line once, torn last lines when they are whole."""

    def __init__(self, folder: Place) -> None:
        self._folder = folder
        self._offsets: dict[Place, int] = {}

    def new_events(self) -> Iterator[dict[str, Any]]:
        """The events written since the last call."""
        lines = self._local(self._folder) if isinstance(self._folder, Path) else self._remote()
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue  # a line torn by a killed worker and continued by nobody

    def _local(self, folder: Path) -> Iterator[bytes]:
        for path in sorted(folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offsets[path] = self._offsets.get(path, 0) + len(line)
                    yield line

    def _remote(self) -> Iterator[bytes]:
        assert isinstance(self._folder, ObjectPath)
        for path, size in sorted(self._folder.walk()):
            start = self._offsets.get(path, 0)
            if size > start:
                lines = path.read_range(start, size).splitlines()
                # Not before: what could not be read is read at the next look.
                self._offsets[path] = size
                yield from lines
