"""RunConfig: everything a run computes, composed of the configs that live beside their code.

The only place that reads YAML. An unknown key, a wrong type or a value out of range is refused
before any work starts, naming the key, the value and what was expected.
"""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from geo.errors import EveryroofError, StorageError
from geo.finish import FinishConfig
from geo.footprints import FilterConfig
from geo.geoparquet import WriteConfig
from geo.grid import gsd_to_mm
from geo.overlap import OverlapConfig
from geo.places import Place, as_place
from geo.raster_config import RasterConfig
from geo.shards import ShardConfig
from model.segment_config import SegmentConfig
from model.shipped import SHIPPED, resolve_bundle
from pipeline.engine_config import EngineConfig
from pipeline.image_sources import SOURCES, ImageSource, ResolvedSource, as_record
from pipeline.image_sources import ImageConfig as ImageConfig

FORBID: dict[str, str] = {"extra": "forbid"}


class ConfigError(EveryroofError):
    """A configuration that cannot be used; nothing was started."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The world grid and the unit of work."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    gsd_m: float | None = None
    """Pixel size in metres that images are warped to; the bundle's unless given."""
    tile_px: int = 4096
    """Pixels per side of a tile, a whole number of windows: the unit of reading and retry."""
    max_building_m: float = 1000.0
    """Largest building; larger components go to the ledger instead of the footprints."""
    aoi_margin_m: float = 100.0
    """How far beyond the area of interest is segmented, so that buildings at its edge are whole."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.gsd_m is not None:
            gsd_to_mm(self.gsd_m)
        if not 64 <= self.tile_px <= 16384:
            raise ValueError(f"tile_px = {self.tile_px}; expected 64 to 16384 pixels")
        if not 10 <= self.max_building_m <= 20_000:
            raise ValueError(f"max_building_m = {self.max_building_m}; expected 10 to 20000 metres")
        if self.aoi_margin_m < 0:
            raise ValueError(f"aoi_margin_m = {self.aoi_margin_m}; expected 0 or more metres")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LimitConfig:
    """When a run counts as failed."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    max_failed_share: float = 0.0
    """Share of tiles that may fail before the exit status says so; the rest is delivered anyway."""
    max_attempts: int = 3
    """Times that a tile may kill its worker before it is given up as failed."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.max_failed_share <= 1:
            raise ValueError(f"max_failed_share = {self.max_failed_share}; expected 0 to 1")
        if not 2 <= self.max_attempts <= 10:
            raise ValueError(f"max_attempts = {self.max_attempts}; expected 2 to 10")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: images in, footprints out."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    images: tuple[ImageSource, ...]
    """Images, in the order of preference: paths, patterns, lists, catalogues, tile services (see
    `pipeline.image_sources`)."""
    output: str
    """Folder of the result: a path, s3://BUCKET/KEY or gs://BUCKET/KEY. Must be new, empty, or an
    earlier run's."""
    model: str = SHIPPED
    """The bundle: one safetensors file (`everyroof bundle show FILE`) or its URL, or `shipped`."""
    area_of_interest: str | None = None
    """Vector file or its URL; footprints whose centroid lies outside its polygons are left out."""
    tile_store: str | None = None
    """Folder of the tile store, as for `output`; OUT/.tiles unless given."""
    outputs: tuple[Literal["footprints", "probability"], ...] = ("footprints",)
    """What to write; `probability` adds a COG per tile."""
    grid: GridConfig = dataclasses.field(default_factory=GridConfig)
    raster: RasterConfig = dataclasses.field(default_factory=RasterConfig)
    segment: SegmentConfig = dataclasses.field(default_factory=SegmentConfig)
    finish: FinishConfig = dataclasses.field(default_factory=FinishConfig)
    filter: FilterConfig = dataclasses.field(default_factory=FilterConfig)
    overlap: OverlapConfig = dataclasses.field(default_factory=OverlapConfig)
    shards: ShardConfig = dataclasses.field(default_factory=ShardConfig)
    write: WriteConfig = dataclasses.field(default_factory=WriteConfig)
    limits: LimitConfig = dataclasses.field(default_factory=LimitConfig)
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        """Check what concerns several fields."""
        if not self.images:
            raise ValueError("images is empty; name at least one image")
        if "footprints" not in self.outputs:
            raise ValueError(f"outputs = {list(self.outputs)}; expected at least 'footprints'")
        if self.segment.first_look is not None and self.raster.mosaic == "mean_probability":
            raise ValueError(
                f"segment.first_look = {self.segment.first_look} with raster.mosaic = "
                "'mean_probability': a window that one image leaves out would be missing from the "
                "mean; take mosaic latest or first, or no first look"
            )
        for name, value in (("output", self.output), ("tile_store", self.tile_store)):
            try:
                as_place(value or ".")
            except StorageError as error:
                raise ValueError(f"{name}: {error}") from error

    @property
    def out_path(self) -> Place:
        """Folder of the output, on a disk or in a bucket."""
        return as_place(self.output)

    @property
    def store_path(self) -> Place:
        """Folder of the tile store, likewise."""
        return as_place(self.tile_store) if self.tile_store else self.out_path / ".tiles"

    def image_sources(self) -> list[ResolvedSource]:
        """The entries of `images`, plain paths and patterns turned into records."""
        return [as_record(source) for source in self.images]

    def to_json(self) -> str:
        """The resolved config as JSON, keys sorted: what the manifest keeps."""
        return json.dumps(_ADAPTER.dump_python(self, mode="json"), sort_keys=True)


_ADAPTER = TypeAdapter(RunConfig)


def parse_config(data: Any, *, source: str) -> RunConfig:
    """Check plain data (as YAML gives it) and turn it into a RunConfig.

    Args:
        data: a mapping.
        source: name used in errors.

    Raises:
        ConfigError: naming every key that is wrong, its value and what was expected.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: expected a mapping of keys, got {type(data).__name__}")
    if isinstance(data.get("images"), str | dict):
        data = {**data, "images": [data["images"]]}
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        lines = [_explain(entry) for entry in error.errors()]
        raise ConfigError("\n".join([f"{source}: the config cannot be used", *lines])) from None
    except EveryroofError as error:
        raise ConfigError(f"{source}: {error}") from error


def load_config(path: str | Path) -> RunConfig:
    """Read a YAML config; relative paths in it are taken from the folder of the YAML file.

    Raises:
        ConfigError: missing file, broken YAML, or content that does not fit.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the config: {error.strerror}") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    return _anchor_paths(parse_config(data, source=str(path)), path.parent)


def _anchor_paths(config: RunConfig, folder: Path) -> RunConfig:
    def anchored(path: str) -> str:
        is_remote = "://" in path or path.startswith("/vsi")
        return path if is_remote else str(folder / path)

    return dataclasses.replace(
        config,
        images=tuple(source.anchored(anchored) for source in config.image_sources()),
        model=resolve_bundle(config.model) if config.model == SHIPPED else anchored(config.model),
        output=anchored(config.output),
        area_of_interest=config.area_of_interest and anchored(config.area_of_interest),
        tile_store=config.tile_store and anchored(config.tile_store),
    )


def _explain(entry: Any) -> str:
    # A union adds its member's tag to the location ("images.0.stac.asset"); leave it out.
    location = entry["loc"]
    if location[:1] == ("images",) and len(location) > 2:
        location = (*location[:2], *location[3:])
    place = ".".join(str(part) for part in location)
    if entry["type"] == "unexpected_keyword_argument":
        return f"  {place}: unknown key{_nearest(entry['loc'])}"
    if entry["type"] == "missing":
        return f"  {place}: missing; this key is needed"
    value = "" if isinstance(entry["input"], dict) else f" (got {entry['input']!r})"
    prefix = f"  {place}: " if place else "  "
    return f"{prefix}{entry['msg'].removeprefix('Value error, ')}{value}"


def _nearest(location: tuple[Any, ...]) -> str:
    import difflib

    owner: Any = RunConfig
    for part in location[:-1]:
        owner = _member(owner, part)
        if owner is None:
            return ""
    known = [f.name for f in dataclasses.fields(owner)]
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"


def _member(owner: Any, part: Any) -> Any:
    """The dataclass behind a part of an error's location; None where there is none."""
    if owner is ImageSource:
        return ImageSource if isinstance(part, int) else SOURCES.get(part)
    field = {f.name: f for f in dataclasses.fields(owner)}.get(str(part))
    if field is None:
        return None
    if owner is RunConfig and part == "images":
        return ImageSource
    kinds = (field.type, *typing.get_args(field.type))
    return next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
