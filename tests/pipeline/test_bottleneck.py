"""Where the time went, and what is blamed for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bottleneck import ADVICE, NAMES, SHUFFLES, bottleneck_sentence, time_shares

STAGES = st.dictionaries(
    st.sampled_from([*NAMES, "Detect.read", "Detect.trace"]), st.floats(0, 1e6)
)


def test_reading_that_hides_behind_the_network_is_not_blamed():
    stage_s = {"Detect.read": 90.0, "Detect.segment": 80.0, "Detect.wait_read": 1.0}
    shares = time_shares(stage_s, work_s=100.0, num_workers=1)
    assert list(shares)[:3] == ["network", SHUFFLES, "reading"]
    assert shares["network"] == 0.8
    assert shares["reading"] == 0.01


def test_reading_that_the_network_waits_for_is_the_bottleneck():
    stage_s = {"Detect.read": 90.0, "Detect.segment": 10.0, "Detect.wait_read": 80.0}
    shares = time_shares(stage_s, work_s=100.0, num_workers=1)
    assert next(iter(shares)) == "reading"
    assert bottleneck_sentence(shares).startswith(
        "The bottleneck is reading: 80% of the workers' time (network 10%, shuffles and waiting 10%"
    )
    assert ADVICE["reading"] in bottleneck_sentence(shares)


def test_workers_that_stand_still_are_time_that_nobody_used():
    shares = time_shares({"Detect.segment": 50.0}, work_s=100.0, num_workers=4)
    assert shares[SHUFFLES] == pytest.approx(0.875)


def test_without_times_there_is_nothing_to_say():
    assert time_shares({}, work_s=0.0, num_workers=0) == {}
    assert bottleneck_sentence({}) == ""


@given(STAGES, st.floats(0, 1e6), st.integers(0, 64))
def test_shares_are_parts_of_one_whole(stage_s, work_s, num_workers):
    shares = time_shares(stage_s, work_s, num_workers)
    assert not shares or sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert all(0 <= share <= 1 for share in shares.values())
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
