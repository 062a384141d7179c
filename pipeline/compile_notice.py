"""Word of kernels being compiled: on a fresh machine some take half a minute, once."""

import contextlib
import math
import threading
import time

from numba.core import event

from geo.errors import EveryroofError
from pipeline.journal import AnyJournal

INTERVAL_S = 2.0
"""Between two words of it: small kernels compile in less, and nobody has to know."""


class CompileNotice(event.Listener):  # type: ignore[misc]
    """Writes an event `compiling` to a journal when numba compiles what no cache holds.

    Args:
        journal: of this process.
    """

    def __init__(self, journal: AnyJournal) -> None:
        self._journal = journal
        self._said_at = -math.inf

    def on_start(self, event: event.Event) -> None:
        """A kernel begins to be compiled."""
        now = time.monotonic()
        if now - self._said_at >= INTERVAL_S:
            self._said_at = now
            # An error would leave through numba, as if the kernel had failed.
            with contextlib.suppress(OSError, EveryroofError):
                self._journal.write("compiling")

    def on_end(self, event: event.Event) -> None:
        """Whatever comes next in the journal says that it goes on."""


_lock = threading.Lock()
_notice: CompileNotice | None = None


def tell_of_compiling(journal: AnyJournal) -> None:
    """Have this process's journal told of kernels being compiled; again for another journal."""
    global _notice
    with _lock:
        if _notice is not None:
            event.unregister("numba:compile", _notice)
        _notice = CompileNotice(journal)
        event.register("numba:compile", _notice)
