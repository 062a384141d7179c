"""Sources of images with one COCO file (https://cocodataset.org/#format-data)."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geo.matching import PolygonObjects
from model.burn_polygons import burn_polygons
from model.coco_masks import decode_mask
from model.errors import SourceError
from model.fill_mask import find_missing
from model.find_images import find_images, read_rgb
from model.labelled_image import LabelCounts, LabelledImage, SkippedImage, shrink_labelled
from model.places import Int32Array
from model.read_mask_source import number_ids
from model.source_config import CocoSource, DatasetConfig

Record = dict[str, Any]


def read_coco_source(
    source: CocoSource, dataset: DatasetConfig
) -> Iterator[LabelledImage | SkippedImage]:
    """Every image of a source with its annotations, in the order of names.

    Images that the COCO file does not list are skipped: whether they hold buildings is not known.

    Args:
        source: the source.
        dataset: pixel size for storing, fill colours.

    Raises:
        SourceError: if the annotations cannot be read, or a name or pattern finds no image.
    """
    records, annotations = _read_annotations(Path(source.annotations), source.categories)
    colours = dataset.fill_colours if source.fill_colours is None else source.fill_colours
    for path in find_images(source.name, source.images, source.max_images):
        try:
            record = records.get(path.name)
            if record is None:
                raise SourceError(f"{source.annotations} does not list {path.name}")
            labelled = _read_image(path, record, annotations[record["id"]], source.gsd_m, colours)
        except SourceError as error:
            yield SkippedImage(stem=path.stem, reason=str(error))
        else:
            yield shrink_labelled(labelled, dataset.store_gsd_m)


def _read_annotations(
    path: Path, categories: tuple[str, ...] | None
) -> tuple[dict[str, Record], dict[Any, list[Record]]]:
    """Image records by file name, and annotations by image id."""
    try:
        data = json.loads(path.read_text())
        records = {Path(record["file_name"]).name: record for record in data["images"]}
        names = {entry["id"]: entry["name"] for entry in data.get("categories", [])}
        by_image: dict[Any, list[Record]] = defaultdict(list)
        for entry in data["annotations"]:
            if categories is None or names.get(entry["category_id"]) in categories:
                by_image[entry["image_id"]].append(entry)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{path} is no COCO file of annotations ({error!r})") from error
    missing = set(categories or ()) - set(names.values())
    if missing:
        raise SourceError(
            f"{path} has no category {sorted(missing)[0]!r}; it has {sorted(names.values())}"
        )
    return records, by_image


def _read_image(
    path: Path,
    record: Record,
    annotations: list[Record],
    gsd_m: float,
    colours: tuple[tuple[int, int, int], ...],
) -> LabelledImage:
    image = read_rgb(path)
    shape = image.shape[0], image.shape[1]
    listed = record.get("height", shape[0]), record.get("width", shape[1])
    if listed != shape:
        raise SourceError(
            f"image {path} has {shape[1]} x {shape[0]} px, its annotations are for {listed[1]} x "
            f"{listed[0]}"
        )
    valid = ~find_missing(image, colours)
    crowds = [entry for entry in annotations if entry.get("iscrowd")]
    single = [entry for entry in annotations if not entry.get("iscrowd")]
    crowd_ids, _ = burn_annotations(crowds, shape, path)
    ids, counts = burn_annotations(single, shape, path)
    return LabelledImage(
        stem=path.stem,
        gsd_m=gsd_m,
        image=image,
        ids=ids,
        # A crowd is several buildings under one outline: neither one building nor ground.
        known=valid & ((crowd_ids == 0) | (ids > 0)),
        valid=valid,
        has_instances=True,
        counts=counts,
    )


def burn_annotations(
    annotations: list[Record], shape: tuple[int, int], path: Path
) -> tuple[Int32Array, LabelCounts]:
    """Ids of the pixels of COCO annotations, polygons or run-length masks.

    Args:
        annotations: records with a `segmentation`.
        shape: (height, width) of the image.
        path: the image, for messages.

    Returns:
        int32 of that shape; ids run from 1 without gaps. And what became of the annotations.

    Raises:
        SourceError: if a segmentation is neither polygons nor a run-length mask.
    """
    parts: list[Any] = []
    owner: list[int] = []
    masks = np.zeros(shape, np.int32)
    num_repaired = 0
    for number, entry in enumerate(annotations, start=1):
        segmentation = entry.get("segmentation")
        if isinstance(segmentation, dict):
            masks[decode_mask(segmentation, shape, path)] = number
            continue
        polygons, was_broken = _polygons(segmentation, path)
        parts += polygons
        owner += [number] * len(polygons)
        num_repaired += was_broken
    burnt, num_overlap_px = burn_polygons(np.array(parts, object), np.array(owner, np.int64), shape)
    ids = number_ids(np.where(burnt > 0, burnt, masks))
    counts = LabelCounts(
        num_labels=len(annotations),
        num_repaired=num_repaired,
        num_dropped=len(annotations) - int(ids.max()),
        num_overlap_px=num_overlap_px,
    )
    return ids, counts


def _polygons(segmentation: Any, path: Path) -> tuple[list[shapely.Polygon], bool]:
    """The polygons of a segmentation, valid, and whether one was not."""
    try:
        rings = [np.asarray(ring, float).reshape(-1, 2) for ring in segmentation]
    except (TypeError, ValueError) as error:
        raise SourceError(
            f"an annotation of {path.name} has the segmentation {segmentation!r:.80}; expected "
            "lists of x, y, x, y, ... or a run-length mask"
        ) from error
    shapes: PolygonObjects = np.array(
        [shapely.Polygon(ring) for ring in rings if len(ring) >= 3], object
    )
    is_broken = ~shapely.is_valid(shapes)
    shapes[is_broken] = shapely.make_valid(
        shapes[is_broken], method="structure", keep_collapsed=False
    )
    single = shapely.get_parts(shapely.get_parts(shapes))
    return [polygon for polygon in single if polygon.area > 0], bool(is_broken.any())
