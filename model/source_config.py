"""Settings of training data: which files, at which pixel size, for which side of the split."""

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

FORBID: dict[str, str] = {"extra": "forbid"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class CutConfig:
    """A line that cuts one image into a place for training and one for validation."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    axis: Literal["x", "y"]
    """`x`: the line is a column, `y`: it is a row."""
    at: float
    """Where it lies, as a share of the image's width or height."""
    validation: Literal["low", "high"] = "high"
    """Which side is for validation: below or above the line in columns or rows."""
    gap_m: float = 30.0
    """Ground that is left out along the line, so that no building lies on both sides."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.at < 1:
            raise ValueError(f"at = {self.at}; expected a share between 0 and 1")
        if not 0 <= self.gap_m <= 10_000:
            raise ValueError(f"gap_m = {self.gap_m}; expected 0 to 10000 metres")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """What all kinds of sources have in common."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    name: str
    """Name of the source; its places are called NAME/STEM after their image files."""
    category: str = "unknown"
    """Kind of settlement, for scores by category."""
    weight: float = 1.0
    """How often it is drawn, against the other sources; within, places are drawn by their known
    area."""
    validation: tuple[str, ...] = ()
    """Regions for validation, names or patterns such as `Kav_2*`; the others are for training."""
    region: str | None = None
    """Regular expression searched in an image's stem; what its first group matches is the region,
    the unit of the split. None: every image is one. For overlapping or neighbouring images."""
    max_images: int | None = None
    """Keep this many images, spread evenly over the sorted names; None keeps all."""
    max_empty: int | None = None
    """Of the images without any building keep this many, spread evenly over the sorted names: some
    teach what is no building, more of the same fill the pack. None keeps all."""
    jpeg_quality: int | None = None
    """Quality of its images in a chip pack; None takes the data set's."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name = {self.name!r}; expected letters, digits, '.', '_' and '-'")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight = {self.weight}; expected 0 or more")
        if self.region is not None:
            _check_region(self.region)
        if self.max_images is not None and self.max_images < 1:
            raise ValueError(f"max_images = {self.max_images}; expected at least 1, or none")
        if self.max_empty is not None and self.max_empty < 0:
            raise ValueError(f"max_empty = {self.max_empty}; expected 0 or more, or none")
        if self.jpeg_quality is not None and not 30 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality = {self.jpeg_quality}; expected 30 to 100, or none")


@dataclass(frozen=True, kw_only=True)
class _FileSourceConfig(SourceConfig):
    """What sources of image files have in common."""

    images: tuple[str, ...]
    """Image files, or patterns such as `tiles/*.tif`; relative to the data set's `root`."""
    fill_colours: tuple[tuple[int, int, int], ...] | None = None
    """Colours that stand for missing data at the borders; None takes the data set's."""
    cut: dict[str, CutConfig] = field(default_factory=dict)
    """Images to cut in two, by their stems; `*` stands for all that are not named."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        if not self.images:
            raise ValueError("images is empty; name at least one file or pattern")
        for colour in self.fill_colours or ():
            if not all(0 <= value <= 255 for value in colour):
                raise ValueError(f"fill_colours holds {colour}; expected values from 0 to 255")


@dataclass(frozen=True, kw_only=True)
class PolygonSource(_FileSourceConfig):
    """Georeferenced images with polygons of buildings in any vector format and CRS."""

    kind: Literal["polygons"] = "polygons"
    """This kind."""
    labels: str = "{stem}.geojson"
    """File of the polygons, relative to the image's folder; {stem} stands for the image's name
    without extension. One file may serve many images."""
    area: str | None = None
    """File with the labelled area, in the same way: ground outside is unknown, and so are buildings
    that its edge cuts. None: the image's whole extent is labelled."""
    allow_empty: bool = False
    """Whether an image may have no polygons, as ground without buildings. False skips and counts
    it: mostly the labels of such an image are missing or elsewhere."""
    context_m: float = 20.0
    """How much of the image around the labelled area is kept as context without labels."""
    min_area_m2: float = 2.0
    """Smaller polygons are no buildings anyone could see: their ground counts as unknown."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        if not 0 <= self.context_m <= 1000:
            raise ValueError(f"context_m = {self.context_m}; expected 0 to 1000 metres")
        if not 0 <= self.min_area_m2 <= 1000:
            raise ValueError(f"min_area_m2 = {self.min_area_m2}; expected 0 to 1000")


@dataclass(frozen=True, kw_only=True)
class CocoSource(_FileSourceConfig):
    """Images with one COCO file of polygons or run-length masks."""

    kind: Literal["coco"] = "coco"
    """This kind."""
    annotations: str
    """The JSON file, relative to `root`; file names tie its images to those of `images`."""
    gsd_m: float
    """Pixel size of the images in metres."""
    categories: tuple[str, ...] | None = None
    """Names of the categories that are buildings; None: all of them."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        _check_gsd(self.gsd_m)


@dataclass(frozen=True, kw_only=True)
class MaskSource(_FileSourceConfig):
    """Images with masks of equal size, one file each."""

    kind: Literal["instance_masks", "binary_masks"]
    """Masks of instance ids (0 ground), or of two values (0 ground, another one building)."""
    masks: str = "{stem}.png"
    """File of the mask, relative to the image's folder; {stem} as in the image's name."""
    gsd_m: float
    """Pixel size of the images in metres."""
    has_instances: bool = True
    """False where instance ids are components of a binary mask, so that touching buildings share
    one. Always so for `binary_masks`."""
    unknown_value: int | None = None
    """Value of pixels that nobody labelled; None: there are none."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        _check_gsd(self.gsd_m)
        if self.unknown_value is not None and not 1 <= self.unknown_value <= 65_535:
            raise ValueError(f"unknown_value = {self.unknown_value}; expected 1 to 65535, or none")


@dataclass(frozen=True, kw_only=True)
class DrawnSource(SourceConfig):
    """Drawn towns with known outlines (`model.drawn_towns`), one region each."""

    kind: Literal["drawn"] = "drawn"
    """This kind."""
    count: int
    """How many are drawn; they are called scene_0000 and so on."""
    seed: int = 0
    """Seed of the first; each one has the next."""
    size_px: int = 1024
    """Pixels per side."""
    gsd_m: float = 0.2
    """Pixel size in metres."""
    style: str | None = None
    """Name of a style of `draw_scene`; None: each seed has one of its own."""
    store: Literal["recipe", "pixels"] = "recipe"
    """What a chip pack keeps: the seeds, so that reading it draws again (about a second for 768
    pixels square, and no space), or images and labels."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        _check_gsd(self.gsd_m)
        if not 1 <= self.count <= 100_000:
            raise ValueError(f"count = {self.count}; expected 1 to 100000 scenes")
        if not 64 <= self.size_px <= 16_384:
            raise ValueError(f"size_px = {self.size_px}; expected 64 to 16384 pixels")


AnySource: TypeAlias = PolygonSource | CocoSource | MaskSource | DrawnSource


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """All training data of a project."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    sources: tuple[AnySource, ...]
    """Where the data comes from."""
    root: str = "."
    """Folder that the paths of the sources start from, itself from the folder of the YAML file."""
    store_gsd_m: float = 0.15
    """Finer images are stored at this pixel size; coarser ones keep their own."""
    fill_colours: tuple[tuple[int, int, int], ...] = ((0, 0, 0), (255, 255, 255))
    """Colours that stand for missing data where they fill an even area at an image's border."""
    max_skipped_share: float = 0.1
    """Share of a source's images that may be unusable; they are left out and counted. Above it,
    nothing is written."""
    jpeg_quality: int = 90
    """Quality of the images in a chip pack."""

    def __post_init__(self) -> None:
        """Check what concerns several fields."""
        if not self.sources:
            raise ValueError("sources is empty; name at least one source")
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are called {name!r}; give them different names")
        _check_gsd(self.store_gsd_m)
        if not 0 <= self.max_skipped_share <= 1:
            raise ValueError(f"max_skipped_share = {self.max_skipped_share}; expected 0 to 1")
        if not 30 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality = {self.jpeg_quality}; expected 30 to 100")


def _check_gsd(gsd_m: float) -> None:
    if not 0.01 <= gsd_m <= 100:
        raise ValueError(f"a pixel size of {gsd_m} m; expected 0.01 to 100 metres")


def _check_region(pattern: str) -> None:
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"region = {pattern!r} is no regular expression: {error}") from error
    if num_groups != 1:
        raise ValueError(
            f"region = {pattern!r} has {num_groups} groups; expected one, such as (.+)_"
        )
