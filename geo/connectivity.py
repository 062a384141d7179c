"""Which runs belong together: 4-connected groups of pixel runs, linear in the number of runs.

Shared by the first labelling of a mask (geo/components.py, where every run starts as a node of its
own) and by the merging of pieces across seams (geo/seams.py, where the runs of one piece start as
one node), so that both mean the same by "touching".

Union-find on runs between consecutive rows, after He, Chao and Suzuki, "A Run-Based Two-Scan
Labeling Algorithm", IEEE Transactions on Image Processing 17(5), 2008.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from geo.errors import GeometryError
from geo.instances import Int32Array, Int64Array
from geo.kernels import borrowing_njit, inlined_njit


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedRuns:
    """Runs grouped by connectivity; groups sorted by their first pixel in scan order.

    Attributes:
        run_row: grid row, int32, shape (num_runs,); grouped, in scan order within a group.
        run_start: first column, int32.
        run_end: column after the last one, int32.
        run_offsets: group g owns runs run_offsets[g]:run_offsets[g + 1]; int64.
        group_of_node: the group that each node became part of, int64, shape (num_nodes,).
    """

    run_row: Int32Array
    run_start: Int32Array
    run_end: Int32Array
    run_offsets: Int64Array
    group_of_node: Int64Array

    def sum_nodes(self, values: Int64Array) -> Int64Array:
        """Sum of one integer per node over the nodes of each group; int64, shape (num_groups,)."""
        sums: Int64Array = _sum_by_group(values, self.group_of_node, len(self.run_offsets) - 1)
        return sums


def connect_runs(
    run_row: Int32Array,
    run_start: Int32Array,
    run_end: Int32Array,
    node: Int64Array,
    num_nodes: int,
) -> ConnectedRuns:
    """Group runs that touch along a pixel edge, directly or through others; join touching runs.

    Args:
        run_row: rows of all runs, int32, the runs sorted by (row, start).
        run_start: first columns, int32.
        run_end: columns after the last ones, int32.
        node: what belongs together from the start, int64 in [0, num_nodes); every node has a run.
        num_nodes: number of nodes.

    Returns:
        The groups. Runs of one row that touch are one run afterwards.

    Raises:
        GeometryError: if two runs share a pixel.
    """
    parent = np.arange(num_nodes)
    clash = _join_touching(run_row, run_start, run_end, node, parent)
    if clash >= 0:
        raise GeometryError(
            f"pixel (row {run_row[clash]}, col {run_start[clash]}) belongs to two runs; "
            "was a tile or a piece given twice?"
        )
    row, start, end, offsets = _group_runs(run_row, run_start, run_end, node, parent)
    return ConnectedRuns(
        run_row=row, run_start=start, run_end=end, run_offsets=offsets, group_of_node=parent
    )


def sum_image_counts(
    owner: Int64Array, image_index: Int32Array, image_pixels: Int64Array, num_instances: int
) -> tuple[Int64Array, Int32Array, Int64Array]:
    """Add up pixel counts of equal (owner, image) and sort them into ragged columns.

    Args:
        owner: instance of each count, int64 in [0, num_instances).
        image_index: image of each count, int32.
        image_pixels: the counts, int64.
        num_instances: number of instances.

    Returns:
        (image_offsets, image_index, image_pixels) as in `Instances`.
    """
    offsets = np.zeros(num_instances + 1, np.int64)
    if len(owner) == 0:
        return offsets, image_index, image_pixels
    order = np.lexsort((image_index, owner))
    owner, image_index = owner[order], image_index[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (owner[1:] != owner[:-1]) | (image_index[1:] != image_index[:-1])
    first = np.flatnonzero(is_first)
    np.cumsum(np.bincount(owner[first], minlength=num_instances), out=offsets[1:])
    return offsets, image_index[first], np.add.reduceat(image_pixels[order], first)


@inlined_njit()
def find_root(parent: npt.NDArray[np.signedinteger], node: int) -> int:
    """The root of a node in a union-find forest, whose paths get shorter on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@inlined_njit()
def _unite(parent: Int64Array, a: int, b: int) -> None:
    # The smaller root wins, so that where nodes are runs the root is the first run in scan order.
    a, b = find_root(parent, a), find_root(parent, b)
    if a < b:
        parent[b] = a
    elif b < a:
        parent[a] = b


@borrowing_njit()
def _join_touching(
    run_row: Int32Array,
    run_start: Int32Array,
    run_end: Int32Array,
    node: Int64Array,
    parent: Int64Array,
) -> int:
    """Unite the nodes of touching runs; the index of a run that overlaps another, or -1."""
    above = 0  # first run of the row above that does not end left of the current run
    for i in range(len(run_row)):
        row, start, end = run_row[i], run_start[i], run_end[i]
        if i > 0 and run_row[i - 1] == row and run_end[i - 1] >= start:
            if run_end[i - 1] > start:
                return i
            _unite(parent, node[i - 1], node[i])
        while run_row[above] < row - 1 or (run_row[above] == row - 1 and run_end[above] <= start):
            above += 1
        k = above
        while run_row[k] == row - 1 and run_start[k] < end:
            _unite(parent, node[k], node[i])
            k += 1
    return -1


@numba.njit(cache=True, nogil=True)
def _group_runs(
    run_row: Int32Array,
    run_start: Int32Array,
    run_end: Int32Array,
    node: Int64Array,
    parent: Int64Array,
) -> tuple[Int32Array, Int32Array, Int32Array, Int64Array]:
    """Sort runs by group (a counting sort, stable); `parent` becomes the group of each node."""
    num_runs = len(run_row)
    num_groups = _number_groups(node, parent)
    # Touching runs of one row have been united: they become one run of their group.
    joins_previous = np.zeros(num_runs, np.bool_)
    for i in range(1, num_runs):
        joins_previous[i] = run_row[i - 1] == run_row[i] and run_end[i - 1] == run_start[i]
    offsets = np.zeros(num_groups + 1, np.int64)
    for i in range(num_runs):
        if not joins_previous[i]:
            offsets[parent[node[i]] + 1] += 1
    for g in range(num_groups):
        offsets[g + 1] += offsets[g]
    fill = offsets[:-1].copy()
    row = np.empty(offsets[num_groups], np.int32)
    start, end = np.empty_like(row), np.empty_like(row)
    for i in range(num_runs):
        g = parent[node[i]]
        if joins_previous[i]:
            end[fill[g] - 1] = run_end[i]
            continue
        k = fill[g]
        fill[g] = k + 1
        row[k], start[k], end[k] = run_row[i], run_start[i], run_end[i]
    return row, start, end, offsets


@numba.njit(cache=True, nogil=True)
def _number_groups(node: Int64Array, parent: Int64Array) -> int:
    """Replace parents by group numbers, in the order in which the runs meet the groups."""
    group_of_root = np.full(len(parent), -1, np.int64)
    num_groups = 0
    for i in range(len(node)):
        root = find_root(parent, node[i])
        if group_of_root[root] < 0:
            group_of_root[root] = num_groups
            num_groups += 1
    group = np.empty_like(parent)
    for n in range(len(parent)):
        group[n] = group_of_root[find_root(parent, n)]
    parent[:] = group
    return num_groups


@numba.njit(cache=True, nogil=True)
def _sum_by_group(values: Int64Array, group: Int64Array, num_groups: int) -> Int64Array:
    sums = np.zeros(num_groups, np.int64)
    for i in range(len(values)):
        sums[group[i]] += values[i]
    return sums
