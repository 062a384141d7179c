"""Networks built without random weights, for those that get theirs from a file."""

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_FILLS = (Tensor.normal_, Tensor.uniform_)


class Uninitialised(TorchFunctionMode):
    """Within it `torch.nn.init` leaves tensors as they are.

    Their values are whatever memory held, and memory that nobody writes to costs nothing.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Pass a call on, unless it fills a tensor by chance."""
        if getattr(func, "__module__", None) == "torch.nn.init" or func in _FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
