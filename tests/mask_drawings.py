"""Masks that are hard on labelling, tracing and seams, and ways to compare what came of them."""

import dataclasses

import cv2
import numpy as np
from hypothesis import strategies as st

from geo.instances import Instances
from geo.pixel_window import PixelWindow

THRESHOLD = 128


def draw_noise(rng: np.random.Generator, shape: tuple[int, int], density: float) -> np.ndarray:
    return rng.random(shape) < density


def draw_blobs(rng: np.random.Generator, shape: tuple[int, int], density: float) -> np.ndarray:
    smooth = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 1.5)
    return smooth > np.quantile(smooth, 1 - density) if smooth.size else smooth > 0


def draw_spiral(shape: tuple[int, int]) -> np.ndarray:
    """One path of width 1 that winds inwards, with gaps of 1."""
    mask = np.zeros(shape, bool)
    row, col, d_row, d_col = 0, 0, 0, 1
    mask[0, 0] = True
    turns = 0
    while turns < 2:
        next_row, next_col = row + d_row, col + d_col
        beyond = (next_row + d_row, next_col + d_col)
        is_inside = 0 <= next_row < shape[0] and 0 <= next_col < shape[1]
        is_taken = 0 <= beyond[0] < shape[0] and 0 <= beyond[1] < shape[1] and bool(mask[beyond])
        if is_inside and not is_taken and not mask[next_row, next_col]:
            row, col, turns = next_row, next_col, 0
            mask[row, col] = True
        else:
            d_row, d_col, turns = d_col, -d_row, turns + 1
    return mask


def draw_rings(shape: tuple[int, int]) -> np.ndarray:
    """Rings within rings, each one pixel wide with one pixel between them."""
    row, col = np.indices(shape)
    depth = np.minimum.reduce([row, col, shape[0] - 1 - row, shape[1] - 1 - col])
    return depth % 2 == 0


def draw_checkerboard(shape: tuple[int, int]) -> np.ndarray:
    """Diagonal touches only."""
    row, col = np.indices(shape)
    return (row + col) % 2 == 0


def draw_comb(shape: tuple[int, int]) -> np.ndarray:
    """Teeth that only meet in the last row."""
    mask = np.zeros(shape, bool)
    mask[:, ::2] = True
    mask[-1] = True
    return mask


def draw_lattice(shape: tuple[int, int]) -> np.ndarray:
    """Holes of one pixel, which touch each other in corners."""
    mask = ~draw_checkerboard(shape)
    mask[::2] = True
    return mask


def probability_of(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random probabilities, at or above the threshold exactly where the mask is set."""
    return np.where(
        mask,
        rng.integers(THRESHOLD, 256, mask.shape),
        rng.integers(0, THRESHOLD, mask.shape),
    ).astype(np.uint8)


def window_of(mask: np.ndarray, row_off: int = 0, col_off: int = 0) -> PixelWindow:
    return PixelWindow(col_off, row_off, mask.shape[1], mask.shape[0])


@st.composite
def masks(draw: st.DrawFn, max_side: int = 40) -> np.ndarray:
    """Masks of many kinds and shapes, not square, empty and full ones among them."""
    shape = (draw(st.integers(1, max_side)), draw(st.integers(1, max_side)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(
        st.sampled_from(["noise", "blobs", "spiral", "rings", "checkers", "comb", "lattice"])
    )
    density = draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 1.0]))
    if kind in ("noise", "blobs"):
        return (draw_noise if kind == "noise" else draw_blobs)(rng, shape, density)
    drawing = {
        "spiral": draw_spiral,
        "rings": draw_rings,
        "checkers": draw_checkerboard,
        "comb": draw_comb,
        "lattice": draw_lattice,
    }[kind](shape)
    if draw(st.booleans()):
        drawing ^= rng.random(shape) < 0.05
    return drawing


def rasterize(instances: Instances, window: PixelWindow) -> np.ndarray:
    """Instance numbers from 1, 0 elsewhere; later ones overwrite earlier ones."""
    raster = np.zeros((window.height, window.width), np.int64)
    for index in range(len(instances)):
        for run in range(instances.run_offsets[index], instances.run_offsets[index + 1]):
            row = instances.run_row[run] - window.row_off
            start = instances.run_start[run] - window.col_off
            raster[row, start : instances.run_end[run] - window.col_off] = index + 1
    return raster


def assert_same_arrays(left: object, right: object) -> None:
    """Two dataclasses of arrays are equal to the byte, dtypes included."""
    assert type(left) is type(right)
    for field in dataclasses.fields(left):  # type: ignore[arg-type]
        a, b = getattr(left, field.name), getattr(right, field.name)
        if dataclasses.is_dataclass(a):
            assert_same_arrays(a, b)
            continue
        assert (a.dtype, a.shape) == (b.dtype, b.shape), field.name
        assert a.tobytes() == b.tobytes(), field.name


def assert_invariants(instances: Instances) -> None:
    """What `Instances` promises about its runs and counts."""
    n = len(instances)
    assert len(instances.run_offsets) == len(instances.image_offsets) == n + 1
    assert instances.run_offsets[0] == instances.image_offsets[0] == 0
    assert instances.run_offsets[-1] == len(instances.run_row) == len(instances.run_end)
    assert instances.image_offsets[-1] == len(instances.image_index)
    first = [tuple(pixel) for pixel in instances.first_pixels()]
    assert first == sorted(first)
    for i in range(n):
        runs = slice(instances.run_offsets[i], instances.run_offsets[i + 1])
        row, start, end = (
            values[runs] for values in (instances.run_row, instances.run_start, instances.run_end)
        )
        assert len(row) > 0
        assert (end > start).all()
        same_row = row[1:] == row[:-1]
        assert (row[1:] >= row[:-1]).all()
        assert (start[1:][same_row] > end[:-1][same_row]).all()
        assert (end - start).sum() == instances.num_pixels[i]
        images = slice(instances.image_offsets[i], instances.image_offsets[i + 1])
        assert (np.diff(instances.image_index[images]) > 0).all()
        assert instances.image_pixels[images].sum() == instances.num_pixels[i]
