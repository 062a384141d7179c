"""All that the page shows, opened once: footprints, their index, images and the ledger."""

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geo.dataset import Dataset, open_dataset
from geo.errors import DatasetError
from geo.footprint_index import CELLS_PER_TILE, CONFIDENCE_STEPS
from pipeline.footprint_stats import AREA_EDGES_M2
from pipeline.palette import STATUS_COLOURS, STATUS_ORDER, STATUS_WORDS
from pipeline.viewer import vector_tiles
from pipeline.viewer.imagery import Imagery, find_images, open_images
from pipeline.viewer.index_builder import IndexBuilder
from pipeline.viewer.page import json_bytes
from pipeline.viewer.records import LEDGER_COLUMNS
from pipeline.viewer.row_groups import RowGroups, open_file, open_footprints
from pipeline.viewer.vector_tiles import OutlineTiles, Properties, footprint_properties

MAX_FAILED_IMAGES = 50
"""Images that could not be opened, as the page names them."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is shown.

    Attributes:
        dataset: the run's result.
        groups: row groups of its shards.
        builder: fills the index; to be entered as a context.
        footprints: tiles of the outlines.
        imagery: tiles of the images.
        ledger_groups: row groups of the ledger; None where there is none.
        ledger: tiles of the ledger; None where there is none.
        problems: sentences on what cannot be shown.
    """

    dataset: Dataset
    groups: RowGroups
    builder: IndexBuilder
    footprints: OutlineTiles
    imagery: Imagery
    ledger_groups: RowGroups | None
    ledger: OutlineTiles | None
    problems: tuple[str, ...]


def open_scene(out: str, image_paths: Sequence[str] = ()) -> Scene:
    """Open a result; nothing but footers is read.

    Args:
        out: the output folder of a run, or a URL.
        image_paths: images to show instead of the run's own.

    Raises:
        DatasetError: if the run has not finished, or a shard is missing or damaged.
        RasterError: if a named image cannot be used.
    """
    dataset = open_dataset(out)
    groups = open_footprints(dataset)
    found = open_images(image_paths, dataset) if image_paths else find_images(dataset)
    problems, ledger_groups, ledger = list(found.problems), None, None
    try:
        ledger_groups = open_file(dataset.place_in("tiles.parquet"))
        ledger = OutlineTiles(ledger_groups, "ledger", LEDGER_COLUMNS[1:2], _ledger_properties)
    except DatasetError as error:
        problems.append(f"No ledger, so ground without buildings may be ground not seen: {error}")
    return Scene(
        dataset=dataset,
        groups=groups,
        builder=IndexBuilder(groups),
        footprints=OutlineTiles(
            groups, "footprints", ["confidence", "area_in_meters"], footprint_properties
        ),
        imagery=Imagery(found.images, dataset),
        ledger_groups=ledger_groups,
        ledger=ledger,
        problems=tuple(problems),
    )


def describe(scene: Scene) -> dict[str, Any]:
    """What the page has to know before it draws, for JSON."""
    dataset = scene.dataset
    return {
        "name": _title(dataset),
        "version": hashlib.sha256(json_bytes(dataset.manifest)).hexdigest()[:12],
        "model": dataset.model_id,
        "gsd_m": dataset.gsd_m,
        "num_footprints": scene.groups.num_rows,
        "bounds": narrowest_bounds([s.bounds for s in dataset.shards if s.num_rows])
        or scene.imagery.bounds
        or _ledger_bounds(scene),
        "problems": list(scene.problems),
        "images": [image.image_id for image in scene.imagery.images],
        "outline_zooms": [
            vector_tiles.outline_min_zoom(scene.groups.num_rows),
            vector_tiles.MAX_ZOOM,
        ],
        "image_bounds": scene.imagery.bounds,
        "image_min_zoom": scene.imagery.min_zoom,
        "tiles": dataset.manifest.get("tiles", {}).get("num_by_status", {}),
        "failed_images": _failed_images(scene),
        **page_constants(),
    }


def page_constants() -> dict[str, Any]:
    """Numbers and colours that page and program must agree on."""
    return {
        "confidence_steps": CONFIDENCE_STEPS,
        "cells_per_tile": CELLS_PER_TILE,
        "area_edges_m2": [edge for edge in AREA_EDGES_M2.tolist() if math.isfinite(edge)],
        "statuses": [
            {"name": name, "colour": STATUS_COLOURS[name], "words": STATUS_WORDS[name]}
            for name in STATUS_ORDER
        ],
    }


def narrowest_bounds(
    boxes: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float] | None:
    """The narrowest box around boxes on the globe; its east may lie beyond 180 degrees.

    Args:
        boxes: west, south, east and north of each in degrees.

    Returns:
        None without boxes.
    """
    if not boxes:
        return None
    # The widest gap between boxes, going round, is left out.
    spans = sorted(((west + 180) % 360 - 180, max(east - west, 0)) for west, _, east, _ in boxes)
    reach, gaps = spans[0][0] + spans[0][1], []
    for west, width in spans[1:]:
        gaps.append((west - reach, west))
        reach = max(reach, west + width)
    gaps.append((spans[0][0] + 360 - reach, spans[0][0]))
    gap, west = max(gaps, key=lambda entry: entry[0])
    east = west + min(360 - max(gap, 0), 360)
    return west, min(box[1] for box in boxes), east, max(box[3] for box in boxes)


def _title(dataset: Dataset) -> str:
    """The last two parts of the place: the last alone is often a mere "out"."""
    return "/".join([part for part in str(dataset.place.resolve()).split("/") if part][-2:])


def _ledger_properties(table: pa.Table) -> Properties:
    """`s`: place of the status in `STATUS_ORDER`."""
    order = pa.array(STATUS_ORDER)
    found = pc.index_in(table["status"].cast(pa.string()), order).fill_null(len(order))
    return {"s": found.to_numpy().astype(np.int64)}


def _ledger_bounds(scene: Scene) -> tuple[float, float, float, float] | None:
    if scene.ledger_groups is None:
        return None
    boxes = [box for box in scene.ledger_groups.bounds.T.tolist() if np.isfinite(box).all()]
    return narrowest_bounds([(west, south, east, north) for west, south, east, north in boxes])


def _failed_images(scene: Scene) -> list[dict[str, str]]:
    """Images of the ledger: they could not be opened, and lie nowhere."""
    failed: list[dict[str, str]] = []
    if scene.ledger_groups is None or not _num_failed_images(scene):
        return failed
    with contextlib.suppress(DatasetError):
        for group in reversed(range(len(scene.ledger_groups))):
            table = scene.ledger_groups.read(group, ["image", "reason"])
            failed += table.filter(table["image"].is_valid()).to_pylist()
            if len(failed) >= MAX_FAILED_IMAGES:
                break
    return failed[:MAX_FAILED_IMAGES]


def _num_failed_images(scene: Scene) -> int:
    return int(scene.dataset.manifest.get("tiles", {}).get("num_failed_images", 0))
