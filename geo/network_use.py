"""How much this process asked of servers: GDAL's own count, and our own requests."""

import contextlib
import ctypes
import dataclasses
import functools
import json
import threading
from typing import Any

import rasterio._env


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkUse:
    """What was asked of servers.

    Attributes:
        num_requests: requests; ranges that GDAL asks for at the same time count as one.
        num_bytes: bytes of files that came back.
    """

    num_requests: int = 0
    num_bytes: int = 0

    def __add__(self, other: "NetworkUse") -> "NetworkUse":
        return NetworkUse(
            num_requests=self.num_requests + other.num_requests,
            num_bytes=self.num_bytes + other.num_bytes,
        )

    def __sub__(self, other: "NetworkUse") -> "NetworkUse":
        return NetworkUse(
            num_requests=self.num_requests - other.num_requests,
            num_bytes=self.num_bytes - other.num_bytes,
        )


_lock = threading.Lock()
_own = NetworkUse()
_taken = NetworkUse()


def note_request(num_bytes: int = 0) -> None:
    """Count a request that GDAL does not know of."""
    global _own
    with _lock:
        _own += NetworkUse(num_requests=1, num_bytes=num_bytes)


def take_network_use() -> NetworkUse:
    """What this process asked of servers since this was called last, in any thread.

    Sums over all calls are exact; with several reading threads a part may be told to another.
    """
    global _taken
    with _lock:
        total = _gdal_use() + _own
        use, _taken = total - _taken, total
        return use


def _gdal_use() -> NetworkUse:
    library = _gdal()
    if library is None:
        return NetworkUse()
    text = library.VSINetworkStatsGetAsSerializedJSON(None)
    if not text:
        return NetworkUse()
    try:
        methods = json.loads(ctypes.string_at(text)).get("methods", {})
    finally:
        library.VSIFree(text)
    return NetworkUse(
        num_requests=sum(entry.get("count", 0) for entry in methods.values()),
        num_bytes=sum(entry.get("downloaded_bytes", 0) for entry in methods.values()),
    )


@functools.cache
def _gdal() -> Any:
    """GDAL's library, found through one of rasterio's own; None where that cannot be done.

    The loader looks for a name in what a library depends on, too, so that no path is guessed.
    rasterio has no call for these statistics.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(rasterio._env.__file__)
        library.VSINetworkStatsGetAsSerializedJSON.argtypes = [ctypes.c_void_p]
        library.VSINetworkStatsGetAsSerializedJSON.restype = ctypes.c_void_p
        library.VSIFree.argtypes = [ctypes.c_void_p]
        library.VSIFree.restype = None
        return library
    return None
