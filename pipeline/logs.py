"""Logging of the job's processes: warnings of ours, each with its tile; Beam's noise left out.

Plain lines for people; with EVERYROOF_LOG=json one JSON object a line, for a cluster's collector.
Nothing is logged for every tile below WARNING: a continent has millions.
"""

import contextlib
import contextvars
import datetime
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from geo.remote_names import redact

ENVIRONMENT_NAME = "EVERYROOF_LOG"
BEAM_HANDLER = "FnApiLogRecordHandler"
_tile: contextvars.ContextVar[str] = contextvars.ContextVar("tile", default="")


class _RedactingFormatter(logging.Formatter):
    """Tracebacks without secrets: an error of a library often quotes the URL that it asked for."""

    def formatException(self, ei: Any) -> str:
        """A traceback, redacted."""
        return redact(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """A stack, redacted."""
        return redact(super().formatStack(stack_info))


class JsonFormatter(_RedactingFormatter):
    """A record as one JSON object: time (UTC), level, logger, message, and its tile if any."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        entry = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if _tile.get():
            entry["tile"] = _tile.get()
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            entry["traceback"] = redact(record.exc_text)
        return json.dumps(entry)


class LineFormatter(_RedactingFormatter):
    """The message, with the tile in front where it does not name it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback where there is one."""
        # All of it: another handler may have left its own text of the traceback in the record.
        line = redact(super().format(record))
        tile = _tile.get()
        return f"tile {tile}: {line}" if tile and tile not in line else line


@contextlib.contextmanager
def working_on(tile: str) -> Iterator[None]:
    """Give every record logged inside, in this thread, the name of a tile."""
    token = _tile.set(tile)
    try:
        yield
    finally:
        _tile.reset(token)


def configure_logging() -> None:
    """Send warnings of ours to standard error; called once per process of this machine."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    # GDAL warns of every request that it tries again; what comes of it is in the ledger.
    logging.getLogger("rasterio").setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        _shape(handler)


def configure_worker_logging() -> None:
    """Shape what a worker of Beam sends to its engine; does nothing in any other process."""
    for handler in logging.getLogger().handlers:
        if type(handler).__name__ == BEAM_HANDLER:
            _shape(handler)


def _shape(handler: logging.Handler) -> None:
    is_json = os.environ.get(ENVIRONMENT_NAME) == "json"
    handler.setFormatter(JsonFormatter() if is_json else LineFormatter("%(message)s"))
    handler.addFilter(_is_worth_showing)


def _is_worth_showing(record: logging.LogRecord) -> bool:
    record.msg, record.args = redact(record.getMessage()), ()
    if record.exc_info:
        # As text only: Beam's handler would send the traceback once more, past the formatter.
        record.exc_text = _RedactingFormatter().formatException(record.exc_info)
        record.exc_info = None
    # Ours have names. Nameless ones are Beam's: a Google client that is missing, channels that are
    # not ready yet, an engine's traceback, whose last line the run says by itself.
    return record.name != "root" or bool(os.environ.get("EVERYROOF_DEBUG"))
