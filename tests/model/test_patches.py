"""Patches of missing ground against the plain product with the mask."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model.patches import missing_patches, zero_missing


@given(
    mask=hnp.arrays(np.bool_, st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9))),
    factor=st.sampled_from([8, 16, 32, 64, 128]),
)
def test_zeroing_patches_is_multiplying_by_the_mask(mask: np.ndarray, factor: int) -> None:
    keep = torch.from_numpy(mask)[:, None].to(torch.float32)
    shape = (len(mask), 3, *mask.shape[1:])
    images = torch.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
    expected = images * keep
    zero_missing(images, missing_patches(keep, factor))
    assert torch.equal(images, expected)


def test_patches_do_not_overlap_and_leave_whole_ground_alone() -> None:
    keep = torch.ones(1, 1, 640, 640)
    keep[0, 0, 130:200, :] = 0
    keep[0, 0, 600, 600] = 0
    patches = missing_patches(keep, 1)
    counts = np.zeros((640, 640), int)
    for patch in patches:
        counts[patch.rows, patch.cols] += 1
    assert counts.max() == 1
    assert counts.sum() == 2 * 64 * 640 + 64 * 64  # the blocks that hold missing ground
    assert [patch.keep is None for patch in patches] == [False, False]


def test_a_patch_without_any_valid_pixel_needs_no_mask() -> None:
    patches = missing_patches(torch.zeros(1, 1, 128, 64), 1)
    assert [(patch.image, patch.rows, patch.cols, patch.keep) for patch in patches] == [
        (0, slice(0, 128), slice(0, 64), None)
    ]
