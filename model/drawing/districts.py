"""Districts of a scene: which kind of settlement is where."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.drawing.styles import STYLES, Style

Float32Array = npt.NDArray[np.float32]

_DISTRICT_M = 330.0
_MIXED_SHARE = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class Districts:
    """Settlements around centres; a place belongs to the nearest one.

    Attributes:
        centres: metres, float64, shape (num_districts, 2).
        styles: the kind of each; the first gives a scene its streets and its soil.
    """

    centres: npt.NDArray[np.float64]
    styles: tuple[Style, ...]

    @property
    def main(self) -> Style:
        """The kind that gives a scene its streets and its soil."""
        return self.styles[0]

    def at(self, x: float, y: float) -> Style:
        """The kind of settlement at a point in metres."""
        distance = ((self.centres - (x, y)) ** 2).sum(axis=1)
        return self.styles[int(distance.argmin())]

    def green(self, size_m: float, cells: int = 32) -> Float32Array:
        """How green the ground is, on a coarse raster of the scene, float32 (cells, cells)."""
        middle = (np.arange(cells) + 0.5) * size_m / cells
        values = [[self.at(x, y).green for x in middle] for y in middle]
        return np.array(values, np.float32)


def draw_districts(rng: np.random.Generator, style: str | None, size_m: float) -> Districts:
    """One kind where it is named; else one or two in a small scene, many in a large one.

    Args:
        rng: all chance comes from it.
        style: a key of `STYLES`, or None.
        size_m: side of the scene.
    """
    names = list(STYLES)
    main = names[int(rng.integers(len(names)))]
    if style is not None:
        return Districts(centres=np.full((1, 2), size_m / 2), styles=(STYLES[style],))
    num = max(round((size_m / _DISTRICT_M) ** 2), 2 if rng.random() < _MIXED_SHARE else 1)
    drawn = [main]
    for _ in range(num - 1):
        drawn.append(main if rng.random() < 0.35 else names[int(rng.integers(len(names)))])
    centres = rng.uniform(0, size_m, (num, 2))
    return Districts(centres=centres, styles=tuple(STYLES[name] for name in drawn))
