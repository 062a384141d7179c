"""Which buildings of two datasets are the same, and what became of the others.

The rules look at the buildings that overlap each other and at nothing else, they are symmetric
(OLD and NEW swapped gives added for removed and merged for split), and they depend on no order:

1. *The same id*: an id names a place on one pixel grid, so two outlines of one id that share area
   are the same building, however different they are. Where they share none, the id says nothing.
2. *Best overlap*: of the rest, two are the same building when each is the other's best one by IoU
   and the IoU is at least `min_iou`. (Of equals the first along S2's Hilbert curve is the best.)
   Above an IoU of 0.5 there is at most one such partner among outlines that do not overlap each
   other.
3. *Parts*: a part belongs to a whole when at least half of it lies in the whole, and what lies
   there makes up at least 5 % of the whole (as in `geo.metrics`); the whole's own partner counts as
   a part. With two or more parts a whole was *split* (an old one) or *merged* (a new one).
   Buildings without a partner that are part of such a whole are told as its pieces.
4. A pair is *unchanged* when its IoU is at least `unchanged_iou`, else *changed*. What is left is
   *removed* or *added*; whether its ground was seen at all is for the caller to say.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from geo.metrics import PART_SHARE, WHOLE_SHARE

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

NONE = -1
MIN_PARTS = 2
"""Parts from which on a whole was split or merged."""
HOPS = 4
"""How far a building's fate reaches: it depends on overlapping buildings, on those that overlap
them, and so on, this many steps away."""
# Below a millionth: the last bits of an overlay depend on which outline comes first.
_DECIMALS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeConfig:
    """What counts as the same building, and as unchanged."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    min_iou: float = 0.3
    """Least IoU of two outlines of different ids that are one building; above 0, at most 1."""

    unchanged_iou: float = 0.95
    """Least IoU of an unchanged building; from `min_iou` to 1."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 < self.min_iou <= 1.0:
            raise ValueError(f"min_iou = {self.min_iou}: expected a number above 0, at most 1")
        if not self.min_iou <= self.unchanged_iou <= 1.0:
            raise ValueError(
                f"unchanged_iou = {self.unchanged_iou}: expected a number from min_iou = "
                f"{self.min_iou} to 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedAreas:
    """Pairs of an old and a new outline that share area; struct of arrays.

    Attributes:
        old: row of the old one, int64, shape (num_pairs,); each pair once.
        new: row of the new one.
        is_same_id: whether both have one id.
        iou: intersection over union, in (0, 1].
        share_old: share of the old outline that lies in the new one.
        share_new: share of the new outline that lies in the old one.
    """

    old: Int64Array
    new: Int64Array
    is_same_id: BoolArray
    iou: Float64Array
    share_old: Float64Array
    share_new: Float64Array

    def __len__(self) -> int:
        return len(self.iou)

    def swapped(self) -> "SharedAreas":
        """The same pairs with old and new in each other's place."""
        return SharedAreas(
            old=self.new,
            new=self.old,
            is_same_id=self.is_same_id,
            iou=self.iou,
            share_old=self.share_new,
            share_new=self.share_old,
        )


def shared_areas(
    old: Int64Array,
    new: Int64Array,
    *,
    is_same_id: BoolArray,
    area_old: Float64Array,
    area_new: Float64Array,
    area_shared: Float64Array,
) -> SharedAreas:
    """Shares and IoU of pairs, those without shared area left out; areas of each pair, any unit."""
    rounded = [
        np.round(area_shared / whole, _DECIMALS)
        for whole in (area_old + area_new - area_shared, area_old, area_new)
    ]
    keep = rounded[0] > 0
    iou, share_old, share_new = (values[keep] for values in rounded)
    return SharedAreas(
        old=old[keep],
        new=new[keep],
        is_same_id=is_same_id[keep],
        iou=iou,
        share_old=share_old,
        share_new=share_new,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinship:
    """What the rows of one side have to do with the other side; struct of arrays.

    Attributes:
        partner: row of the other side that is the same building, or `NONE`; int64, shape (n,).
        iou: with the partner, else with the whole, else 0.
        num_parts: rows of the other side that are its parts, its partner counted among them.
        whole: row of the other side that it is a piece of, or `NONE`; only rows without a partner.
    """

    partner: Int64Array
    iou: Float64Array
    num_parts: Int64Array
    whole: Int64Array


def find_kin(
    pairs: SharedAreas, num_old: int, num_new: int, config: ChangeConfig
) -> tuple[Kinship, Kinship]:
    """Partners, parts and wholes of the old and of the new rows.

    Args:
        pairs: all pairs that share area.
        num_old: old rows; of equals the first is the better one, so they need an order of their
            own, such as the place on the earth.
        num_new: new rows, likewise.
        config: what counts as the same building.
    """
    is_partner = _partners(pairs, num_old, num_new, config)
    swapped = pairs.swapped()
    parts_old = _count_parts(pairs, is_partner, num_old)
    parts_new = _count_parts(swapped, is_partner, num_new)
    kin_old = _kin_of_old(pairs, is_partner, parts_old, parts_new)
    return kin_old, _kin_of_old(swapped, is_partner, parts_new, parts_old)


def _partners(pairs: SharedAreas, num_old: int, num_new: int, config: ChangeConfig) -> BoolArray:
    """Which pairs are one building."""
    is_taken_old, is_taken_new = np.zeros(num_old, bool), np.zeros(num_new, bool)
    is_taken_old[pairs.old[pairs.is_same_id]] = True
    is_taken_new[pairs.new[pairs.is_same_id]] = True
    is_free = ~is_taken_old[pairs.old] & ~is_taken_new[pairs.new]
    free = np.flatnonzero(is_free & (pairs.iou >= config.min_iou))
    best_of_old = _best(free, pairs.old[free], pairs.iou[free], pairs.new[free])
    best_of_new = _best(free, pairs.new[free], pairs.iou[free], pairs.old[free])
    is_partner = pairs.is_same_id.copy()
    is_partner[np.intersect1d(best_of_old, best_of_new)] = True
    return is_partner


def _best(pair: Int64Array, row: Int64Array, score: Float64Array, other: Int64Array) -> Int64Array:
    """Of each row the pair of highest score, at equal score that of the first other row."""
    order = np.lexsort((other, -score, row))
    is_first = np.append(True, np.diff(row[order]) != 0)[: len(order)]
    return pair[order][is_first]


def _is_part(pairs: SharedAreas) -> BoolArray:
    """Which new outlines are parts of the old one of their pair."""
    return (pairs.share_new >= PART_SHARE) & (pairs.share_old >= WHOLE_SHARE)


def _count_parts(pairs: SharedAreas, is_partner: BoolArray, num_old: int) -> Int64Array:
    """New outlines that are parts of each old one, its partner included."""
    counts = np.bincount(pairs.old[_is_part(pairs) | is_partner], minlength=num_old)
    return counts.astype(np.int64)


def _kin_of_old(
    pairs: SharedAreas,
    is_partner: BoolArray,
    parts_old: Int64Array,
    parts_new: Int64Array,
) -> Kinship:
    num_old = len(parts_old)
    partner, whole = np.full(num_old, NONE, np.int64), np.full(num_old, NONE, np.int64)
    iou = np.zeros(num_old)
    partner[pairs.old[is_partner]] = pairs.new[is_partner]
    iou[pairs.old[is_partner]] = pairs.iou[is_partner]
    is_piece = _is_part(pairs.swapped()) & (parts_new[pairs.new] >= MIN_PARTS)
    pieces = np.flatnonzero(is_piece & (partner[pairs.old] == NONE))
    chosen = _best(pieces, pairs.old[pieces], pairs.share_old[pieces], pairs.new[pieces])
    whole[pairs.old[chosen]] = pairs.new[chosen]
    iou[pairs.old[chosen]] = pairs.iou[chosen]
    return Kinship(partner=partner, iou=iou, num_parts=parts_old, whole=whole)
