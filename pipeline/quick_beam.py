"""Beam's local runner, quick for small jobs.

The runner was made for long stages. For a small job it takes 0.35 s to look up the same methods'
arguments again and again, and at the end of every stage it waits for a thread to wake up. Both is
mended from outside, and only where Beam is as we know it: otherwise a job takes longer.
"""

import functools
import inspect
import logging
import types
import weakref
from collections.abc import Callable
from typing import Any

from apache_beam.runners.worker import statesampler
from apache_beam.transforms import core, userstate

logger = logging.getLogger(__name__)

SAMPLING_MS = 5
"""Milliseconds between two looks at which step is at work; it costs no more than a wake-up."""
_BEAMS_SAMPLING_MS = 200
_Arguments = tuple[list[str], list[Any]]


def make_runner_quick() -> None:
    """Make Beam's local runner quick, in this process and as far as this Beam can be."""
    _end_stages_at_once()
    _remember_arguments()


def _end_stages_at_once() -> None:
    """Let the thread that samples a stage sleep shortly.

    The end of a stage waits for it, and it sleeps longer and longer: a fifth of the time that the
    stage has taken, 0.2 s at most.
    """
    start = statesampler.StateSampler.__init__
    if start.__defaults__ == (_BEAMS_SAMPLING_MS,):
        start.__defaults__ = (SAMPLING_MS,)
    elif start.__defaults__ != (SAMPLING_MS,):
        logger.debug("Beam's stages end in Beam's own time: %s", start.__defaults__)


def _remember_arguments() -> None:
    """Look up once which states a DoFn has, and the arguments of a function.

    Beam looks for a DoFn's states among the arguments of all its methods, inherited ones too, and
    does so eight times for each.
    """
    for owner, name, remember in (
        (core, "get_function_args_defaults", remembering),
        (userstate, "get_dofn_specs", remembering_each),
    ):
        look_up = getattr(owner, name, None)
        if isinstance(look_up, types.FunctionType) and not hasattr(look_up, "__wrapped__"):
            setattr(owner, name, remember(look_up))


def remembering_each(look_up: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same look-up, done once for each object as long as it is there."""
    known: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    @functools.wraps(look_up)
    def remembered(asked: Any) -> Any:
        if asked not in known:
            known[asked] = look_up(asked)
        return known[asked]

    return remembered


def remembering(look_up: Callable[[Any], _Arguments]) -> Callable[[Any], _Arguments]:
    """The same look-up, done once for each function; for other callables every time."""
    known: dict[tuple[types.FunctionType, bool], _Arguments] = {}

    @functools.wraps(look_up)
    def remembered(called: Any) -> _Arguments:
        is_bound = inspect.ismethod(called)
        function = called.__func__ if is_bound else called
        if not isinstance(function, types.FunctionType):
            return look_up(called)
        # A bound method has all arguments but the first.
        key = (function, is_bound)
        if key not in known:
            known[key] = look_up(called)
        names, defaults = known[key]
        return [*names], [*defaults]

    return remembered
