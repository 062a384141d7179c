"""What lies just outside a building, against a slow oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_drawings import masks

from geo.rim import contrast, find_rim


@settings(deadline=None, max_examples=80)
@given(mask=masks(max_side=16), seed=st.integers(0, 2**32 - 1))
def test_rim_pixel_by_pixel(mask, seed):
    probability = np.random.default_rng(seed).integers(0, 256, mask.shape).astype(np.uint8)
    rim = find_rim(probability, mask)
    assert (rim.total.dtype, rim.count.dtype) == (np.uint16, np.uint8)
    for row, col in np.ndindex(mask.shape):
        around = [(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)]
        outside = [
            int(probability[r, c])
            for r, c in around
            if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and not mask[r, c]
        ]
        assert rim.total[row, col] == (sum(outside) if mask[row, col] else 0)
        assert rim.count[row, col] == (len(outside) if mask[row, col] else 0)


def test_a_crisp_building_is_believed_and_half_a_roof_is_not():
    probability = np.zeros((6, 12), np.uint8)
    probability[1:5, 1:5] = probability[1:5, 7:11] = 204
    # The second roof goes on where a cut parts it.
    probability[1:5, 11] = 204
    is_building = probability >= 100
    is_building[:, 11] = False
    rim = find_rim(probability, is_building)
    parts = [np.s_[:, :6], np.s_[:, 6:]]
    sums = [np.array([field[part].sum() for part in parts]) for field in (rim.total, rim.count)]
    assert sums[1].tolist() == [16, 16]
    assert sums[0].tolist() == [0, 4 * 204]
    found = contrast(np.array([0.8, 0.8]), *sums)
    assert found == pytest.approx([0.8, 0.8 * (1 - 0.8 / 4)])


def test_a_rim_beyond_the_raster_counts_as_ground():
    none = np.zeros(1, np.int64)
    assert contrast(np.array([0.9]), none, none).tolist() == [0.9]
