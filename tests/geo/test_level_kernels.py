"""Values by table against numpy's own indexing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geo.level_kernels import look_up_bytes, look_up_levels, look_up_products


@given(
    seed=st.integers(0, 2**32 - 1),
    bands=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    bits=st.sampled_from([np.uint16, np.uint32]),
)
def test_levels_are_looked_up_and_nothing_where_not_valid(
    seed: int, bands: int, height: int, width: int, bits: type
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (bands, height + 2, width + 3), dtype=np.uint8)[:, 1:-1, 2:-1]
    valid = rng.random((height, width)) < rng.random()
    tables = rng.integers(0, np.iinfo(bits).max, (bands, 256)).astype(bits)
    images = np.full((height, width, bands), 9, bits)
    look_up_levels(pixels, valid, tables, images)
    for band in range(bands):
        expected = np.where(valid, tables[band][pixels[band]], 0)
        np.testing.assert_array_equal(images[:, :, band], expected)


def test_read_only_pixels_will_do() -> None:
    pixels, valid = np.full((1, 1, 2), 3, np.uint8), np.array([[True, False]])
    pixels.setflags(write=False)
    valid.setflags(write=False)
    images = np.ones((1, 2, 1), np.uint16)
    look_up_levels(pixels, valid, np.arange(256, dtype=np.uint16)[None] * 2, images)
    assert images.ravel().tolist() == [6, 0]


@given(seed=st.integers(0, 2**32 - 1))
def test_products_are_rounded_as_numpy_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 1 << 16), dtype=np.float32)
    first[:1000], second[:1000] = 1.0, (np.arange(1000) % 256 + 0.5) / 255  # ties, or nearly
    logits = rng.integers(0, 1 << 16, (5, 7, 2)).astype(np.uint16).transpose(2, 0, 1)
    logits[:, 0] %= 1000
    levels = np.empty((5, 7), np.uint8)
    look_up_products(logits, first, second, levels)
    product = first[logits[0]] * second[logits[1]] * np.float32(255)
    np.testing.assert_array_equal(levels, np.rint(product).astype(np.uint8))


def test_bytes_are_looked_up() -> None:
    table = (np.arange(1 << 16) % 251).astype(np.uint8)
    logits = np.array([[0, 250, 251, 65_535]], np.uint16)
    levels = np.empty((1, 4), np.uint8)
    look_up_bytes(logits, table, levels)
    assert levels.tolist() == [[0, 250, 0, 65_535 % 251]]
