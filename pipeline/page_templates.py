"""Jinja2's environment of the pages and styles; compiled templates stay on the disk.

To compile the report's and the styles' templates takes longer than to write the shards of a small
dataset. Compiled ones are kept as Python keeps modules, in `__pycache__` beside their source, where
this user may write there; elsewhere they are compiled every time.
"""

import contextlib
import pickle
import sys
import zlib
from io import BytesIO
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket

from geo.atomic_files import write_atomically

# The same for all: HTML or XML, strict about names.
_SETTINGS = {
    "autoescape": True,
    "undefined": jinja2.StrictUndefined,
    "trim_blocks": True,
    "lstrip_blocks": True,
}


def template_environment() -> jinja2.Environment:
    """A new environment for this package's templates; the caller may add filters."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "templates"),
        bytecode_cache=CompiledTemplates(Path(__file__).parent / "templates" / "__pycache__"),
        **_SETTINGS,  # type: ignore[arg-type]
    )


class CompiledTemplates(jinja2.BytecodeCache):
    """Compiled templates in a folder, by name, source and version; a faulty file is no file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_bytecode(self, bucket: Bucket) -> None:
        """Read a compiled template, if there is one of this very source."""
        with contextlib.suppress(OSError, ValueError, EOFError, pickle.UnpicklingError):
            bucket.load_bytecode(BytesIO(self._path(bucket).read_bytes()))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep a compiled template, unless Python shall not keep modules either."""
        if sys.dont_write_bytecode:
            return
        data = BytesIO()
        bucket.write_bytecode(data)
        with contextlib.suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            write_atomically(self._path(bucket), data.getvalue(), durable=False)

    def _path(self, bucket: Bucket) -> Path:
        made_by = f"{jinja2.__version__} {sys.version} {sorted(_SETTINGS.items(), key=str)}"
        return self._folder / f"{bucket.key}-{zlib.crc32(made_by.encode()):08x}.jinja"
