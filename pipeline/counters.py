"""Beam counters: one namespace per stage, the same names everywhere."""

from apache_beam.metrics import Metrics


def count(stage: str, name: str, amount: int = 1) -> None:
    """Add to a counter, such as ("DetectBuildings", "tiles-read")."""
    Metrics.counter(stage, name).inc(int(amount))


def record_ms(stage: str, name: str, seconds: float) -> None:
    """Add a duration to a distribution of milliseconds."""
    Metrics.distribution(stage, f"{name}-ms").update(int(seconds * 1000))
