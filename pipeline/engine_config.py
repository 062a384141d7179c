"""Where and with what the stage that runs the network works."""

import dataclasses
import re
from typing import ClassVar

_RAM = re.compile(r"\d+(\.\d+)?\s*([KMGTP]i?)?B")
MAX_THREADS = 64
_ACCELERATOR = re.compile(r"type:[^;\s]+(;[^;\s]+)*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Resource hints of Beam for DetectBuildings, which engines that know none ignore, and threads.

    They change where and how fast a tile is worked on, never what comes out.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    accelerator: str | None = None
    """GPUs of a worker, in Beam's words: type:nvidia-l4;count:1;install-nvidia-driver."""
    min_ram: str | None = None
    """Least memory of a worker, such as 16GB."""
    read_threads: int | None = None
    """Tiles that a worker reads at once for a bundle; None: as many as its network needs beside it.
    Each takes the memory of a tile's pixels."""
    trace_threads: int | None = None
    """Tiles that a worker traces at once; None: likewise."""

    def __post_init__(self) -> None:
        """Check the wording, which engines check only when workers start."""
        if self.accelerator is not None and not _ACCELERATOR.fullmatch(self.accelerator):
            raise ValueError(
                f"accelerator = {self.accelerator!r}; expected type:NAME;count:N and options of "
                "the engine, such as type:nvidia-l4;count:1;install-nvidia-driver"
            )
        if self.min_ram is not None and not _RAM.fullmatch(self.min_ram):
            raise ValueError(f"min_ram = {self.min_ram!r}; expected a size such as 16GB")
        for name in ("read_threads", "trace_threads"):
            number = getattr(self, name)
            if number is not None and not 1 <= number <= MAX_THREADS:
                raise ValueError(f"{name} = {number}; expected 1 to {MAX_THREADS}, or null")

    @property
    def hints(self) -> dict[str, str]:
        """Arguments of `PTransform.with_resource_hints`; empty where nothing is asked for."""
        hints = {"accelerator": self.accelerator, "min_ram": self.min_ram}
        return {name: value for name, value in hints.items() if value}
