"""What travels through shuffles as one short byte string an element.

The local runner keeps the groups of every shuffle as Python objects in the launcher: a tuple of
numbers and a name takes 250 bytes there, the same packed takes 80. All else lies in the tile store.
"""

import struct
from collections.abc import Iterable, Sequence

from pipeline.failures import TileNote, TileRecord, TileStatus
from pipeline.spec import TileKey

_STATUSES: tuple[TileStatus, ...] = ("ok", "empty", "nodata", "failed")
_KEY = struct.Struct("<hii")
_PLACE = struct.Struct("<ii")
_COUNT = struct.Struct("<H")
_PART = struct.Struct("<I")
_RECORD = struct.Struct("<hiiBqI")


def pack_key(key: TileKey) -> bytes:
    """A tile's key, 10 bytes."""
    return _KEY.pack(*key)


def unpack_key(packed: bytes) -> TileKey:
    """The key of `pack_key`."""
    zone, row, col = _KEY.unpack(packed)
    return zone, row, col


def pack_entry(row: int, col: int, name: str, images: Sequence[int] = ()) -> bytes:
    """A tile's row and column in its zone, the name of a file, and positions of images."""
    return _PLACE.pack(row, col) + _pack_images(images) + name.encode()


def unpack_entry(packed: bytes) -> tuple[int, int, str, tuple[int, ...]]:
    """Row, column, name and images of `pack_entry`."""
    row, col = _PLACE.unpack_from(packed)
    images, rest = _unpack_images(packed[_PLACE.size :])
    return row, col, rest.decode(), images


def pack_part(name: str, index: int) -> bytes:
    """A batch of a file of the store."""
    return _PART.pack(index) + name.encode()


def unpack_part(packed: bytes) -> tuple[str, int]:
    """Name and index of `pack_part`."""
    return packed[_PART.size :].decode(), _PART.unpack_from(packed)[0]


def pack_source(name: str, is_tile: bool, images: Sequence[int] = ()) -> bytes:
    """A file of pieces: a tile's hash and images, or a name in the stage "open"."""
    return (b"t" if is_tile else b"o") + _pack_images(images) + name.encode()


def unpack_source(packed: bytes) -> tuple[str, bool, tuple[int, ...]]:
    """Name, whether it is a tile, and images, of `pack_source`."""
    images, rest = _unpack_images(packed[1:])
    return rest.decode(), packed[:1] == b"t", images


def _pack_images(images: Sequence[int]) -> bytes:
    return _COUNT.pack(len(images)) + struct.pack(f"<{len(images)}I", *images)


def _unpack_images(packed: bytes) -> tuple[tuple[int, ...], bytes]:
    (count,) = _COUNT.unpack_from(packed)
    end = _COUNT.size + 4 * count
    return struct.unpack(f"<{count}I", packed[_COUNT.size : end]), packed[end:]


def as_kind(kind: bytes, packed: bytes) -> bytes:
    """A packed element of one of several kinds that a group holds; `kind` is one byte."""
    return kind + packed


def of_kind(kind: bytes, elements: Iterable[bytes]) -> list[bytes]:
    """Those of `as_kind` that are of a kind, as they were."""
    return [element[1:] for element in elements if element[:1] == kind]


def pack_note(note: TileNote) -> bytes:
    """A note on a tile."""
    return pack_key(note.key) + note.note.encode()


def unpack_note(packed: bytes) -> TileNote:
    """The note of `pack_note`."""
    return TileNote(key=unpack_key(packed[: _KEY.size]), note=packed[_KEY.size :].decode())


def pack_record(record: TileRecord) -> bytes:
    """A row of the ledger."""
    status = _STATUSES.index(record.status)
    counts = record.num_instances, record.num_left_out
    return _RECORD.pack(*record.key, status, *counts) + record.reason.encode()


def unpack_record(packed: bytes) -> TileRecord:
    """The row of `pack_record`."""
    zone, row, col, status, num_instances, num_left_out = _RECORD.unpack_from(packed)
    return TileRecord(
        key=(zone, row, col),
        status=_STATUSES[status],
        reason=packed[_RECORD.size :].decode(),
        num_instances=num_instances,
        num_left_out=num_left_out,
    )
