"""How a segmenter runs its network, and what it has done so far."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from model.devices import Device, Precision


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """How the network is run."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    device: Device = "auto"
    """`auto` takes CUDA, then MPS, then the CPU."""
    precision: Precision = "auto"
    """`auto` takes bf16 where the device has instructions for it."""
    window_px: int | None = None
    """Side of a core; a tile is a whole number of cores. None takes the bundle's (mostly 1024)."""
    margin_px: int | None = None
    """Pixels seen around a core. None takes the bundle's (mostly 128)."""
    batch_size: int | None = None
    """Windows per batch. None takes 1 on a CPU, on a GPU what half of its memory holds."""
    tta: Literal["none", "d4"] = "none"
    """`d4` averages over the eight turns and reflections: eight times the work."""
    first_look: float | None = None
    """Level of a first look at half the resolution (`model.first_look`), 0 to 1: cores where it
    shows no pixel of at least this probability are left out. None looks at all ground in full. In
    fp32 on a CPU the bits of so small a window depend on the threads, so there is one stream."""
    compile: bool = False
    """Use torch.compile instead of fused layers (`model.window_network`), which on a CPU are faster
    and need no half minute of compiling."""
    num_threads: int | None = None
    """Threads on a CPU. None takes torch's number rounded down to a power of two: these give equal
    bits. Others now and then do not, so they enter the fingerprint."""
    num_streams: int | None = None
    """Batches at once on a CPU, each on its share of the threads, each with the memory of a forward
    pass (`model.streams`). Only where that changes no bits; None takes as many as there are
    threads, up to four, or one where several would change bits."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, low in (
            ("window_px", 1),
            ("margin_px", 0),
            ("batch_size", 1),
            ("num_threads", 1),
            ("num_streams", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} = {value}; expected at least {low}, or none")
        if self.first_look is not None and not 0 < self.first_look < 1:
            raise ValueError(
                f"first_look = {self.first_look}; expected a probability between 0 and 1, or none"
            )


@dataclass
class SegmentStats:
    """What a segmenter has done so far.

    Attributes:
        batch_size: windows per batch now.
        num_windows: windows that went through the network.
        num_skipped: cores without a valid pixel.
        num_left_out: cores that a first look found empty.
        num_padding: empty windows that filled batches up.
        num_halvings: how often the batch was halved because memory ran out.
        num_streams: batches at once now.
    """

    batch_size: int
    num_windows: int = 0
    num_skipped: int = 0
    num_left_out: int = 0
    num_padding: int = 0
    num_halvings: int = 0
    num_streams: int = 1
