import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model.tta import (
    NUM_SYMMETRIES,
    apply_symmetry,
    mean_to_uint8,
    to_fixed_point,
    undo_symmetry,
)

IMAGE = torch.arange(2 * 3 * 5 * 5).reshape(2, 3, 5, 5)


def test_undoing_gives_the_image_back() -> None:
    for index in range(NUM_SYMMETRIES):
        assert torch.equal(undo_symmetry(apply_symmetry(IMAGE, index), index), IMAGE)


def test_the_eight_symmetries_differ_and_are_a_group() -> None:
    square = torch.arange(9).reshape(1, 3, 3)
    images = {tuple(apply_symmetry(square, i).flatten().tolist()) for i in range(NUM_SYMMETRIES)}
    assert len(images) == NUM_SYMMETRIES
    for i in range(NUM_SYMMETRIES):
        for j in range(NUM_SYMMETRIES):
            both = apply_symmetry(apply_symmetry(square, i), j)
            assert tuple(both.flatten().tolist()) in images


@given(
    hnp.arrays(np.float32, (NUM_SYMMETRIES, 7), elements=st.floats(0, 1, width=32)),
    st.permutations(range(NUM_SYMMETRIES)),
)
def test_the_mean_is_rounded_once_and_free_of_order(values: np.ndarray, order: list[int]) -> None:
    terms = to_fixed_point(torch.from_numpy(values))
    mean = mean_to_uint8(terms.sum(dim=0, dtype=torch.int32)).numpy()
    exact = 255 * values.astype(np.float64).mean(axis=0)
    assert np.abs(mean - exact).max() <= 0.5 + 255 * 2.0**-21
    total = torch.zeros(7, dtype=torch.int32)
    for index in order:
        total.add_(terms[index])
    np.testing.assert_array_equal(mean_to_uint8(total).numpy(), mean)


def test_the_extremes_do_not_overflow() -> None:
    ones = to_fixed_point(torch.ones(3)) * NUM_SYMMETRIES
    assert mean_to_uint8(ones).tolist() == [255, 255, 255]
    assert mean_to_uint8(torch.zeros(2, dtype=torch.int32)).tolist() == [0, 0]
