import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_drawings import (
    THRESHOLD,
    assert_invariants,
    assert_same_arrays,
    draw_comb,
    draw_noise,
    masks,
    probability_of,
    rasterize,
    window_of,
)

from geo import components
from geo.components import exceeds_extent, find_instances, split_oversize
from geo.pixel_window import PixelWindow
from geo.rim import Rim


@settings(deadline=None, max_examples=150)
@given(
    mask=masks(),
    seed=st.integers(0, 2**32 - 1),
    row_off=st.sampled_from([0, -17, 123_456, -33_000_000]),
    col_off=st.sampled_from([0, 5, 2_700_000]),
)
def test_instances_equal_opencv_components(mask, seed, row_off, col_off):
    rng = np.random.default_rng(seed)
    probability = probability_of(mask, rng)
    images = rng.integers(0, 4, mask.shape).astype(np.uint16) * 1000
    window = window_of(mask, row_off, col_off)
    rim = Rim(
        rng.integers(0, 1021, mask.shape).astype(np.uint16),
        rng.integers(0, 5, mask.shape).astype(np.uint8),
    )
    found = find_instances(
        probability, threshold=THRESHOLD, window=window, image_index=images, rim=rim
    )
    assert_invariants(found)

    num, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    raster = rasterize(found, window)
    assert len(found) == num - 1
    assert ((raster > 0) == mask).all()
    # One to one: as many pairs of (ours, theirs) as components.
    assert len(np.unique(np.stack([raster[mask], labels[mask]]), axis=1).T) == len(found)
    for index in range(len(found)):
        pixels = raster == index + 1
        assert found.num_pixels[index] == pixels.sum()
        assert found.probability_sum[index] == probability[pixels].sum()
        assert found.rim_sum[index] == rim.total[pixels].sum()
        assert found.rim_count[index] == rim.count[pixels].sum()
        span = slice(found.image_offsets[index], found.image_offsets[index + 1])
        expected = np.unique(images[pixels], return_counts=True)
        np.testing.assert_array_equal(found.image_index[span], expected[0])
        np.testing.assert_array_equal(found.image_pixels[span], expected[1])


def test_known_answer():
    probability = np.array(
        [
            [200, 0, 0, 130, 131],
            [128, 0, 0, 0, 132],
            [127, 255, 0, 0, 133],
        ],
        np.uint8,
    )
    found = find_instances(probability, threshold=128, window=PixelWindow(10, -3, 5, 3))
    np.testing.assert_array_equal(found.run_row, [-3, -2, -3, -2, -1, -1])
    np.testing.assert_array_equal(found.run_start, [10, 10, 13, 14, 14, 11])
    np.testing.assert_array_equal(found.run_end, [11, 11, 15, 15, 15, 12])
    np.testing.assert_array_equal(found.run_offsets, [0, 2, 5, 6])
    np.testing.assert_array_equal(found.num_pixels, [2, 4, 1])
    np.testing.assert_array_equal(found.probability_sum, [328, 526, 255])
    np.testing.assert_array_equal(found.image_index, [0, 0, 0])
    np.testing.assert_array_equal(found.image_pixels, found.num_pixels)
    np.testing.assert_array_equal(found.first_pixels(), [[-3, 10], [-3, 13], [-1, 11]])


@pytest.mark.parametrize("width", [1, 7, 8, 9, 15, 16, 17, 64, 65])
def test_full_rows_of_any_width_are_one_run_each(width):
    probability = np.full((3, width), 255, np.uint8)
    found = find_instances(probability, threshold=1, window=PixelWindow(0, 0, width, 3))
    np.testing.assert_array_equal(found.run_start, [0, 0, 0])
    np.testing.assert_array_equal(found.run_end, [width] * 3)
    assert found.probability_sum.tolist() == [3 * 255 * width]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (5, 5)])
def test_nothing_to_find(shape):
    probability = np.full(shape, 127, np.uint8)
    for images in (None, np.zeros(shape, np.uint16)):
        found = find_instances(
            probability, threshold=128, window=window_of(probability), image_index=images
        )
        assert len(found) == 0
        assert_invariants(found)


@pytest.mark.parametrize("strip_pixels", [1, 100, 1000])
def test_strips_do_not_matter(monkeypatch, strip_pixels):
    rng = np.random.default_rng(1)
    probability = probability_of(draw_noise(rng, (70, 61), 0.6), rng)
    window = window_of(probability, -50, 7)
    whole = find_instances(probability, threshold=THRESHOLD, window=window)
    monkeypatch.setattr(components, "_STRIP_PIXELS", strip_pixels)
    assert_same_arrays(find_instances(probability, threshold=THRESHOLD, window=window), whole)


def test_input_may_be_read_only_and_strided_and_is_not_changed():
    rng = np.random.default_rng(2)
    mask = draw_noise(rng, (40, 40), 0.5)
    large = np.zeros((80, 80), np.uint8)
    large[::2, ::2] = probability_of(mask, rng)
    images = np.zeros((40, 40), np.uint16)
    images[:, 20:] = 3
    strided = large[::2, ::2]
    before = large.copy()
    large.flags.writeable = images.flags.writeable = False
    found = find_instances(strided, threshold=THRESHOLD, window=window_of(mask), image_index=images)
    expected = find_instances(
        strided.copy(), threshold=THRESHOLD, window=window_of(mask), image_index=images.copy()
    )
    assert_same_arrays(found, expected)
    np.testing.assert_array_equal(large, before)


def test_one_image_equals_an_index_of_zeros():
    rng = np.random.default_rng(3)
    mask = draw_noise(rng, (50, 50), 0.5)
    arguments = {"threshold": THRESHOLD, "window": window_of(mask)}
    probability = probability_of(mask, rng)
    zeros = np.zeros(mask.shape, np.uint16)
    assert_same_arrays(
        find_instances(probability, **arguments),
        find_instances(probability, image_index=zeros, **arguments),
    )


def test_a_long_comb_joins_late():
    mask = draw_comb((300, 301))
    found = find_instances(
        np.where(mask, 255, 0).astype(np.uint8), threshold=255, window=window_of(mask)
    )
    assert found.num_pixels.tolist() == [mask.sum()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0}, "threshold = 0"),
        ({"threshold": 256}, "threshold = 256"),
        ({"probability": np.zeros((4, 4))}, "probability is float64"),
        ({"probability": np.zeros((4, 5), np.uint8)}, r"expected uint8 \(4, 4\)"),
        ({"image_index": np.zeros((4, 4), np.uint8)}, "image_index is uint8"),
        ({"image_index": np.zeros((3, 4), np.uint16)}, r"expected uint16 \(4, 4\)"),
        (
            {"rim": Rim(np.zeros((4, 4), np.uint16), np.zeros((3, 4), np.uint8))},
            r"rim.count is uint8 \(3, 4\); expected uint8 \(4, 4\)",
        ),
    ],
)
def test_wrong_input_is_named(change, message):
    arguments = {
        "probability": np.zeros((4, 4), np.uint8),
        "threshold": 128,
        "window": PixelWindow(0, 0, 4, 4),
    }
    with pytest.raises(ValueError, match=message):
        find_instances(**(arguments | change))


def test_split_oversize_counts_both_directions():
    probability = np.zeros((12, 12), np.uint8)
    probability[0:5, 0] = 255
    probability[0, 2:8] = 255
    probability[7:12, 7:12] = 255
    found = find_instances(probability, threshold=128, window=window_of(probability, -6))
    fitting, oversize = split_oversize(found, 5)
    assert fitting.first_pixels().tolist() == [[-6, 0], [1, 7]]
    assert oversize.first_pixels().tolist() == [[-6, 2]]
    assert oversize.num_pixels.tolist() == [6]
    assert len(split_oversize(found, 6)[1]) == 0
    with pytest.raises(ValueError, match="max_extent_px = 0"):
        exceeds_extent(found.bounds(), 0)


def test_results_own_their_memory():
    """Worst-case buffers of the kernels must not stay alive behind small results."""
    found = find_instances(
        np.full((8, 8), 200, np.uint8), threshold=128, window=PixelWindow(0, 0, 8, 8)
    )
    for field in dataclasses.fields(found):
        array = getattr(found, field.name)
        base = array if array.base is None else array.base
        assert getattr(base, "nbytes", array.nbytes) <= 2 * max(array.nbytes, 16), field.name
