"""The footprints of a small place in memory, by the very steps of the main job.

Tiles are read, segmented and traced, pieces merged, instances finished and overlaps resolved by the
functions that the Beam graph wires, in the same order and with the same configs; only the shuffles
and the tile store are left out. So a score of these footprints is a score of what `everyroof run`
writes, which a test compares row by row.
"""

import tempfile
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geo.errors import RasterError
from geo.footprints import FOOTPRINT_SCHEMA, footprint_ids
from geo.instances import Instances, concat_instances
from geo.overlap import resolve_overlaps
from geo.seams import Pieces, merge_level
from model.segment import Segmenter
from pipeline.cover import Cover
from pipeline.finish import finish_instances, raw_confidence
from pipeline.image_shelf import ImageShelf
from pipeline.merge import with_job_images
from pipeline.spec import JobSpec
from pipeline.tile_store import TileStore
from pipeline.tile_work import make_task, read_layers, segment_layers, trace_tile

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceFootprints:
    """What the main job finds at a place.

    Attributes:
        table: the footprints, in the schema of `geo.footprints`.
        raw_confidence: of each footprint before the bundle's calibration, float64.
        num_pixels: valid pixels that went through the network.
    """

    table: pa.Table
    raw_confidence: Float64Array
    num_pixels: int


def find_footprints(spec: JobSpec, segmenter: Segmenter) -> PlaceFootprints:
    """Find the footprints of a job that fits into memory.

    An area of interest limits what is read (with its margin), but footprints outside it are kept.

    Args:
        spec: the job; its output folder and tile store are not touched.
        segmenter: of the job's bundle, with the job's windows.

    Raises:
        RasterError: if an image cannot be read.
    """
    for image in spec.failed_images:
        raise RasterError(image.reason)
    instances, num_pixels = _find_instances(spec, segmenter)
    # Every image was opened with the config: dates are known without the store.
    shelf = ImageShelf(spec, TileStore(spec.store_path))
    tables: list[pa.Table] = []
    raw: dict[str, float] = {}
    for zone, found in instances.items():
        ids = footprint_ids(spec.grid(zone), found.first_pixels())
        raw.update(zip(ids.to_pylist(), raw_confidence(spec, found).tolist(), strict=True))
        tables.append(finish_instances(spec, shelf, zone, found)[0])
    table = _resolve(spec, tables)
    confidence = np.array([raw[name] for name in table["id"].to_pylist()], np.float64)
    return PlaceFootprints(table=table, raw_confidence=confidence, num_pixels=num_pixels)


def _find_instances(spec: JobSpec, segmenter: Segmenter) -> tuple[dict[int, Instances], int]:
    """Whole instances by zone, and the number of valid pixels."""
    cover = Cover(spec)
    whole: dict[int, list[Instances]] = {}
    pieces: dict[int, list[Pieces]] = {}
    num_pixels = 0
    with tempfile.TemporaryDirectory() as folder:
        shelf = ImageShelf(spec, TileStore(folder))
        for cell in cover.plan_cells():
            for tile in cover.tiles_in(cell):
                task = make_task(spec, cover, shelf, segmenter.fingerprint, tile)
                done = segment_layers(spec, segmenter, read_layers(spec, shelf, task))
                result = trace_tile(spec, done)
                inside = with_job_images(result.whole, task.images)
                whole.setdefault(tile.zone, []).append(inside)
                pieces.setdefault(tile.zone, []).append(_job_pieces(result.pieces, task.images))
                num_pixels += result.num_pixels_valid
    merged = {
        zone: concat_instances(
            [*whole[zone], merge_level(pieces[zone], None, spec.max_extent_px).whole]
        )
        for zone in whole
    }
    return merged, num_pixels


def _job_pieces(pieces: Pieces, images: tuple[int, ...]) -> Pieces:
    return Pieces(
        instances=with_job_images(pieces.instances, images),
        is_oversize=pieces.is_oversize,
        bounds=pieces.bounds,
        first_pixels=pieces.first_pixels,
    )


def _resolve(spec: JobSpec, tables: list[pa.Table]) -> pa.Table:
    """Final footprints: the tables of the other zones are the context of each."""
    empty = FOOTPRINT_SCHEMA.empty_table()
    if not tables:
        return empty
    parts = []
    for index, table in enumerate(tables):
        others = [*tables[:index], *tables[index + 1 :], empty]
        result = resolve_overlaps(table, pa.concat_tables(others), spec.config.overlap)
        parts.append(result.table)
    return pa.concat_tables(parts)
