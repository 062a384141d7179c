"""Probabilities by core: what windows say of their cores and of some pixels around.

Neighbours are cut apart core by core, with the surroundings as the core's own window saw them: so a
pixel's fate does not depend on the tile that asks, nor on which other cores it asks for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from geo.large_arrays import blank_array
from geo.pixel_window import PixelWindow
from geo.rim import Rim, find_rim
from geo.watershed import cut_valleys

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
Level = TypeVar("Level", np.uint8, np.uint16)


@dataclass(frozen=True, slots=True)
class CoreProbability:
    """What a window says.

    Attributes:
        core: in pixels of the tile without its margin.
        values: round(255 * probability), uint8, of the core and equally many pixels on every side
            (maybe none), shape (side, side); 0 where not valid.
    """

    core: PixelWindow
    values: UInt8Array

    @property
    def reach_px(self) -> int:
        """Pixels on every side of the core."""
        return (len(self.values) - self.core.width) // 2


def join_cores(cores: Sequence[CoreProbability], shape: tuple[int, int]) -> UInt8Array:
    """A tile's probability, uint8: the cores side by side, 0 where there is none.

    Args:
        cores: those of a tile, once each.
        shape: (height, width) of the tile.
    """
    parts = [(part.core, part.values, part.reach_px) for part in cores]
    return _paste(parts, blank_array(shape, np.uint8))


def cut_cores(cores: Sequence[CoreProbability], *, floor: int, depth: int) -> list[CoreProbability]:
    """Cores with neighbours apart, see `geo.watershed.cut_valleys`.

    Args:
        cores: those of a tile, once each.
        floor: least probability of a building pixel, 1 to 255.
        depth: fall of the probability between neighbours, 1 to 255.

    Returns:
        The same cores, with `floor - 1` between neighbours.
    """
    return [
        CoreProbability(part.core, cut_valleys(part.values, floor=floor, depth=depth))
        for part in cores
    ]


def join_rims(
    cores: Sequence[CoreProbability],
    cut: Sequence[CoreProbability],
    shape: tuple[int, int],
    *,
    floor: int,
) -> Rim:
    """What lies just outside a tile's buildings, each core as its own window sees it.

    Args:
        cores: those of a tile, once each, with at least one pixel around; without, pixels beyond
            the core are not counted.
        cut: the same, with neighbours apart.
        shape: (height, width) of the tile.
        floor: least probability of a building pixel, 1 to 255.
    """
    totals, counts = [], []
    for part, other in zip(cores, cut, strict=True):
        # One pixel around a core is all that its rim depends on.
        reach = min(part.reach_px, 1)
        rest = part.reach_px - reach
        seen = np.s_[rest : len(part.values) - rest, rest : len(part.values) - rest]
        rim = find_rim(part.values[seen], other.values[seen] >= floor)
        totals.append((part.core, rim.total, reach))
        counts.append((part.core, rim.count, reach))
    return Rim(
        _paste(totals, np.zeros(shape, np.uint16)), _paste(counts, np.zeros(shape, np.uint8))
    )


def mean_of_layers(
    layers: Sequence[Sequence[tuple[CoreProbability, npt.NDArray[np.bool_]]]],
) -> list[CoreProbability]:
    """The mean of several images' probabilities, pixel by pixel, over those that have the pixel.

    Args:
        layers: for each image its cores and where their pixels are valid; a core may be missing in
            an image that has no valid pixel there.

    Returns:
        Every core of any image once, in scan order.
    """
    totals: dict[tuple[int, int], tuple[PixelWindow, UInt16Array, UInt16Array]] = {}
    for layer in layers:
        for part, valid in layer:
            key = (part.core.row_off, part.core.col_off)
            if key not in totals:
                zeros = np.zeros(part.values.shape, np.uint16)
                totals[key] = (part.core, zeros, zeros.copy())
            _, total, times = totals[key]
            total += part.values
            times += valid
    return [
        # Rounded half up in integers: the same on every machine.
        CoreProbability(core, ((total + times // 2) // np.maximum(times, 1)).astype(np.uint8))
        for _, (core, total, times) in sorted(totals.items())
    ]


def _paste(
    parts: Sequence[tuple[PixelWindow, npt.NDArray[Level], int]], joined: npt.NDArray[Level]
) -> npt.NDArray[Level]:
    for core, values, reach in parts:
        side = len(values) - reach
        joined[core.row_off : core.row_end, core.col_off : core.col_end] = values[
            reach:side, reach:side
        ]
    return joined
