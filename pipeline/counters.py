"""Beam counters: one namespace per stage, the same names everywhere."""

import time
from typing import Any

from apache_beam.metrics import Metrics

from pipeline.journal import AnyJournal


def count(stage: str, name: str, amount: int = 1) -> None:
    """Add to a counter, such as ("DetectBuildings", "tiles-read")."""
    Metrics.counter(stage, name).inc(int(amount))


def record_ms(stage: str, name: str, seconds: float) -> None:
    """Add a duration to a distribution of milliseconds."""
    Metrics.distribution(stage, f"{name}-ms").update(int(seconds * 1000))


def note_element(journal: AnyJournal, stage: str, begin: float, **facts: Any) -> None:
    """Note that a stage is done with an element: in the journal, and as a distribution of Beam.

    Args:
        journal: of this worker.
        stage: name of the stage.
        begin: `time.perf_counter()` at the element's begin.
        facts: what else the journal shall say.
    """
    seconds = time.perf_counter() - begin
    record_ms(stage, "element", seconds)
    journal.write("stage", name=stage, seconds=seconds, **facts)
