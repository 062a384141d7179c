"""The tile store: finished tiles by content hash, attempt marks and the progress journal.

    images/VERSION-HASH.npz        image profiles
    tiles/AB/HASH.arrow            a finished tile: its whole instances and status
    tiles/AB/HASH.open.arrow       its pieces that touch the tile's edge (written first)
    attempts/HASH/N                written before the work, removed after: marks of a killed worker
    bundles/SHA256.safetensors     in a bucket: the bundle, for machines that have no copy
    journal/RUN/WORKER.jsonl       one line per finished tile, for progress and timings
    work/RUN/STAGE/AB/...          tables of later stages; rewritten by every run

Nothing is unpickled: tables are Arrow IPC files, records are JSON. Every file appears whole or not
at all, so a killed run leaves nothing that could be mistaken for a result.
"""

import contextlib
import dataclasses
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from geo.atomic_files import write_atomically
from geo.errors import EveryroofError
from geo.instance_tables import (
    instances_from_table,
    instances_to_table,
    pieces_from_table,
    pieces_to_table,
)
from geo.instances import Instances
from geo.places import Place, as_place
from geo.seams import Pieces
from pipeline.attempts import AttemptMarks
from pipeline.journal import AnyJournal, open_journal

_FACTS = b"everyroof"
_WORK_STAGES = ("open", "merged", "finished", "resolved", "ledger")
_WORK_FOLDERS = tuple(f"{number:02x}" for number in range(256))


class TileStoreError(EveryroofError):
    """The tile store cannot be read or written."""


class MissingTableError(TileStoreError):
    """A table that is not there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileResult:
    """What reading, segmenting and tracing made of one tile.

    Attributes:
        status: ok (at least one instance), empty (ground without buildings) or nodata.
        whole: instances that lie inside the tile.
        pieces: instances that touch the tile's edge and may go on beyond it.
        image_versions: versions of the tile's images; `Instances.image_index` points into it.
        num_pixels_valid: valid pixels of the tile.
        num_windows: windows that went through the network.
        num_left_out: windows that a first look found empty.
        oversize: components above the largest building that lie inside the tile, as rectangles
            (row_min, col_min, row_end, col_end); they are reported, not traced.
    """

    status: str
    whole: Instances
    pieces: Pieces
    image_versions: tuple[str, ...] = ()
    num_pixels_valid: int = 0
    num_windows: int = 0
    num_left_out: int = 0
    oversize: tuple[tuple[int, ...], ...] = ()

    @property
    def num_instances(self) -> int:
        """Instances of the tile, whole or cut."""
        return len(self.whole) + len(self.pieces)


class TileStore:
    """Access to one store, in a folder or a bucket; cheap to make.

    Safe to use from several processes and machines at once.
    """

    def __init__(self, root: Place | str) -> None:
        self.root = as_place(root)
        self._marks = AttemptMarks(self.root / "attempts")

    def tile_path(self, tile_hash: str) -> Place:
        """File of a finished tile."""
        return self.root / f"tiles/{tile_hash[:2]}/{tile_hash}.arrow"

    def pieces_path(self, tile_hash: str) -> Place:
        """File of a finished tile's pieces."""
        return self.root / f"tiles/{tile_hash[:2]}/{tile_hash}.open.arrow"

    def profile_path(self, key: str) -> Place:
        """File of an image profile."""
        return self.root / "images" / f"{key}.npz"

    def work_path(self, run_token: str, stage: str, name: str) -> Place:
        """File of a later stage; in one of 256 folders, since a folder of millions is slow or full.

        The folder is that of the name's checksum, which any process finds again.
        """
        folder = _WORK_FOLDERS[zlib.crc32(name.encode()) % len(_WORK_FOLDERS)]
        # One path from one text: every "/" of pathlib's takes longer than reading a small table.
        return self.root / f"work/{run_token}/{stage}/{folder}/{name}.arrow"

    def work_folders(self, run_token: str) -> list[Place]:
        """All folders that `work_path` names, whether they exist or not."""
        work = self.root / "work" / run_token
        return [work / stage / folder for stage in _WORK_STAGES for folder in _WORK_FOLDERS]

    def bundle_path(self, sha256: str) -> Place:
        """File of a bundle that workers of other machines fetch."""
        return self.root / "bundles" / f"{sha256}.safetensors"

    def has_tile(self, tile_hash: str) -> bool:
        """Whether the tile is finished."""
        return self.tile_path(tile_hash).exists()

    def save_tile(self, tile_hash: str, result: TileResult) -> None:
        """Write a finished tile, whole or not at all."""
        path = self.tile_path(tile_hash)
        # The pieces first: the main file's presence says that the tile is finished.
        versions = {"image_versions": result.image_versions}
        if len(result.pieces):
            write_table(self.pieces_path(tile_hash), pieces_to_table(result.pieces), versions)
        facts = {
            "status": result.status,
            "num_pieces": len(result.pieces),
            "image_versions": result.image_versions,
            "num_pixels_valid": result.num_pixels_valid,
            "num_windows": result.num_windows,
            "num_left_out": result.num_left_out,
            "oversize": result.oversize,
        }
        write_table(path, instances_to_table(result.whole), facts)

    def load_tile(self, tile_hash: str) -> TileResult:
        """Read a finished tile.

        Raises:
            TileStoreError: if the file is damaged; says which, and that it may be deleted.
        """
        table, facts = read_table(self.tile_path(tile_hash))
        return TileResult(
            status=facts["status"],
            whole=instances_from_table(table),
            pieces=self._load_pieces(tile_hash) if facts["num_pieces"] else Pieces.empty(),
            image_versions=tuple(facts["image_versions"]),
            num_pixels_valid=facts["num_pixels_valid"],
            num_windows=facts["num_windows"],
            num_left_out=facts.get("num_left_out", 0),
            oversize=tuple(tuple(bounds) for bounds in facts["oversize"]),
        )

    def load_whole(self, tile_hash: str) -> Instances:
        """Only the instances that lie inside a finished tile.

        Raises:
            TileStoreError: if the file is missing or damaged.
        """
        return instances_from_table(read_table(self.tile_path(tile_hash))[0])

    def _load_pieces(self, tile_hash: str) -> Pieces:
        return pieces_from_table(read_table(self.pieces_path(tile_hash))[0])

    def num_attempts(self, tile_hash: str) -> int:
        """How many attempts at a tile began and never ended."""
        return self._marks.count(tile_hash)

    def mark_attempt(self, tile_hash: str) -> None:
        """Note that the work on a tile begins."""
        self._marks.mark(tile_hash)

    def clear_attempts(self, tile_hash: str) -> None:
        """Forget the attempts of a tile that ended, well or with an error."""
        self._marks.clear(tile_hash)

    def journal_path(self, run_token: str) -> Place:
        """Folder of a run's journals."""
        return self.root / "journal" / run_token

    def journal(self, run_token: str) -> AnyJournal:
        """A journal of this process's own."""
        return open_journal(self.journal_path(run_token))


def write_table(
    path: Place,
    table: pa.Table,
    facts: dict[str, Any] | None = None,
    *,
    is_rewritten: bool = False,
) -> None:
    """Write a table with a few facts as an Arrow IPC file, whole or not at all.

    Args:
        path: the file; its folder is made.
        table: what to write, each chunk as a batch of its own (`read_batch`).
        facts: what JSON can say.
        is_rewritten: every run makes this table again, so that nobody waits for the disk: only a
            machine that crashes could leave it damaged, and a damaged table is refused.
    """
    meta = {**(table.schema.metadata or {}), _FACTS: json.dumps(facts or {}).encode()}
    table = table.replace_schema_metadata(meta)
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    # In memory first: a small table is many small writes otherwise.
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_file(buffer, table.schema, options=options) as writer:
        writer.write_table(table)
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue().to_pybytes(), durable=not is_rewritten)


def read_table(path: Place) -> tuple[pa.Table, dict[str, Any]]:
    """Read a table and its facts.

    Raises:
        TileStoreError: if the file is missing or damaged.
    """
    with _opened(path) as file:
        table = file.read_all()
        return table, json.loads(table.schema.metadata[_FACTS])


def read_batch(path: Place, index: int) -> pa.Table:
    """One batch of a table: what was one chunk when it was written.

    Raises:
        TileStoreError: if the file is missing or damaged.
    """
    with _opened(path) as file:
        return pa.Table.from_batches([file.get_batch(index)])


def read_facts(path: Place) -> dict[str, Any]:
    """Only the facts of a table.

    Raises:
        TileStoreError: if the file is missing or damaged.
    """
    with _opened(path) as file:
        facts: dict[str, Any] = json.loads(file.schema.metadata[_FACTS])
        return facts


@contextlib.contextmanager
def _opened(path: Place) -> Iterator[pa.ipc.RecordBatchFileReader]:
    # Tables of a tile are small: to map one into memory, or to unpack it by several threads, takes
    # longer than to read it.
    options = pa.ipc.IpcReadOptions(use_threads=False)
    try:
        yield pa.ipc.open_file(pa.py_buffer(path.read_bytes()), options=options)
    except FileNotFoundError as error:
        raise MissingTableError(
            f"{path}: the tile store's file cannot be read ({error}); delete it and run again"
        ) from error
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise TileStoreError(
            f"{path}: the tile store's file cannot be read ({error}); delete it and run again"
        ) from error
