"""A progress bar of rows with ETA, for commands that read whole datasets."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipeline.progress import format_duration

_LINE_INTERVAL_S = 10.0


@contextlib.contextmanager
def row_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function to call with what is being done, the rows done and all rows, as work goes on.

    On a terminal it moves a bar with the time that is left; elsewhere it prints a line every ten
    seconds, so that a log tells how far it is.

    Args:
        console: where to show it, such as standard error.
    """
    if console.is_terminal:
        bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        with bar:
            task = bar.add_task("reading", total=0)
            yield lambda stage, done, total: bar.update(
                task, description=stage, completed=done, total=total
            )
    else:
        yield _Lines(console)


class _Lines:
    """A line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = time.monotonic()
        self._stage, self._begin, self._first = "", 0.0, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            # The rate is that of the stage: the first look at it counts for nothing.
            self._stage, self._begin, self._first = stage, now, done
        if now - self._last < _LINE_INTERVAL_S or done <= self._first:
            return
        self._last = now
        line = f"{stage}: {done:,} rows"
        if total > done:
            left = (now - self._begin) * (total - done) / (done - self._first)
            line = f"{stage}: {done:,} of {total:,} rows, ETA {format_duration(left)}"
        self._console.print(line, highlight=False)
