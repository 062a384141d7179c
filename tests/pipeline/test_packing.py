"""What travels through shuffles comes back as it was, and is short."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.failures import TileNote, TileRecord
from pipeline.packing import (
    as_kind,
    of_kind,
    pack_entry,
    pack_key,
    pack_note,
    pack_part,
    pack_record,
    pack_source,
    unpack_entry,
    unpack_key,
    unpack_note,
    unpack_part,
    unpack_record,
    unpack_source,
)

ZONES = st.integers(1, 60)
PLACES = st.integers(-(2**31), 2**31 - 1)
KEYS = st.tuples(ZONES, PLACES, PLACES)
IMAGES = st.lists(st.integers(0, 2**32 - 1), max_size=20).map(tuple)
NAMES = st.text(st.characters(codec="utf-8"), max_size=60)


@given(key=KEYS)
def test_keys(key: tuple[int, int, int]) -> None:
    assert unpack_key(pack_key(key)) == key
    assert len(pack_key(key)) == 10


@given(row=PLACES, col=PLACES, name=NAMES, images=IMAGES)
def test_entries(row: int, col: int, name: str, images: tuple[int, ...]) -> None:
    assert unpack_entry(pack_entry(row, col, name, images)) == (row, col, name, images)


@given(name=NAMES, is_tile=st.booleans(), images=IMAGES)
def test_sources(name: str, is_tile: bool, images: tuple[int, ...]) -> None:
    assert unpack_source(pack_source(name, is_tile, images)) == (name, is_tile, images)


@given(name=NAMES, index=st.integers(0, 2**32 - 1))
def test_parts(name: str, index: int) -> None:
    assert unpack_part(pack_part(name, index)) == (name, index)


@given(
    key=KEYS,
    status=st.sampled_from(["ok", "empty", "nodata", "failed"]),
    reason=NAMES,
    num=st.integers(0, 2**40),
)
def test_records(key: tuple[int, int, int], status: str, reason: str, num: int) -> None:
    record = TileRecord(
        key=key, status=status, reason=reason, num_instances=num, num_left_out=num % 2**32
    )
    assert unpack_record(pack_record(record)) == record


@given(key=KEYS, note=NAMES)
def test_notes(key: tuple[int, int, int], note: str) -> None:
    told = TileNote(key=key, note=note)
    assert unpack_note(pack_note(told)) == told


@given(kinds=st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.binary(max_size=9))))
def test_kinds(kinds: list[tuple[bytes, bytes]]) -> None:
    mixed = [as_kind(kind, packed) for kind, packed in kinds]
    for wanted in (b"a", b"b", b"c"):
        assert of_kind(wanted, mixed) == [packed for kind, packed in kinds if kind == wanted]
