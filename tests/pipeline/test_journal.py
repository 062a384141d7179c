"""Journals, attempt marks and tiles of a store in a bucket; the same as on a disk."""

import json
import threading

import pytest
from s3_server import BUCKET, use_s3

from geo.errors import StorageError
from geo.object_path import ObjectPath
from geo.places import as_place, remove_tree
from pipeline.fetch import local_bundle, local_copy
from pipeline.journal import JournalReader, ObjectJournal, open_journal
from pipeline.tile_store import TileStore


@pytest.fixture(scope="module")
def service():
    with use_s3() as url:
        yield url


@pytest.fixture
def bucket(service):
    place = as_place(f"s3://{BUCKET}/journals")
    yield place
    remove_tree(place)


@pytest.fixture
def counted(monkeypatch):
    """The objects that were put, by name."""
    puts: list[str] = []
    put = ObjectPath.write_bytes

    def counting(self, data):
        puts.append(self.name)
        put(self, data)

    monkeypatch.setattr(ObjectPath, "write_bytes", counting)
    return puts


def test_events_of_a_bucket_are_read_once_and_in_order(bucket, counted):
    journal, reader = ObjectJournal(bucket, "w"), JournalReader(bucket)
    journal.write("started", begin=1.0)
    assert [event["event"] for event in reader.new_events()] == ["started"]
    for number in range(200):
        journal.write("tile", number=number)
    assert list(reader.new_events()) == []
    journal.flush()
    journal.flush()
    assert [event["number"] for event in reader.new_events()] == list(range(200))
    assert list(reader.new_events()) == []
    assert len(counted) == 2


def test_a_long_journal_begins_another_object(bucket, counted, monkeypatch):
    monkeypatch.setattr("pipeline.journal.MAX_OBJECT_BYTES", 1000)
    journal, reader = ObjectJournal(bucket, "w"), JournalReader(bucket)
    seen = []
    for number in range(60):
        journal.write("tile", number=number)
        if number % 5 == 4:
            journal.flush()
            seen += [event["number"] for event in reader.new_events()]
    assert seen == list(range(60))
    assert len(set(counted)) >= 3
    assert all(size < 1000 + 5 * 70 for _, size in bucket.walk())


def test_threads_of_a_worker_share_a_journal(bucket):
    journals = [open_journal(bucket / "shared") for _ in range(4)]
    threads = [
        threading.Thread(target=lambda j=j: [j.write("tile", n=n) for n in range(50)])
        for j in journals
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journals[0].flush()
    assert len(list(JournalReader(bucket / "shared").new_events())) == 200
    assert len(list((bucket / "shared").iterdir())) == 1


def test_secrets_do_not_reach_a_journal(bucket, tmp_path):
    for folder in (bucket / "secrets", tmp_path):
        journal = open_journal(folder)
        journal.write("tile", reason="cannot read https://u:p@h/a.tif?sig=topsecret: 403")
        journal.flush()
        (event,) = JournalReader(folder).new_events()
        assert event["reason"] == "cannot read https://***@h/a.tif?sig=***: 403"


def test_attempts_are_counted_by_all_and_cleared_by_who_saw_them(bucket):
    here, there = TileStore(bucket), TileStore(bucket)
    here.mark_attempt("ab")
    there.mark_attempt("ab")
    assert here.num_attempts("ab") == there.num_attempts("ab") == 2
    assert here.num_attempts("a") == 0
    here.clear_attempts("ab")
    assert there.num_attempts("ab") == 0
    there.clear_attempts("ab")


def test_a_remote_file_is_fetched_once_for_each_version(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("EVERYROOF_CACHE", str(tmp_path / "cache"))
    (bucket / "area.geojson").write_text("first")
    name = f"{bucket}/area.geojson"
    first = local_copy(name)
    assert first.endswith(".geojson")
    assert local_copy(name) == first
    (bucket / "area.geojson").write_text("second")
    with open(local_copy(name)) as file:
        assert file.read() == "second"
    with pytest.raises(StorageError, match=r"none\.geojson does not exist"):
        local_copy(f"{bucket}/none.geojson")
    assert local_copy(str(tmp_path / "x")) == str(tmp_path / "x")


def test_a_worker_elsewhere_takes_the_bundle_from_the_store(bucket, tmp_path, monkeypatch):
    import hashlib

    monkeypatch.setenv("EVERYROOF_CACHE", str(tmp_path / "cache"))
    sha256 = hashlib.sha256(b"weights").hexdigest()
    shared = TileStore(bucket).bundle_path(sha256)
    assert isinstance(shared, ObjectPath)
    shared.write_bytes(b"weights")
    (tmp_path / "other.safetensors").write_bytes(b"others")
    for name in ("none.safetensors", "other.safetensors"):
        with open(local_bundle(str(tmp_path / name), sha256, shared), "rb") as file:
            assert file.read() == b"weights"
        with pytest.raises(StorageError, match="same file"):
            local_bundle(str(tmp_path / name), sha256, None)


def test_a_torn_line_of_a_killed_worker_is_skipped(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"event": "ti\n' + json.dumps({"event": "x"}) + "\n")
    assert [event["event"] for event in JournalReader(tmp_path).new_events()] == ["x"]


def test_what_could_not_be_read_is_read_at_the_next_look(bucket, monkeypatch):
    journal = open_journal(bucket / "run")
    journal.write("planned", tiles=3)
    journal.flush()
    reader = JournalReader(bucket / "run")

    def fail(*_: object) -> bytes:
        raise StorageError("503")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectPath, "read_range", fail)
        with pytest.raises(StorageError):
            list(reader.new_events())
    assert [event["tiles"] for event in reader.new_events()] == [3]
