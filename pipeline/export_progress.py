"""How far an export is: a bar with ETA on a terminal, a line every few seconds elsewhere."""

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pipeline.progress import format_duration

_LINE_EVERY_S = 10.0


class ExportProgress(Protocol):
    """Is told what an export does."""

    def begin(self, stage: str, total: int | None) -> None:
        """A stage begins; `total` steps of work lie ahead, None if nobody knows."""

    def reach(self, position: int) -> None:
        """So many steps of the stage are done."""


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("opening", total=None)

    def begin(self, stage: str, total: int | None) -> None:
        self._progress.reset(self._task, description=stage, total=total)

    def reach(self, position: int) -> None:
        self._progress.update(self._task, completed=position)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._total: int | None = None
        self._start = self._last = time.monotonic()

    def begin(self, stage: str, total: int | None) -> None:
        self._stage, self._total = stage, total
        self._start = time.monotonic()

    def reach(self, position: int) -> None:
        now = time.monotonic()
        if now - self._last < _LINE_EVERY_S or not self._total or not position:
            return
        self._last = now
        left = (now - self._start) * (self._total - position) / position
        self._console.print(
            f"{self._stage}: {position / self._total:.0%}, ETA {format_duration(max(left, 0.0))}",
            markup=False,
            highlight=False,
        )


@contextlib.contextmanager
def export_progress(console: Console | None = None) -> Iterator[ExportProgress]:
    """The progress of an export, on stderr, for as long as the block runs."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress)
