"""Beam's runner made quick: the same answers, and stages that end at once."""

import functools

import apache_beam as beam
import pytest
from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.transforms import core, userstate
from apache_beam.transforms.userstate import CombiningValueStateSpec
from apache_beam.utils.counters import CounterFactory

from pipeline.quick_beam import SAMPLING_MS, make_runner_quick, remembering


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    for owner, name in (
        (core, "get_function_args_defaults"),
        (userstate, "get_dofn_specs"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    defaults = StateSampler.__init__.__defaults__
    yield
    StateSampler.__init__.__defaults__ = defaults


class _Counting(beam.DoFn):
    SUM = CombiningValueStateSpec("sum", sum)
    PARAM = beam.DoFn.StateParam(SUM)

    def process(self, element, plain=3, total=PARAM):
        yield element


def _plain(a, b=2, *rest, c=4):
    return a, b, rest, c


def test_arguments_are_remembered_as_they_are():
    remembered = remembering(core.get_function_args_defaults)
    callables = [_plain, _Counting().process, _Counting.process, beam.DoFn().setup, str.upper]
    for called in [*callables, functools.partial(_plain, 1), int, *callables]:
        names, defaults = remembered(called)
        assert (names, defaults) == core.get_function_args_defaults(called)
        # What a caller does with its list is its own affair.
        names.append("spoilt")


def test_states_are_found_as_ever():
    stateful, plain = _Counting(), beam.Map(_plain).fn
    expected = userstate.get_dofn_specs(stateful)
    assert expected == ({_Counting.SUM}, set())
    make_runner_quick()
    make_runner_quick()
    for _ in range(2):
        assert userstate.get_dofn_specs(stateful) == expected
        assert userstate.is_stateful_dofn(stateful)
        assert not userstate.is_stateful_dofn(plain)
        # Another one of the same class, with a function of its own.
        assert not userstate.is_stateful_dofn(beam.FlatMap(str.split).fn)


def test_the_end_of_a_stage_waits_for_a_short_sleep():
    make_runner_quick()
    sampler = StateSampler("stage", CounterFactory())
    assert sampler.sampling_period_ms == SAMPLING_MS


def test_another_beam_is_left_as_it_is():
    StateSampler.__init__.__defaults__ = (77,)
    make_runner_quick()
    assert StateSampler.__init__.__defaults__ == (77,)
