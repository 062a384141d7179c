"""Imports of network libraries without torch's compiler, which none of them needs to be imported.

torchvision imports a function of the compiler that only detectors call, timm marks some functions
as not to be compiled: either brings torch._dynamo with sympy and triton, 860 modules, two seconds
and a tenth of a gigabyte in every worker. Here both meet a stand-in that remembers what was marked,
and brings the compiler as soon as anything else is asked for.
"""

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

COMPILER = "torch._dynamo"
_UTILS = f"{COMPILER}.utils"


@contextlib.contextmanager
def compiler_deferred() -> Iterator[None]:
    """Let torch's compiler be imported only when something of it is used.

    Without effect where it is loaded already. Afterwards it can be imported as ever.
    """
    if COMPILER in sys.modules:
        yield
        return
    compiler, utils = _StandIn(COMPILER), _StandIn(_UTILS)
    # Attributes of instances, so that whatever else is asked for goes to `__getattr__`.
    compiler.__dict__.update(__path__=[], utils=utils, disable=_disable)
    utils.__dict__.update(is_compile_supported=_is_compile_supported)
    sys.modules.update({COMPILER: compiler, _UTILS: utils})
    try:
        yield
    finally:
        _remove_stand_ins()


class _StandIn(ModuleType):
    """A module that gives way to the real one when it does not know an attribute."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(_real(self.__name__), name)


def _real(name: str) -> Any:
    _remove_stand_ins()
    return importlib.import_module(name)


def _remove_stand_ins() -> None:
    for name in (_UTILS, COMPILER):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


def _disable(
    fn: Callable[..., Any] | None = None, recursive: bool = True, **options: Any
) -> Callable[..., Any]:
    """`torch._dynamo.disable` that asks the compiler when a plain function is called.

    The mark keeps the compiler from looking into it before.
    """
    if fn is None:
        return lambda found: _disable(found, recursive, **options)
    if not (recursive and isinstance(fn, FunctionType)):
        # Of classes, or of a function but not of what it calls.
        return _real(COMPILER).disable(fn, recursive, **options)  # type: ignore[no-any-return]

    @functools.wraps(fn)
    def not_compiled(*args: Any, **kwargs: Any) -> Any:
        if COMPILER not in sys.modules:
            # Nothing is compiled here and now.
            return fn(*args, **kwargs)
        return _real(COMPILER).disable(fn, **options)(*args, **kwargs)

    not_compiled._torchdynamo_disable = True  # type: ignore[attr-defined]
    return not_compiled


def _is_compile_supported(device_type: str) -> bool:
    return bool(_real(_UTILS).is_compile_supported(device_type))
