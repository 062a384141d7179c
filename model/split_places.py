"""From labelled images to places: regions, sides of the split, cuts."""

import fnmatch
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from model.errors import SourceError
from model.labelled_image import LabelledImage
from model.places import Int32Array, Place, Split
from model.source_config import CutConfig, SourceConfig

# Pixels that a cut may be off for the sake of round numbers.
_ROUNDING = 0.01
_EVERY_IMAGE = "*"


def make_places(source: SourceConfig, images: Sequence[LabelledImage]) -> list[Place]:
    """The places of a source's images, each on its side of the split.

    Args:
        source: the source; its weight is spread evenly over the known ground for training.
        images: its images.

    Raises:
        SourceError: if a region, a pattern for validation or a cut fits no image, or if a cut
            leaves no labelled ground on one side.
    """
    cuts: dict[str, CutConfig] = getattr(source, "cut", {})
    regions = {image.stem: region_of(source, image.stem) for image in images}
    _check_patterns(source, set(regions.values()), cuts, set(regions))
    held_out = {
        region
        for region in regions.values()
        if any(fnmatch.fnmatchcase(region, pattern) for pattern in source.validation)
    }
    parts: list[tuple[LabelledImage, str, Split]] = []
    for image in images:
        region = regions[image.stem]
        cut = cuts.get(image.stem, cuts.get(_EVERY_IMAGE))
        if cut is None:
            parts.append((image, region, "validation" if region in held_out else "train"))
            continue
        if region in held_out or list(regions.values()).count(region) > 1:
            raise SourceError(
                f"source {source.name}: {image.stem} is cut, so its region {region} can neither be "
                "held out nor hold other images"
            )
        parts += _cut(source, image, region, cut)
    area_m2 = sum(_known_m2(image) for image, _, split in parts if split == "train")
    weight = source.weight / max(area_m2, 1.0)
    return [_to_place(source, *part, weight) for part in parts]


def region_of(source: SourceConfig, stem: str) -> str:
    """The region of an image.

    Raises:
        SourceError: if the source's pattern finds none in its name.
    """
    if source.region is None:
        return stem
    match = re.search(source.region, stem)
    if match is None or not match.group(1):
        raise SourceError(
            f"source {source.name}: region = {source.region!r} finds nothing in {stem!r}"
        )
    return match.group(1)


def _check_patterns(
    source: SourceConfig, regions: set[str], cuts: dict[str, CutConfig], stems: set[str]
) -> None:
    """A name that fits nothing would quietly put held out ground into training."""
    for pattern in source.validation:
        if not fnmatch.filter(regions, pattern):
            raise SourceError(
                f"source {source.name}: validation names {pattern!r}, but its regions are "
                f"{', '.join(sorted(regions)[:12])}"
            )
    for stem in cuts:
        if stem not in stems and stem != _EVERY_IMAGE:
            raise SourceError(
                f"source {source.name}: there is no image {stem!r} to cut among "
                f"{', '.join(sorted(stems)[:12])}"
            )


def _cut(
    source: SourceConfig, image: LabelledImage, region: str, cut: CutConfig
) -> Iterator[tuple[LabelledImage, str, Split]]:
    length = image.ids.shape[1 if cut.axis == "x" else 0]
    line, gap_px = cut.at * length, cut.gap_m / image.gsd_m
    low_end = max(math.floor(line - gap_px / 2 + _ROUNDING), 0)
    high_start = min(math.ceil(line + gap_px / 2 - _ROUNDING), length)
    for name, start, end in (("low", 0, low_end), ("high", high_start, length)):
        split: Split = "validation" if name == cut.validation else "train"
        if end - start >= 1:
            part = _crop(image, f"{image.stem}_{split}", cut.axis, start, end)
        if end - start < 1 or not part.known.any():
            raise SourceError(
                f"source {source.name}: cutting {image.stem} at {cut.at} with a gap of "
                f"{cut.gap_m} m leaves no labelled ground for {split}"
            )
        yield part, f"{region}_{split}", split


def _crop(image: LabelledImage, stem: str, axis: str, start: int, end: int) -> LabelledImage:
    """Columns or rows of an image; ground of buildings that reach beyond is unknown."""
    inside = np.s_[:, start:end] if axis == "x" else np.s_[start:end, :]
    beyond = (
        (np.s_[:, :start], np.s_[:, end:]) if axis == "x" else (np.s_[:start, :], np.s_[end:, :])
    )
    ids = image.ids[inside]
    outside = np.union1d(*(np.unique(image.ids[part]) for part in beyond))
    is_cut = np.isin(ids, outside[outside > 0])
    return LabelledImage(
        stem=stem,
        gsd_m=image.gsd_m,
        image=np.ascontiguousarray(image.image[inside]),
        ids=ids.copy(),
        known=image.known[inside] & ~is_cut,
        valid=image.valid[inside].copy(),
        has_instances=image.has_instances,
        counts=image.counts,
    )


def _to_place(
    source: SourceConfig, image: LabelledImage, region: str, split: Split, weight: float
) -> Place:
    return Place(
        name=f"{source.name}/{image.stem}",
        source=source.name,
        category=source.category,
        region=f"{source.name}/{region}",
        split=split,
        weight=weight,
        gsd_m=image.gsd_m,
        image=np.where(image.valid[:, :, None], image.image, np.uint8(0)),
        ids=_without_gaps(image.ids),
        known=image.known,
        valid=image.valid,
        has_instances=image.has_instances,
        recipe=image.recipe,
    )


def _without_gaps(ids: Int32Array) -> Int32Array:
    present = np.bincount(ids.ravel()) > 0
    present[0] = False
    return np.where(ids > 0, np.cumsum(present, dtype=np.int32)[ids], np.int32(0))


def _known_m2(image: LabelledImage) -> float:
    return int(image.known.sum()) * image.gsd_m**2
