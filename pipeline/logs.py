"""Logging of the job's processes: warnings of ours to standard error, Beam's noise left out."""

import logging
import sys

from geo.remote_names import redact


def configure_logging() -> None:
    """Send warnings to standard error as plain lines; called once per process."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    # GDAL warns of every request that it tries again; what comes of it is in the ledger.
    logging.getLogger("rasterio").setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_worth_showing)


def _is_worth_showing(record: logging.LogRecord) -> bool:
    record.msg, record.args = redact(record.getMessage()), ()
    # Beam says at import that a Google client is missing, which nobody here needs.
    return not record.getMessage().startswith("apitools not found")
