"""Files that appear whole or not at all.

A file is written under a temporary name in the folder of the final one, flushed to the disk, and
renamed: whoever looks at the final name, after a crash too, finds the old file, the new, or none.
In a bucket the finished file is uploaded, which has the same effect.
"""

import contextlib
import errno
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from geo.object_path import ObjectPath

logger = logging.getLogger(__name__)

# What systems answer where a disk has no hard links (FAT, some network and FUSE disks).
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_LEFTOVER_NAME = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.tmp", re.DOTALL)


@contextlib.contextmanager
def atomic_path(
    path: str | os.PathLike[str] | ObjectPath, *, durable: bool = True
) -> Iterator[Path]:
    """A temporary name to write to, renamed to `path` when the block ends without an error.

    The temporary name starts with a dot and ends in `.tmp`, so that no pattern such as `*.parquet`
    finds it; programs that go by the extension must be told the format. An existing file is
    replaced. Safe for several processes at once: each has a name of its own, the last rename wins.

    Args:
        path: the final name; its folder must exist. An object is uploaded from a temporary folder
            of this machine.
        durable: flush file and folder to the disk. Without it a file outlives the program, but
            after a crash of the machine it may be there and damaged: for what is made again then.

    Yields:
        A name in the same folder that does not exist yet; the block has to create the file.

    Raises:
        FileNotFoundError: if the block did not create the file.
        OSError: if the file cannot be written, flushed or renamed; `path` is then unchanged.
        StorageError: if an object cannot be uploaded.
    """
    if isinstance(path, ObjectPath):
        with _uploaded(path) as temporary:
            yield temporary
        return
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"{final} was not written: nothing was put at {temporary}")
        if durable:
            _flush(temporary, os.O_RDWR)
        temporary.replace(final)
    except BaseException:
        # A failing clean-up must not hide why the writing failed.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        _flush(final.parent, os.O_RDONLY)


@contextlib.contextmanager
def _uploaded(path: ObjectPath) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="everyroof-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"{path} was not written: nothing was put at {temporary}")
        path.upload(temporary)


def write_atomically(
    path: str | os.PathLike[str] | ObjectPath, data: bytes | str, *, durable: bool = True
) -> None:
    """Write a whole file, text as UTF-8, so that it appears at once.

    Args:
        path: the final name; its folder must exist.
        data: the whole content.
        durable: as in `atomic_path`.

    Raises:
        OSError: if it cannot be written; `path` is then unchanged.
        StorageError: if an object cannot be put.
    """
    whole = data.encode() if isinstance(data, str) else data
    if isinstance(path, ObjectPath):
        path.write_bytes(whole)
        return
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(whole)


def create_atomically(path: str | os.PathLike[str] | ObjectPath, data: bytes | str) -> bool:
    """Write a whole file, text as UTF-8, unless there is one: of several writers one succeeds.

    On a disk without hard links the look and the rename are two steps: writers that meet between
    them may both succeed, and the last one's file stays.

    Returns:
        Whether this call wrote it; if not, another's whole file is there.

    Raises:
        OSError: if it cannot be written.
        StorageError: if an object cannot be put.
    """
    whole = data.encode() if isinstance(data, str) else data
    if isinstance(path, ObjectPath):
        return path.create_bytes(whole)
    final = Path(path)
    if final.exists():
        return False
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(whole)
        _flush(temporary, os.O_RDWR)
        try:
            os.link(temporary, final)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            temporary.replace(final)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _flush(final.parent, os.O_RDONLY)
    return True


def leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Temporary files in a folder (not below it), of writers at work or killed, sorted by name.

    Only for a folder that nobody writes to now may the caller remove them.
    """
    return sorted(entry for entry in Path(folder).iterdir() if is_leftover(entry))


def is_leftover(path: str | os.PathLike[str] | ObjectPath) -> bool:
    """Whether a name is one that `atomic_path` gives to unfinished files."""
    name = path.name if isinstance(path, ObjectPath) else Path(path).name
    return _LEFTOVER_NAME.fullmatch(name) is not None


def _flush(path: Path, flags: int) -> None:
    """Have the system put a file, or a folder's names, on the disk."""
    is_folder = flags == os.O_RDONLY
    try:
        descriptor = os.open(path, flags)
    except OSError:
        # Windows opens no folders: there the rename itself is all that can be had.
        if is_folder and os.name == "nt":
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE disks cannot flush folders; the file itself is flushed by then.
        if not is_folder:
            raise
        logger.debug("cannot flush folder %s: %s", path, error)
    finally:
        os.close(descriptor)
