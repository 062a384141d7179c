"""Confidence thresholds by region, as a dataset or an evaluation has them.

The table has Open Buildings' columns: an S2 cell a row, and for each precision the confidence from
which on footprints of that cell reach it; an empty entry where none does.
"""

import csv
import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geo.dataset import Dataset
from geo.errors import DatasetError
from geo.places import ReadPlace
from geo.s2cells import cell_from_token, cell_level

THRESHOLDS_NAME = "thresholds.csv"
"""The table in the folder of a dataset."""

_COLUMN = re.compile(r"confidence_threshold_(\d+(?:\.\d+)?)%_precision")
_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreThresholds:
    """Thresholds of S2 cells of one level.

    Attributes:
        name: where they come from, for messages.
        level: S2 level of the regions.
        cells: the regions, uint64, shape (n,).
        by_precision: thresholds by precision (0 to 1), float64, shape (n,); NaN where the
            precision is not reached.
    """

    name: str
    level: int
    cells: npt.NDArray[np.uint64]
    by_precision: dict[float, npt.NDArray[np.float64]]

    def at(self, precision: float) -> npt.NDArray[np.float64]:
        """Thresholds for one precision, NaN where it is not reached.

        Raises:
            DatasetError: if the table has none for it.
        """
        found = self.by_precision.get(round(precision, _DECIMALS))
        if found is None:
            known = ", ".join(f"{one:g}" for one in sorted(self.by_precision))
            raise DatasetError(
                f"precision = {precision:g}: {self.name} has thresholds for {known}; choose one of "
                "these, or a confidence of your own (--min-confidence)"
            )
        return found


def dataset_thresholds(dataset: Dataset) -> ScoreThresholds:
    """The thresholds that lie in a dataset's folder.

    Raises:
        DatasetError: if there are none, or they are damaged.
    """
    place = dataset.place_in(THRESHOLDS_NAME)
    try:
        return parse_thresholds(place.read_text(), str(place))
    except FileNotFoundError:
        raise DatasetError(
            f"{dataset.place} has no {THRESHOLDS_NAME}: the confidence of its model "
            f"({dataset.model_id}) is not calibrated. Name a table of `everyroof evaluate BUNDLE "
            "--places ... --report FOLDER` with --thresholds, or use --min-confidence"
        ) from None


def read_thresholds(place: ReadPlace) -> ScoreThresholds:
    """Thresholds of any table in this form.

    Raises:
        DatasetError: if it does not exist or is no such table.
    """
    try:
        return parse_thresholds(place.read_text(), str(place))
    except FileNotFoundError:
        raise DatasetError(f"there is no table of thresholds {place}") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{place} is no table of thresholds: {error}") from error


def parse_thresholds(text: str, name: str) -> ScoreThresholds:
    """Thresholds from CSV with the columns `s2_token` and `confidence_threshold_P%_precision`.

    Raises:
        DatasetError: if columns or values are not what they should be.
    """
    reader = csv.DictReader(io.StringIO(text))
    columns = {
        round(float(match[1]) / 100, _DECIMALS): column
        for column in reader.fieldnames or ()
        for match in (_COLUMN.fullmatch(column),)
        if match
    }
    if not columns or "s2_token" not in (reader.fieldnames or ()):
        raise DatasetError(
            f"{name} is no table of thresholds: expected the columns s2_token and "
            "confidence_threshold_P%_precision"
        )
    rows = list(reader)
    try:
        cells = [cell_from_token(row["s2_token"]) for row in rows]
        values = {key: [_value(row[column]) for row in rows] for key, column in columns.items()}
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{name} is damaged: {error}") from error
    levels = {cell_level(cell) for cell in cells}
    if len(levels) > 1 or len(set(cells)) < len(cells):
        raise DatasetError(f"{name} has regions that overlap: expected S2 cells of one level")
    return ScoreThresholds(
        name=name,
        level=levels.pop() if levels else 0,
        cells=np.array(cells, np.uint64),
        by_precision={key: np.array(column, np.float64) for key, column in values.items()},
    )


def _value(text: Any) -> float:
    if not text:
        return float("nan")
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{text!r} is no confidence")
    return value
