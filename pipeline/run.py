"""The graph, and the only place that knows the runner."""

import dataclasses
import logging
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.cover import Cover
from pipeline.detect import DetectBuildings, TileRef
from pipeline.finish import MERGED, TILE, FinishFootprints, by_block, merged_by_block
from pipeline.image_index import index_folder
from pipeline.job_request import LOCAL_RUNNERS
from pipeline.merge import MergedRef, MergeSeams, level_sizes
from pipeline.packing import as_kind
from pipeline.plan import CELLS_OF_A_LARGE_JOB, PlanTiles, ProfileImages, profiled_ahead
from pipeline.publish import PublishDataset
from pipeline.resolve import ResolveOverlaps
from pipeline.spec import JobSpec, TileKey
from pipeline.write import WriteLedger, WriteShards

logger = logging.getLogger(__name__)


def build_graph(root: Any, spec: JobSpec, detect: type[DetectBuildings] = DetectBuildings) -> None:
    """Lay out the whole job below a pipeline's root.

    Args:
        root: a Beam pipeline.
        spec: what to compute.
        detect: finds the buildings of tiles; simulations put one without a network here.
    """
    cover = Cover(spec)
    cells = cover.plan_cells()
    images = profiled_ahead(spec)
    positions = root | "Images" >> beam.Create(images)
    if len(images) > 1:
        positions = positions | "SpreadImages" >> beam.Reshuffle()
    profiled = positions | "ProfileImages" >> ProfileImages(spec)
    planned = root | "PlanCells" >> beam.Create(cells)
    if len(cells) > 1:
        planned = _spread_cells(planned)
    detected = (
        planned
        | "PlanTiles" >> PlanTiles(spec, len(cells))
        | "SpreadTiles" >> beam.Reshuffle()
        | "DetectBuildings"
        >> detect(spec, _barrier(profiled, "Profiled")).with_resource_hints(
            **spec.config.engine.hints
        )
    )
    sizes = level_sizes(cover.tile_extent().values())
    merged, notes = detected.refs | "MergeSeams" >> MergeSeams(spec, sizes)
    tiles = detected.refs | "KeyTiles" >> beam.FlatMap(_tile_by_block)
    merged = merged | "KeyMerged" >> beam.Map(_merged_by_block)
    finished = (
        # Beam's CoGroupByKey does the same with three more steps.
        (tiles, merged)
        | "OfBlocks" >> beam.Flatten()
        | "GroupByBlock" >> beam.GroupByKey()
        | "FinishFootprints" >> FinishFootprints(spec)
    )
    resolved = finished | "ResolveOverlaps" >> ResolveOverlaps(spec, _barrier(finished, "Finished"))
    shards = resolved | "WriteShards" >> WriteShards(spec)
    ledger = detected.records | "WriteLedger" >> WriteLedger(spec, notes)
    _ = root | "PublishDataset" >> PublishDataset(
        spec, shards, ledger, is_large=len(cells) >= CELLS_OF_A_LARGE_JOB
    )


def _spread_cells(cells: Any) -> Any:
    # Grouped, not reshuffled: Flink's optimizer drops the second of two reshuffles in a row.
    return (
        cells
        | "KeyCells" >> beam.Map(lambda cell: (cell, None))
        | "SpreadCells" >> beam.GroupByKey()
        | "Cells" >> beam.Keys()
    )


def _tile_by_block(ref: TileRef) -> Iterable[tuple[TileKey, bytes]]:
    if ref.num_whole:
        block, packed = by_block(ref.key, ref.tile_hash, ref.images)
        yield block, as_kind(TILE, packed)


def _merged_by_block(ref: MergedRef) -> tuple[TileKey, bytes]:
    block, packed = merged_by_block(ref)
    return block, as_kind(MERGED, packed)


def _barrier(elements: Any, name: str) -> Any:
    """A side input that is there only when all elements are; nothing travels.

    Empty rather than a count: a count is a dozen transforms, each of which costs a millisecond or
    two when the graph is laid out, and again when it runs.
    """
    return beam.pvalue.AsIter(elements | f"No{name}" >> beam.FlatMap(_nothing))


def _nothing(_: Any) -> Iterable[None]:
    return ()


def is_local(options: PipelineOptions) -> bool:
    """Whether the flags leave the job on this machine."""
    return options.get_all_options()["runner"] in (None, *LOCAL_RUNNERS)


def run_graph(
    spec: JobSpec, options: PipelineOptions, detect: type[DetectBuildings] = DetectBuildings
) -> Any:
    """Run the job to its end.

    The local runner is Beam's FnApiRunner, named here: `DirectRunner` first tries to download
    another engine.

    Args:
        spec: what to compute.
        options: Beam's.
        detect: as in `build_graph`.

    Returns:
        Beam's result, for its counters.

    Raises:
        RemoteJobError: if another engine's job did not end well.
    """
    # From here on the images travel as the name of a file.
    images = spec.images.saved(index_folder(spec.store_path))
    spec = dataclasses.replace(spec, images=images)
    if not is_local(options):
        from pipeline.remote_job import name_job, wait_remotely

        name_job(spec, options)
        pipeline = beam.Pipeline(options=options)
        build_graph(pipeline, spec, detect)
        return wait_remotely(pipeline, spec, options)
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)
    build_graph(pipeline, spec, detect)
    result = pipeline.run()
    result.wait_until_finish()
    return result
