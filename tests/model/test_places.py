import dataclasses

import numpy as np
import pytest
from place_drawings import checkered_place

from geo.errors import EveryroofError
from model.errors import PlaceError
from model.places import MAX_INSTANCES, check_split


def test_facts_of_a_place():
    known = np.ones((192, 256), np.bool_)
    known[:, :16] = False
    place = checkered_place(known=known)
    assert place.shape == (192, 256)
    assert place.known_area_m2 == pytest.approx(192 * 240 * 0.09)
    # Every second of 12 x 16 blocks; the first column holds 6 of them.
    assert place.num_instances == 96 - 6


def _ids(low, high):
    ids = np.zeros((192, 256), np.int32)
    ids[0, :2] = low, high
    return ids


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": np.zeros((10, 10, 3), np.uint8)}, "image is uint8 of shape"),
        ({"image": np.zeros((192, 256, 3), np.float32)}, "image is float32"),
        ({"ids": np.zeros((192, 256), np.int64)}, "ids is int64"),
        ({"ids": np.zeros((192, 256, 1), np.int32)}, "expected 2 axes"),
        ({"ids": np.zeros((0, 256), np.int32)}, "expected 2 axes"),
        ({"ids": _ids(-1, 0)}, "ids run from -1"),
        ({"ids": _ids(0, MAX_INSTANCES + 1)}, "to 65536"),
        ({"known": np.ones((192, 256), np.uint8)}, "known is uint8"),
        ({"valid": np.zeros((192, 256), np.bool_)}, "known where there is no image"),
        ({"split": "test"}, "split = 'test'"),
        ({"gsd_m": 0.0}, "gsd_m = 0"),
        ({"weight": -1.0}, "weight = -1"),
        ({"weight": float("nan")}, "weight = nan"),
    ],
)
def test_parts_that_do_not_fit_are_refused(fields, words):
    with pytest.raises(PlaceError, match=words) as caught:
        checkered_place(**fields)
    assert "drawn/one" in str(caught.value)
    assert isinstance(caught.value, EveryroofError)


def test_a_region_lies_on_one_side():
    one = checkered_place("a/1", region="a/north")
    other = dataclasses.replace(one, name="a/2", split="validation")
    check_split([one, dataclasses.replace(other, region="a/south")])
    with pytest.raises(PlaceError, match="region a/north"):
        check_split([one, other])
    with pytest.raises(PlaceError, match="two places are called a/1"):
        check_split([one, one])
