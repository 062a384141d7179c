"""Training data of any kind becomes places, and a report of what was read, kept and left out."""

from collections.abc import Iterator
from dataclasses import dataclass

from model.errors import SourceError
from model.find_images import spread_evenly
from model.labelled_image import LabelCounts, LabelledImage, SkippedImage
from model.places import Place, check_split
from model.source_config import (
    AnySource,
    CocoSource,
    DatasetConfig,
    DrawnSource,
    MaskSource,
    PolygonSource,
)
from model.split_places import make_places

_MAX_REASONS = 3


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """What became of a source.

    Attributes:
        source: its name.
        num_images: images found.
        skipped: those that could not be used, with the reason.
        num_spared: usable images without a building that `max_empty` left out.
        counts: what became of the labels of the others.
        num_places: places made of them, for training and for validation.
        num_instances: instances with known ground.
        train_m2: labelled ground for training, in square metres.
        validation_m2: labelled ground for validation.
    """

    source: str
    num_images: int
    skipped: tuple[SkippedImage, ...]
    num_spared: int
    counts: LabelCounts
    num_places: int
    num_instances: int
    train_m2: float
    validation_m2: float


@dataclass(frozen=True, kw_only=True)
class ReadReport:
    """What became of a data set.

    Attributes:
        sources: one each, in the config's order.
    """

    sources: tuple[SourceReport, ...]


def read_places(config: DatasetConfig) -> tuple[list[Place], ReadReport]:
    """Read all sources of a data set.

    An image that cannot be used (unreadable, without labels, its labels elsewhere on the earth, a
    mask of another size or with too many values) is left out and reported, up to the config's
    `max_skipped_share` of a source.

    Args:
        config: the sources; relative paths are taken from the working directory.

    Raises:
        SourceError: if a source has no images, too many that cannot be used, or settings that fit
            none of them; or if nothing is left for training.
    """
    places: list[Place] = []
    reports: list[SourceReport] = []
    for source in config.sources:
        results = list(_read_source(source, config))
        images = [result for result in results if isinstance(result, LabelledImage)]
        skipped = tuple(result for result in results if isinstance(result, SkippedImage))
        _check_skipped(source, len(results), skipped, config.max_skipped_share)
        kept = _without_most_empty(images, source.max_empty)
        made = make_places(source, kept)
        places += made
        reports.append(_report(source, results, kept, made))
    check_split(places)
    if not any(place.split == "train" and place.weight > 0 for place in places):
        raise SourceError("nothing is left for training: every region is held out for validation")
    return places, ReadReport(sources=tuple(reports))


def _read_source(
    source: AnySource, config: DatasetConfig
) -> Iterator[LabelledImage | SkippedImage]:
    # Here, since each kind brings libraries of its own (GDAL, GEOS) that the others do without.
    if isinstance(source, PolygonSource):
        from model.read_polygon_source import read_polygon_source

        return read_polygon_source(source, config)
    if isinstance(source, CocoSource):
        from model.read_coco_source import read_coco_source

        return read_coco_source(source, config)
    if isinstance(source, MaskSource):
        from model.read_mask_source import read_mask_source

        return read_mask_source(source, config)
    assert isinstance(source, DrawnSource)
    from model.read_drawn_source import read_drawn_source

    return read_drawn_source(source, config)


def _check_skipped(
    source: AnySource, num_images: int, skipped: tuple[SkippedImage, ...], max_share: float
) -> None:
    if len(skipped) == num_images or len(skipped) > max_share * num_images:
        reasons = "".join(f"\n  {one.stem}: {one.reason}" for one in skipped[:_MAX_REASONS])
        more = "\n  ..." if len(skipped) > _MAX_REASONS else ""
        raise SourceError(
            f"source {source.name}: {len(skipped)} of {num_images} images cannot be used:"
            f"{reasons}{more}\nMend them, or allow more with max_skipped_share (now {max_share})"
        )


def _without_most_empty(images: list[LabelledImage], max_empty: int | None) -> list[LabelledImage]:
    """The images, of those without a building at most so many."""
    if max_empty is None:
        return images
    empty = [image.stem for image in images if not image.ids.any()]
    dropped = set(empty) - set(spread_evenly(empty, max_empty))
    return [image for image in images if image.stem not in dropped]


def _report(
    source: AnySource,
    results: list[LabelledImage | SkippedImage],
    images: list[LabelledImage],
    places: list[Place],
) -> SourceReport:
    skipped = tuple(result for result in results if isinstance(result, SkippedImage))
    fields = LabelCounts.__dataclass_fields__
    totals = {name: sum(getattr(image.counts, name) for image in images) for name in fields}
    known_m2 = {
        split: sum(place.known_area_m2 for place in places if place.split == split)
        for split in ("train", "validation")
    }
    return SourceReport(
        source=source.name,
        num_images=len(results),
        skipped=skipped,
        num_spared=len(results) - len(skipped) - len(images),
        counts=LabelCounts(**totals),
        num_places=len(places),
        num_instances=sum(place.num_instances for place in places),
        train_m2=known_m2["train"],
        validation_m2=known_m2["validation"],
    )
