"""The compiled warp against the same sums, written down pixel by pixel."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.warp_kernel import NODE_STEP_PX, paint_cells

Uint8Array = npt.NDArray[np.uint8]
Float64Array = npt.NDArray[np.float64]


def place(nodes: Float64Array, row: int, col: int, tap: tuple[float, float]) -> tuple[int, int]:
    """Whole source pixel and weight in 1/2048 at a place within a pixel."""
    (i, in_row), (j, in_col) = divmod(row, NODE_STEP_PX), divmod(col, NODE_STEP_PX)
    s, t = (in_row + tap[0]) / NODE_STEP_PX, (in_col + tap[1]) / NODE_STEP_PX
    left = (1.0 - s) * nodes[i, j] + s * nodes[i + 1, j]
    right = (1.0 - s) * nodes[i, j + 1] + s * nodes[i + 1, j + 1]
    return divmod(int(np.floor(((1.0 - t) * left + t * right) * 2048 + 0.5)), 2048)


def sample(
    source: Uint8Array, valid: Uint8Array | None, x: tuple[int, int], y: tuple[int, int]
) -> list[int] | None:
    """Sums of 2^22 weights per band, None where a pixel with a weight is missing."""
    sums = [0] * source.shape[2]
    for row, weight_y in ((y[0], 2048 - y[1]), (y[0] + 1, y[1])):
        for col, weight_x in ((x[0], 2048 - x[1]), (x[0] + 1, x[1])):
            if weight_x and weight_y:
                if not (0 <= row < source.shape[0] and 0 <= col < source.shape[1]):
                    return None
                if valid is not None and not valid[row, col]:
                    return None
                for band, value in enumerate(source[row, col]):
                    sums[band] += weight_x * weight_y * int(value)
    return sums


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_bands=st.sampled_from([1, 2, 3, 4, 5, 9]),
    num_taps=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 60)),
    canvas=st.tuples(st.integers(1, 12), st.integers(1, 80)),
    scale=st.sampled_from([0.02, 0.3, 1.0, 1.9]),
    has_mask=st.booleans(),
    is_aligned=st.booleans(),
)
def test_kernel_equals_sums_pixel_by_pixel(
    seed: int,
    num_bands: int,
    num_taps: int,
    size: tuple[int, int],
    canvas: tuple[int, int],
    scale: float,
    has_mask: bool,
    is_aligned: bool,
) -> None:
    """Two images one after the other on a canvas that is partly painted."""
    rng = np.random.default_rng(seed)
    node_off = np.array([rng.integers(0, 128 - canvas[1] + 1), rng.integers(0, 64 - canvas[0] + 1)])
    mesh = np.meshgrid(np.arange(3) * 64.0, np.arange(2) * 64.0)
    pixels = np.zeros((num_bands, *canvas), np.uint8)
    valid = (rng.random(canvas) < rng.choice([0.0, 0.2])).astype(np.uint8)
    image_index = np.zeros(canvas, np.uint16)
    wanted = pixels.copy(), valid.copy(), image_index.copy()
    for index in (0, 5):
        source = rng.choice([0, 255, 77, 130], (*size, num_bands)).astype(np.uint8)
        mask = (rng.random(size) < 0.98).astype(np.uint8) if has_mask else None
        off = rng.integers(-3, 10**7, 2)
        # The canvas lies on the image, or at its edge.
        start = rng.uniform(-3, 8, 2) - np.round(node_off * scale) + off
        if is_aligned:
            x, y = (v - 0.5 + s for v, s in zip(mesh, off - node_off, strict=True))
        else:
            x, y = (
                v * scale + s + rng.normal(0, 0.5, v.shape)
                for v, s in zip(mesh, start, strict=True)
            )
        cell_ok = np.array([[True, rng.random() < 0.8]])
        paint_cells(
            source,
            np.zeros((1, 1), np.uint8) if mask is None else mask,
            has_mask,
            off,
            np.ascontiguousarray(x),
            np.ascontiguousarray(y),
            cell_ok,
            node_off,
            num_taps,
            np.array([0, canvas[0], 0, canvas[1]]),
            pixels,
            valid,
            image_index,
            index,
        )
        for row, col in np.argwhere(wanted[1] == 0):
            grid_row, grid_col = int(row + node_off[1]), int(col + node_off[0])
            taps = [(i + 0.5) / num_taps for i in range(num_taps)]
            parts = []
            for tap in [(i, j) for i in taps for j in taps]:
                col_at, row_at = (place(v, grid_row, grid_col, tap) for v in (x, y))
                at = (col_at[0] - off[0], col_at[1]), (row_at[0] - off[1], row_at[1])
                parts.append(sample(source, mask, *at))
            if cell_ok[0, grid_col // 64] and None not in parts:
                shift = 20 + 2 * num_taps
                totals = np.sum(parts, axis=0)
                wanted[0][:, row, col] = (totals + (1 << (shift - 1))) >> shift
                wanted[1][row, col], wanted[2][row, col] = 1, index
    for got, expected in zip((pixels, valid, image_index), wanted, strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("num_taps", [1, 2])
def test_white_stays_white(num_taps: int) -> None:
    """The largest sums there are: they must not overflow."""
    nodes = np.array([[1.3, 40.3], [1.3, 40.3]])
    pixels, valid = np.zeros((3, 64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    paint_cells(
        np.full((50, 50, 3), 255, np.uint8),
        np.zeros((1, 1), np.uint8),
        False,
        np.zeros(2, np.int64),
        nodes,
        np.ascontiguousarray(nodes.T),
        np.ones((1, 1), np.bool_),
        np.zeros(2, np.int64),
        num_taps,
        np.array([0, 64, 0, 64]),
        pixels,
        valid,
        np.zeros((64, 64), np.uint16),
        0,
    )
    assert valid.all()
    assert (pixels == 255).all()
