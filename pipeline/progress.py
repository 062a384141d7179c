"""Progress of a run, read from the tile store's journal: the runner shows no live counters."""

import dataclasses
import time
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


@dataclasses.dataclass(kw_only=True)
class RunState:
    """What a run has done so far.

    Attributes:
        num_planned: tiles planned. An engine that begins a job anew plans its tiles again: this and
            the counts below are those of the last try.
        num_done: tiles ended, stored ones included.
        num_stored: tiles that an earlier run had finished.
        num_failed: tiles failed.
        num_found: instances found.
        num_finished: footprints finished.
        num_worked: tiles ended that were not stored already, over all tries.
        stage: the latest stage that wrote to the journal.
        first_tile_time: when the first tile was begun, seconds since the epoch.
    """

    num_planned: int = 0
    num_done: int = 0
    num_stored: int = 0
    num_failed: int = 0
    num_found: int = 0
    num_finished: int = 0
    num_worked: int = 0
    stage: str = "starting"
    first_tile_time: float | None = None
    _cells: set[tuple[int, ...]] = dataclasses.field(default_factory=set)

    def update(self, event: dict[str, Any]) -> None:
        """Take in one line of the journal."""
        kind = event["event"]
        if kind == "planned":
            self._begin_anew_if_planned(tuple(event["cell"]))
            self.num_planned += event["tiles"]
            self.stage = "planning"
        elif kind == "model":
            self.stage = "detecting"
        elif kind == "compiling":
            self.stage = "compiling kernels, once on this machine"
        elif kind == "tile":
            self._update_tile(event)
        elif kind == "stage":
            self.stage = _STAGE_WORDS.get(event["name"], event["name"])
            self.num_finished += event.get("footprints", 0)

    def _begin_anew_if_planned(self, cell: tuple[int, ...]) -> None:
        if cell in self._cells:
            self._cells.clear()
            self.num_planned = self.num_done = self.num_stored = 0
            self.num_failed = self.num_found = self.num_finished = 0
        self._cells.add(cell)

    def _update_tile(self, event: dict[str, Any]) -> None:
        self.stage = "detecting"
        self.num_done += 1
        self.num_found += event.get("instances", 0)
        self.num_failed += event["status"] == "failed"
        self.num_stored += bool(event.get("stored"))
        self.num_worked += not event.get("stored")
        if self.first_tile_time is None and not event.get("stored"):
            begun = event["time"] - event.get("segment_s", 0.0)
            self.first_tile_time = event.get("begun_at") or begun

    def tiles_per_s(self, now: float) -> float:
        """Tiles per second since the first one that was not stored already."""
        if self.first_tile_time is None or now <= self.first_tile_time:
            return 0.0
        return self.num_worked / (now - self.first_tile_time)

    def eta_s(self, now: float) -> float | None:
        """Seconds until the last tile at the present rate; None while unknown."""
        rate = self.tiles_per_s(now)
        return (self.num_planned - self.num_done) / rate if rate else None


_STAGE_WORDS = {
    "ProfileImages": "looking at the images",
    "MergeSeams": "merging seams",
    "FinishFootprints": "finishing",
    "ResolveOverlaps": "resolving overlaps",
    "WriteShards": "writing",
    "PublishDataset": "publishing",
}


class ProgressView(Protocol):
    """Shows the state of a run."""

    def show(self, state: RunState) -> None:
        """Bring the view up to date."""

    def say(self, line: str) -> None:
        """Show a line of the run's log."""

    def close(self) -> None:
        """Take the view down."""


class BarView:
    """A progress bar on a terminal: tiles, footprints, tiles/s and ETA."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tiles  [cyan]{task.fields[found]:,}[/] footprints  {task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task: TaskID = self._progress.add_task("starting", total=None, found=0, rate="")
        self._progress.start()

    def show(self, state: RunState) -> None:
        """Bring the bar up to date."""
        now = time.time()
        eta = state.eta_s(now)
        rate = f"{state.tiles_per_s(now):.2f} tiles/s" if eta is not None else ""
        if eta and state.num_done < state.num_planned:
            rate += f"  ETA {format_duration(eta)}"
        self._progress.update(
            self._task,
            description=state.stage,
            total=state.num_planned or None,
            completed=state.num_done,
            found=state.num_finished or state.num_found,
            rate=rate,
        )

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()


class LineView:
    """Plain lines for logs and pipes: one when a stage begins and one every few seconds."""

    def __init__(self, console: Console, interval_s: float = 10.0) -> None:
        self._console = console
        self._interval_s = interval_s
        self._last_time = time.time()
        self._last_stage = "starting"

    def show(self, state: RunState) -> None:
        """Print a line when there is something new to say."""
        now = time.time()
        if state.stage == self._last_stage and now - self._last_time < self._interval_s:
            return
        self._last_stage, self._last_time = state.stage, now
        eta = state.eta_s(now)
        line = (
            f"{state.stage}: {state.num_done}/{state.num_planned} tiles, "
            f"{state.num_finished or state.num_found:,} footprints"
        )
        if eta is not None and state.num_done < state.num_planned:
            line += f", {state.tiles_per_s(now):.2f} tiles/s, ETA {format_duration(eta)}"
        self.say(line)

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing to take down."""


def format_duration(seconds: float) -> str:
    """Seconds as people read them: 42s, 3m05s, 2h10m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
