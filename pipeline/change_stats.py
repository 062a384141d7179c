"""What a comparison of two datasets found, added up table by table in fixed memory."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from geo.dataset_changes import CHANGE_STATUSES
from pipeline.map_grid import MapGrid

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

MAX_OUTLINES = 2500
"""Rows up to which outlines are kept for the map, unchanged ones among them if there is room."""
IOU_EDGES: Float64Array = np.linspace(0.0, 1.0, 21)
"""Edges of the classes of IoU."""
SHIFT_EDGES_M: Float64Array = np.array([0, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, np.inf])
"""Edges of the classes of shift, metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusTotals:
    """Buildings of one status.

    Attributes:
        status: one of `CHANGE_STATUSES`.
        num_old: old buildings.
        num_new: new ones.
        area_old_m2: their built area.
        area_new_m2: the same of the new ones.
    """

    status: str
    num_old: int
    num_new: int
    area_old_m2: float
    area_new_m2: float


class ChangeStats:
    """Counts, areas and maps of a change log; `add` takes it table by table.

    Attributes:
        grid: cells of the maps.
        num_rows: rows of the log.
        maps: rows of the log per status and cell, int64, shape (num_statuses, rows, cols).
        num_by_iou: pairs per class of `IOU_EDGES`.
        num_by_shift: pairs per class of `SHIFT_EDGES_M`.
        reasons: rows on ground not covered, by status and reason.
        outlines: WKB of the rows by status, as long as there are few; without unchanged ones where
            these are many; None where the others are.
    """

    def __init__(self, grid: MapGrid) -> None:
        self.grid = grid
        self.num_rows = 0
        self.maps: Int64Array = np.zeros((len(CHANGE_STATUSES), *grid.shape), np.int64)
        self.num_by_iou: Int64Array = np.zeros(len(IOU_EDGES) - 1, np.int64)
        self.num_by_shift: Int64Array = np.zeros(len(SHIFT_EDGES_M) - 1, np.int64)
        self.reasons: dict[tuple[str, str], int] = {}
        self.outlines: dict[str, list[bytes]] | None = {}
        self._num = np.zeros((len(CHANGE_STATUSES), 2), np.int64)
        self._area = np.zeros((len(CHANGE_STATUSES), 2))

    def add(self, log: pa.Table) -> None:
        """Add rows of a change log (`geo.dataset_changes.CHANGE_SCHEMA`)."""
        status = pc.index_in(log["status"], value_set=pa.array(CHANGE_STATUSES)).to_numpy()
        self.num_rows += len(log)
        self._add_totals(log, status)
        cells = self.grid.cells_of(log["longitude"].to_numpy(), log["latitude"].to_numpy())
        numbers = status * (self.grid.num_rows * self.grid.num_cols) + cells
        counts = np.bincount(numbers, minlength=self.maps.size)
        self.maps += counts.reshape(self.maps.shape)
        is_pair = log["shift_m"].is_valid()
        pairs = log.select(["iou", "shift_m"]).filter(is_pair)
        last = len(self.num_by_iou) - 1
        classes = np.clip(np.floor(pairs["iou"].to_numpy() * (last + 1)), 0, last)
        self.num_by_iou += np.bincount(classes.astype(np.int64), minlength=last + 1)
        self.num_by_shift += np.histogram(pairs["shift_m"].to_numpy(), SHIFT_EDGES_M)[0]
        self._add_reasons(log)
        self._add_outlines(log)

    def _add_totals(self, log: pa.Table, status: Int64Array) -> None:
        for side, name in enumerate(("area_old_m2", "area_new_m2")):
            area = log[name].to_numpy(zero_copy_only=False)
            here = ~np.isnan(area)
            self._num[:, side] += np.bincount(status[here], minlength=len(CHANGE_STATUSES))
            self._area[:, side] += np.bincount(
                status[here], weights=area[here], minlength=len(CHANGE_STATUSES)
            )

    def _add_reasons(self, log: pa.Table) -> None:
        told = log.select(["status", "reason"]).filter(log["reason"].is_valid())
        for row in told.group_by(["status", "reason"]).aggregate([([], "count_all")]).to_pylist():
            key = (row["status"], row["reason"])
            self.reasons[key] = self.reasons.get(key, 0) + row["count_all"]

    def _add_outlines(self, log: pa.Table) -> None:
        if self.outlines is None:
            return
        num_unchanged = int(self._num[0, 1])
        if self.num_rows - num_unchanged > MAX_OUTLINES:
            self.outlines = None
            return
        if self.num_rows > MAX_OUTLINES:
            self.outlines.pop("unchanged", None)
            log = log.filter(pc.not_equal(log["status"], "unchanged"))
        rows = zip(log["status"].to_pylist(), log["geometry"].to_pylist(), strict=True)
        for word, outline in rows:
            self.outlines.setdefault(word, []).append(outline)

    @property
    def totals(self) -> tuple[StatusTotals, ...]:
        """Buildings per status, in the order of `CHANGE_STATUSES`, those that occur."""
        return tuple(
            StatusTotals(
                status=word,
                num_old=int(num[0]),
                num_new=int(num[1]),
                area_old_m2=float(area[0]),
                area_new_m2=float(area[1]),
            )
            for word, num, area in zip(CHANGE_STATUSES, self._num, self._area, strict=True)
            if num.any()
        )

    @property
    def is_apart(self) -> bool:
        """Whether no building lies on ground that both have seen."""
        return all(total.status.startswith("not_covered") for total in self.totals)

    def map_of(self, *statuses: str) -> Int64Array:
        """Rows of some statuses per cell of the map."""
        return np.asarray(self.maps[[CHANGE_STATUSES.index(word) for word in statuses]].sum(axis=0))
