"""Reading of safetensors files with a diagnosis for everything that is none.

The layout (https://github.com/huggingface/safetensors): eight bytes with the header's length, the
header in JSON, then the tensors' bytes. Nothing in such a file is executed.
"""

import json
import math
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from model.errors import BundleError

METADATA_KEY = "everyroof"
# The safetensors library refuses longer ones as well; ours are a few kilobytes.
MAX_HEADER_BYTES = 25_000_000
_LENGTH_BYTES = 8
_PICKLE_MAGICS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_OTHER_MAGICS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with `git lfs pull`",
    b"\x89HDF": "an HDF5 file",
    b"\x08": "perhaps an ONNX file",
    b"<!DOCTYPE": "a web page; was the download refused?",
    b"<html": "a web page; was the download refused?",
}


def read_bytes(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        BundleError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        _refuse_unreadable(path, error)


def read_header(path: Path) -> dict[str, Any]:
    """Header of a safetensors file, without its tensors.

    Returns:
        The JSON object: tensor names to dtype, shape and offsets, and `__metadata__` where there
        is any.

    Raises:
        BundleError: if the file is missing, is none, or is shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, 2)
            file.seek(0)
            return _parse_header(path, file, file_bytes)
    except OSError as error:
        _refuse_unreadable(path, error)


def _refuse_unreadable(path: Path, error: OSError) -> NoReturn:
    if isinstance(error, FileNotFoundError):
        raise BundleError(f"there is no bundle at {path}") from error
    raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error


def _parse_header(path: Path, file: BinaryIO, file_bytes: int) -> dict[str, Any]:
    """Check the three parts of the file against each other and return the header."""
    if file_bytes == 0:
        raise BundleError(f"{path} is empty; copy the bundle again")
    start = file.read(64)
    # A safetensors file may begin with the same two bytes as a pickle (a header of 640 bytes), so
    # the brace decides.
    if file_bytes < _LENGTH_BYTES + 2 or start[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{":
        _refuse_foreign(path, start)
    header_bytes = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise BundleError(
            f"{path} claims a header of {header_bytes} bytes, more than the {MAX_HEADER_BYTES} "
            "allowed; it is damaged or no bundle"
        )
    if _LENGTH_BYTES + header_bytes > file_bytes:
        raise BundleError(
            f"{path} is truncated: its header alone has {header_bytes} bytes, the file "
            f"{file_bytes}; copy it again"
        )
    file.seek(_LENGTH_BYTES)
    header = _parse_json(path, file.read(header_bytes))
    expected_bytes = _LENGTH_BYTES + header_bytes + _tensor_bytes(path, header)
    if expected_bytes > file_bytes:
        raise BundleError(
            f"{path} is truncated: {file_bytes} of {expected_bytes} bytes; copy it again"
        )
    if expected_bytes < file_bytes:
        raise BundleError(
            f"{path} has {file_bytes - expected_bytes} bytes after its tensors; copy it again"
        )
    return header


def _refuse_foreign(path: Path, start: bytes) -> NoReturn:
    """Say what the file is instead."""
    if start.startswith(_PICKLE_MAGICS):
        raise BundleError(
            f"{path} is a PyTorch pickle, which can run any code when it is loaded; convert it on "
            "a machine you trust with `safetensors.torch.save_file(torch.load(FILE, "
            'weights_only=True), "FILE.safetensors")`, then use `everyroof bundle import`'
        )
    for magic, what in _OTHER_MAGICS.items():
        if start.startswith(magic):
            raise BundleError(f"{path} is not a safetensors file but {what}")
    raise BundleError(f"{path} is not a safetensors file, or is damaged at its beginning")


def _parse_json(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"the header of {path} is not JSON; the file is damaged") from error
    if not isinstance(header, dict):
        raise BundleError(f"the header of {path} is no JSON object; the file is damaged")
    return header


def _tensor_bytes(path: Path, header: dict[str, Any]) -> int:
    """Bytes of all tensors, from the offsets in the header."""
    end = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            begin, stop = (int(offset) for offset in entry["data_offsets"])
            num_values = math.prod(int(side) for side in entry["shape"])
            is_sane = 0 <= begin <= stop and num_values >= 0 and isinstance(entry["dtype"], str)
        except (KeyError, TypeError, ValueError):
            is_sane = False
        if not is_sane:
            raise BundleError(f"the header of {path} describes tensor {name!r} wrongly")
        end = max(end, stop)
    return end
