"""Building instances as pixel runs: exact, integer, cheap to merge.

A run is a horizontal stretch of pixels of one instance, on the pixels of one world grid. Runs are
what tracing works on and what travels across seams: the union of runs is exact, so that merging in
any order gives the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """A ragged table of instances; struct of arrays, never changed in place.

    Invariants: within an instance runs are sorted by (row, start), do not overlap and do not touch
    (touching runs of one row are one run); instances are sorted by their first pixel in scan order
    (row, then column).

    Attributes:
        run_row: grid row of each run, int32, shape (num_runs,).
        run_start: first grid column of each run, int32.
        run_end: column after the last one, int32; always above run_start.
        run_offsets: instance i owns runs run_offsets[i]:run_offsets[i + 1]; int64, shape (n + 1,).
        num_pixels: pixels of each instance, int64, shape (n,).
        probability_sum: sum of the uint8 probability over the pixels, int64, shape (n,).
        rim_sum: sum of `geo.rim.Rim.total` over the pixels, int64, shape (n,); 0 where no rim was
            asked for.
        rim_count: sum of `geo.rim.Rim.count`, likewise.
        image_offsets: instance i owns image counts image_offsets[i]:image_offsets[i + 1]; int64.
        image_index: index of the image that the pixels came from, int32, ascending per instance.
        image_pixels: number of pixels from that image, int64.
    """

    run_row: Int32Array
    run_start: Int32Array
    run_end: Int32Array
    run_offsets: Int64Array
    num_pixels: Int64Array
    probability_sum: Int64Array
    rim_sum: Int64Array
    rim_count: Int64Array
    image_offsets: Int64Array
    image_index: Int32Array
    image_pixels: Int64Array

    def __len__(self) -> int:
        return len(self.num_pixels)

    @classmethod
    def empty(cls) -> "Instances":
        """No instances at all."""
        none32, none64 = np.zeros(0, np.int32), np.zeros(0, np.int64)
        zero = np.zeros(1, np.int64)
        return cls(
            run_row=none32,
            run_start=none32,
            run_end=none32,
            run_offsets=zero,
            num_pixels=none64,
            probability_sum=none64,
            rim_sum=none64,
            rim_count=none64,
            image_offsets=zero,
            image_index=none32,
            image_pixels=none64,
        )

    def first_pixels(self) -> Int64Array:
        """The first pixel of each instance in scan order: (row, col), int64, shape (n, 2)."""
        first = self.run_offsets[:-1]
        return np.stack([self.run_row[first], self.run_start[first]], axis=1).astype(np.int64)

    def bounds(self) -> Int64Array:
        """Pixel bounds (row_min, col_min, row_end, col_end), ends exclusive; shape (n, 4)."""
        if len(self) == 0:
            return np.zeros((0, 4), np.int64)
        first, last = self.run_offsets[:-1], self.run_offsets[1:] - 1
        return np.stack(
            [
                self.run_row[first],
                np.minimum.reduceat(self.run_start, first),
                self.run_row[last] + 1,
                np.maximum.reduceat(self.run_end, first),
            ],
            axis=1,
        ).astype(np.int64)

    def take(self, index: Int64Array | BoolArray) -> "Instances":
        """The chosen instances, in the order given (keep it ascending to keep the invariants).

        Args:
            index: positions (int) or one flag per instance (bool).
        """
        if index.dtype == np.bool_ and index.all():
            return self
        chosen = np.flatnonzero(index) if index.dtype == np.bool_ else np.asarray(index, np.int64)
        runs, run_offsets = ragged_take(self.run_offsets, chosen)
        images, image_offsets = ragged_take(self.image_offsets, chosen)
        return Instances(
            run_row=self.run_row[runs],
            run_start=self.run_start[runs],
            run_end=self.run_end[runs],
            run_offsets=run_offsets,
            num_pixels=self.num_pixels[chosen],
            probability_sum=self.probability_sum[chosen],
            rim_sum=self.rim_sum[chosen],
            rim_count=self.rim_count[chosen],
            image_offsets=image_offsets,
            image_index=self.image_index[images],
            image_pixels=self.image_pixels[images],
        )


def ragged_take(offsets: Int64Array, index: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Positions of the items of the chosen groups, and the offsets of the result.

    Args:
        offsets: group i owns items offsets[i]:offsets[i + 1]; shape (n + 1,).
        index: the groups to take, int.
    """
    lengths = offsets[index + 1] - offsets[index]
    new_offsets = np.zeros(len(index) + 1, np.int64)
    np.cumsum(lengths, out=new_offsets[1:])
    shift = np.repeat(offsets[index] - new_offsets[:-1], lengths)
    return np.arange(new_offsets[-1], dtype=np.int64) + shift, new_offsets


def concat_instances(parts: Sequence[Instances]) -> Instances:
    """All instances of all parts, sorted by first pixel; nothing is merged."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return Instances.empty()
    if len(parts) == 1:
        return parts[0]
    joined = Instances(
        run_row=np.concatenate([part.run_row for part in parts]),
        run_start=np.concatenate([part.run_start for part in parts]),
        run_end=np.concatenate([part.run_end for part in parts]),
        run_offsets=_concat_offsets([part.run_offsets for part in parts]),
        num_pixels=np.concatenate([part.num_pixels for part in parts]),
        probability_sum=np.concatenate([part.probability_sum for part in parts]),
        rim_sum=np.concatenate([part.rim_sum for part in parts]),
        rim_count=np.concatenate([part.rim_count for part in parts]),
        image_offsets=_concat_offsets([part.image_offsets for part in parts]),
        image_index=np.concatenate([part.image_index for part in parts]),
        image_pixels=np.concatenate([part.image_pixels for part in parts]),
    )
    first = joined.first_pixels()
    return joined.take(np.lexsort((first[:, 1], first[:, 0])))


def _concat_offsets(offsets: Sequence[Int64Array]) -> Int64Array:
    starts = np.cumsum([0, *(part[-1] for part in offsets)])
    shifted = [part[1:] + start for part, start in zip(offsets, starts[:-1], strict=True)]
    return np.concatenate([np.zeros(1, np.int64), *shifted])
