"""The graph, and the only place that knows the runner."""

import dataclasses
import logging
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.cover import Cover
from pipeline.detect import DetectBuildings
from pipeline.finish import FinishFootprints, by_block, merged_by_block
from pipeline.image_index import index_folder
from pipeline.merge import MergeSeams, level_sizes
from pipeline.plan import PlanTiles, ProfileImages, profiled_ahead
from pipeline.publish import PublishDataset
from pipeline.resolve import ResolveOverlaps
from pipeline.spec import JobSpec
from pipeline.supervise import LOCAL_RUNNERS
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
    profiled = (
        root
        | "Images" >> beam.Create(profiled_ahead(spec))
        | "SpreadImages" >> beam.Reshuffle()
        | "ProfileImages" >> ProfileImages(spec)
    )
    detected = (
        root
        | "PlanCells" >> beam.Create(cells)
        # Grouped, not reshuffled: Flink's optimizer drops the second of two reshuffles in a row.
        | "KeyCells" >> beam.Map(lambda cell: (cell, None))
        | "SpreadCells" >> beam.GroupByKey()
        | "Cells" >> beam.Keys()
        | "PlanTiles" >> PlanTiles(spec, len(cells))
        | "SpreadTiles" >> beam.Reshuffle()
        | "DetectBuildings"
        >> detect(spec, _barrier(profiled, "Profiled")).with_resource_hints(
            **spec.config.engine.hints
        )
    )
    sizes = level_sizes(cover.tile_extent().values())
    merged, notes = detected.refs | "MergeSeams" >> MergeSeams(spec, sizes)
    tiles = (
        detected.refs
        | "WithWhole" >> beam.Filter(lambda ref: ref.num_whole > 0)
        | "KeyTiles" >> beam.Map(lambda ref: by_block(ref.key, ref.tile_hash, ref.images))
    )
    merged = merged | "KeyMerged" >> beam.Map(merged_by_block)
    finished = (
        {"tiles": tiles, "merged": merged}
        | "GroupByTile" >> beam.CoGroupByKey()
        | "FinishFootprints" >> FinishFootprints(spec)
    )
    resolved = finished | "ResolveOverlaps" >> ResolveOverlaps(spec, _barrier(finished, "Finished"))
    shards = resolved | "WriteShards" >> WriteShards(spec)
    ledger = detected.records | "WriteLedger" >> WriteLedger(spec, notes)
    _ = root | "PublishDataset" >> PublishDataset(spec, shards, ledger)


def _barrier(elements: Any, name: str) -> Any:
    """A side input that is there only when all elements are; just their number travels."""
    return beam.pvalue.AsSingleton(elements | f"Count{name}" >> beam.combiners.Count.Globally())


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
