"""Whole sources kept for validation: how a network does on ground like none that it learned."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from model.errors import SourceError
from model.source_config import AnySource, DatasetConfig


def hold_out(dataset: DatasetConfig, names: Sequence[str]) -> DatasetConfig:
    """The same data with all places of some sources for validation.

    Args:
        dataset: as read.
        names: of sources.

    Raises:
        SourceError: if there is no such source, one cannot be scored, or none is left to learn
            from.
    """
    known = [source.name for source in dataset.sources]
    for name in names:
        if name not in known:
            raise SourceError(f"there is no source {name!r} to hold out among {', '.join(known)}")
    if set(names) == set(known):
        raise SourceError("all sources are held out; leave at least one to learn from")
    for source in dataset.sources:
        if source.name in names and not getattr(source, "has_instances", True):
            raise SourceError(
                f"{source.name} does not tell neighbours apart (has_instances), so that nothing "
                "could be scored on it; hold out another source"
            )
    sources = tuple(
        _held_out(source) if source.name in names else source for source in dataset.sources
    )
    return dataclasses.replace(dataset, sources=sources)


def _held_out(source: AnySource) -> AnySource:
    changes: dict[str, Any] = {"validation": ("*",)}
    if hasattr(source, "cut"):
        changes["cut"] = {}
    return dataclasses.replace(source, **changes)
