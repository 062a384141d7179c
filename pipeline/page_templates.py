"""Jinja2's environment of the pages and styles; compiled templates stay on the disk.

To compile the report's and the styles' templates takes longer than to write the shards of a small
dataset. Compiled ones are kept as Python keeps modules, in `__pycache__` beside their source, where
this user may write there; elsewhere they are compiled every time.
"""

import contextlib
import os
import pickle
import sys
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket

KEPT = Path(__file__).parent / "templates" / "__pycache__"


def template_environment(kept: Path = KEPT) -> jinja2.Environment:
    """A new environment for this package's templates; the caller may add filters.

    Args:
        kept: folder of compiled templates.
    """
    # The same for all: HTML or XML, strict about names.
    return jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "templates"),
        bytecode_cache=_cache(kept),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _cache(folder: Path) -> jinja2.BytecodeCache | None:
    """Jinja2's own cache in a folder; None where nothing can, or shall, be kept."""
    if sys.dont_write_bytecode:
        return None
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    return _ForgivingCache(str(folder), f"%s-{jinja2.__version__}.jinja")


class _ForgivingCache(jinja2.FileSystemBytecodeCache):
    """Jinja2's, for which a file that cannot be read or written is no reason to end a run."""

    def load_bytecode(self, bucket: Bucket) -> None:
        """Read a compiled template; none where the file is damaged."""
        try:
            super().load_bytecode(bucket)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep a compiled template where there is room for it."""
        with contextlib.suppress(OSError):
            super().dump_bytecode(bucket)
