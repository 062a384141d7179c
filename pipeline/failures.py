"""Failures as data: a tile that cannot be processed is recorded, never skipped silently."""

import dataclasses
from typing import Literal

from pipeline.spec import TileKey

TileStatus = Literal["ok", "empty", "nodata", "failed"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TileRecord:
    """How one planned tile ended: a row of the ledger.

    Attributes:
        key: (zone, row, col) of the tile.
        status: ok (buildings found), empty (ground, no building), nodata (no ground) or failed.
        reason: why it failed, or a note on what was left out; empty otherwise.
        num_instances: instances traced in the tile.
        num_left_out: windows that a first look found empty (`segment.first_look`).
    """

    key: TileKey
    status: TileStatus
    reason: str = ""
    num_instances: int = 0
    num_left_out: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TileNote:
    """Something about a tile that a later stage left out and the ledger must say.

    Attributes:
        key: (zone, row, col) of the tile.
        note: a sentence.
    """

    key: TileKey
    note: str
