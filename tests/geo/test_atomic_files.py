"""Files that appear whole or not at all."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from geo.atomic_files import atomic_path, is_leftover, leftovers, write_atomically


def test_the_file_appears_only_at_the_end(tmp_path):
    final = tmp_path / "a.parquet"
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        assert not final.exists()
        assert temporary.parent == tmp_path
        with temporary.open("ab") as file:
            file.write(b" and whole")
    assert final.read_bytes() == b"half and whole"
    assert list(tmp_path.iterdir()) == [final]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    final = tmp_path / "a.json"
    final.write_text("old")

    def write_and_stop() -> None:
        with atomic_path(final) as temporary:
            temporary.write_text("new, but")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_an_old_file_is_replaced(tmp_path):
    final = tmp_path / "a.json"
    write_atomically(final, "first, and longer")
    write_atomically(str(final), b"\x00second")
    assert final.read_bytes() == b"\x00second"
    write_atomically(final, "größe")
    assert final.read_bytes() == "größe".encode()


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    final = tmp_path / "a.json"
    final.write_text("old")
    with pytest.raises(FileNotFoundError, match=r"a\.json was not written"), atomic_path(final):
        pass
    assert final.read_text() == "old"


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "a.json", "x")


def test_a_rename_that_fails_leaves_nothing(tmp_path):
    final = tmp_path / "a.json"
    (final / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomically(final, "x")
    assert list(tmp_path.iterdir()) == [final]


def test_the_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_patterns_do_not_find_unfinished_files(tmp_path):
    with atomic_path(tmp_path / "a.parquet") as temporary:
        temporary.write_bytes(b"x")
        assert is_leftover(temporary)
        assert leftovers(tmp_path) == [temporary]
        assert list(tmp_path.glob("*.parquet")) == []
    assert leftovers(tmp_path) == []
    for name in ("a.parquet", ".a.tmp", ".a.parquet.0123.tmp", "a.parquet.0123456789abcdef.tmp"):
        assert not is_leftover(name)


def test_a_killed_writer_leaves_the_old_file_and_one_leftover(tmp_path):
    final = tmp_path / "a.json"
    final.write_text("old")
    script = """
        import os, signal, sys
        from geo.atomic_files import atomic_path
        with atomic_path(sys.argv[1]) as temporary:
            temporary.write_text("new")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), final], check=False)
    assert done.returncode == -signal.SIGKILL
    assert final.read_text() == "old"
    assert len(leftovers(tmp_path)) == 1


def test_readers_never_see_a_mixture(tmp_path):
    final = tmp_path / "a.bin"
    versions = [bytes([value]) * 200_000 for value in range(4)]
    write_atomically(final, versions[0])

    def write(version: bytes) -> None:
        for _ in range(15):
            write_atomically(final, version)

    writers = [threading.Thread(target=write, args=(version,)) for version in versions]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(final.read_bytes())
    for writer in writers:
        writer.join()
    assert seen <= set(versions)
    assert list(tmp_path.iterdir()) == [final]
