"""PublishDataset: what makes the shards a dataset; the manifest is written last."""

import contextlib
import dataclasses
import datetime
import json
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import apache_beam as beam

from geo.atomic_files import write_atomically
from geo.places import Place, remove_tree
from geo.remote_names import redact
from pipeline.bottleneck import time_shares
from pipeline.counters import note_element
from pipeline.dataset_pages import write_dataset_stac, write_run_report
from pipeline.gis_files import write_gis_files
from pipeline.images_table import (
    IMAGES_NAME,
    FoundImages,
    ImagesSummary,
    find_images,
    images_in_manifest,
    write_images,
)
from pipeline.journal import JournalReader
from pipeline.ledger import LedgerSummary, join_ledger
from pipeline.run_totals import RunTotals
from pipeline.spec import JobSpec
from pipeline.tile_store import TileStore
from pipeline.write import WrittenShard

MANIFEST_NAME = "manifest.json"


class PublishDataset(beam.PTransform):
    """Shards and ledger to a complete dataset: STAC, GIS files, report, run.json, manifest last.

    Input: the pipeline's root; side inputs: all `WrittenShard`s and the `LedgerSummary`. Files that
    the manifest will not name are removed before it is written. Of a large job the tables of later
    stages are then removed by all workers. Retries are safe.
    """

    def __init__(self, spec: JobSpec, shards: Any, ledger: Any, *, is_large: bool = False) -> None:
        super().__init__()
        self._spec = spec
        self._shards = shards
        self._ledger = ledger
        self._is_large = is_large

    def expand(self, root: Any) -> Any:
        """Wire the transform."""
        published = (
            root
            | "Once" >> beam.Impulse()
            | "Publish"
            >> beam.Map(
                _publish if self._is_large else _publish_and_clear,
                self._spec,
                shards=beam.pvalue.AsList(self._shards),
                ledger=beam.pvalue.AsList(self._ledger),
            )
        )
        if not self._is_large:
            return published
        # Two files a tile to remove, a millisecond each: more than one worker's work for a country.
        return (
            published
            | "ListFolders" >> beam.FlatMap(_work_folders, self._spec)
            | "SpreadFolders" >> beam.Reshuffle()
            | "RemoveFolder" >> beam.Map(remove_tree)
            | "AllRemoved" >> beam.combiners.Count.Globally()
            | "RemoveRest" >> beam.Map(_remove_work, self._spec)
        )


def _work_folders(_: None, spec: JobSpec) -> list[Place]:
    return TileStore(spec.store_path).work_folders(spec.run_token)


def _remove_work(_: Any, spec: JobSpec) -> None:
    work = spec.store_path / "work"
    remove_tree(work / spec.run_token)
    if isinstance(work, Path):
        # Not empty where another output shares the store.
        with contextlib.suppress(OSError):
            work.rmdir()


def _publish_and_clear(
    once: bytes, spec: JobSpec, shards: Sequence[WrittenShard], ledger: Sequence[LedgerSummary]
) -> None:
    """Write what makes a dataset; what was written on the way to it goes."""
    _publish(once, spec, shards, ledger)
    _remove_work(None, spec)


def _publish(
    _: bytes, spec: JobSpec, shards: Sequence[WrittenShard], ledger: Sequence[LedgerSummary]
) -> None:
    """Write what makes a dataset."""
    begin = time.perf_counter()
    store = TileStore(spec.store_path)
    shards = sorted(shards, key=lambda shard: shard.token)
    summary = ledger[0] if ledger else _empty_ledger(spec)
    _remove_strays(spec.out_path, {shard.path for shard in shards})
    totals = RunTotals(JournalReader(store.journal_path(spec.run_token)).new_events())
    facts = run_facts(shards, summary, totals)
    stac = write_dataset_stac(spec, shards)
    gis = write_gis_files(spec.out_path, shards)
    write_run_report(spec, shards, totals, facts)
    _write_json(spec.out_path / "run.json", facts)
    found = find_images(spec)
    data = manifest(spec, shards, summary, write_images(spec, found), found, totals)
    _write_json(spec.out_path / MANIFEST_NAME, {**data, "stac": stac, "gis": gis})
    journal = store.journal(spec.run_token)
    note_element(journal, "PublishDataset", begin)
    journal.flush()


def _empty_ledger(spec: JobSpec) -> LedgerSummary:
    return join_ledger(spec, [])


def _remove_strays(out: Place, named: set[str]) -> None:
    for path in (out / "footprints").glob("*"):
        if f"footprints/{path.name}" not in named:
            path.unlink()


def _write_json(path: Place, data: dict[str, Any]) -> None:
    text = json.dumps(data, indent=1, sort_keys=True, default=str)
    write_atomically(path, redact(text) + "\n")


def code_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("everyroof")
    except PackageNotFoundError:
        return "unknown"


def manifest(
    spec: JobSpec,
    shards: Sequence[WrittenShard],
    ledger: LedgerSummary,
    images: ImagesSummary,
    found: FoundImages,
    totals: RunTotals,
) -> dict[str, Any]:
    """The manifest: what the dataset holds and what it was made of; no times.

    Args:
        spec: the job.
        shards: the files, in the order of their names.
        ledger: what became of the tiles.
        images: what became of the images.
        found: what the run found of each.
        totals: of the run's journal, for what the network ran on.
    """
    return {
        "everyroof": code_version(),
        "config": json.loads(spec.config.to_json()),
        "model": {
            "model_id": spec.model_id,
            "sha256": spec.bundle_sha256,
            "ran_on": totals.fingerprints,
        },
        "gsd_m": spec.gsd_m,
        **images_in_manifest(spec, found),
        "images_file": {"path": IMAGES_NAME, **dataclasses.asdict(images)},
        "counts": {
            "footprints": sum(shard.num_rows for shard in shards),
            "shards": len(shards),
            "area_m2": round(sum(shard.area_m2 for shard in shards), 1),
        },
        "tiles": {**dataclasses.asdict(ledger), "failed_share": ledger.failed_share},
        "shards": [dataclasses.asdict(shard) for shard in shards],
    }


def run_facts(
    shards: Sequence[WrittenShard], ledger: LedgerSummary, totals: RunTotals
) -> dict[str, Any]:
    """run.json: times and throughput of this run, by stage."""
    now, begin, first = time.time(), totals.begin, totals.first_tile_time
    shares = time_shares(totals.stage_s, now - first if first else 0.0, totals.num_models)
    return {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_s": round(now - begin, 3) if begin else None,
        "startup_s": round(first - begin, 3) if begin and first else None,
        "work_s": round(now - first, 3) if first else None,
        "tiles_segmented": totals.num_segmented,
        "tiles_stored": totals.num_stored,
        "windows": totals.num_windows,
        "windows_left_out": totals.num_left_out,
        "pixels_valid": totals.num_pixels,
        "reads": totals.num_reads,
        "source_bytes": totals.source_bytes,
        "requests": totals.num_requests,
        "requests_per_tile": round(totals.num_requests / max(totals.num_segmented, 1), 2),
        "network_bytes": totals.network_bytes,
        "footprints": sum(shard.num_rows for shard in shards),
        "tiles_failed": ledger.num_by_status.get("failed", 0),
        "bottleneck": next(iter(shares), None),
        "time_shares": shares,
        "stage_s": {name: round(seconds, 3) for name, seconds in sorted(totals.stage_s.items())},
    }
