"""RunConfig: everything a run computes, composed of the configs that live beside their code.

The only place that reads YAML. An unknown key, a wrong type or a value out of range is refused
before any work starts, naming the key, the value and what was expected.
"""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from geo.errors import EveryroofError
from geo.finish import FinishConfig
from geo.footprints import FilterConfig
from geo.geoparquet import WriteConfig
from geo.grid import gsd_to_mm
from geo.overlap import OverlapConfig
from geo.raster_config import RasterConfig
from geo.shards import ShardConfig
from model.segment import SegmentConfig
from model.shipped import SHIPPED, resolve_bundle
from pipeline.engine_config import EngineConfig

FORBID: dict[str, str] = {"extra": "forbid"}


class ConfigError(EveryroofError):
    """A configuration that cannot be used; nothing was started."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """One image."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    path: str
    """A path or URL that GDAL opens."""
    id: str | None = None
    """Name in the column `image_id`; the file's stem unless given."""
    date: datetime.date | None = None
    """Date of acquisition (YYYY-MM-DD); read from the image's tags unless given."""


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

    images: tuple[str | ImageConfig, ...]
    """Images, in the order of preference; a plain path or path, id and date."""
    output: str
    """Folder of the result; must be new, empty, or an earlier run's."""
    model: str = SHIPPED
    """The bundle: one safetensors file (`everyroof bundle show FILE`), or `shipped`."""
    area_of_interest: str | None = None
    """Vector file; footprints whose centroid lies outside its polygons are left out."""
    tile_store: str | None = None
    """Folder of the tile store; OUT/.tiles unless given."""
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

    @property
    def store_path(self) -> Path:
        """Folder of the tile store."""
        return Path(self.tile_store) if self.tile_store else Path(self.output) / ".tiles"

    def image_configs(self) -> list[ImageConfig]:
        """The images, plain paths turned into records."""
        return [ImageConfig(path=i) if isinstance(i, str) else i for i in self.images]

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
        images=tuple(dataclasses.replace(i, path=anchored(i.path)) for i in config.image_configs()),
        model=resolve_bundle(config.model) if config.model == SHIPPED else anchored(config.model),
        output=anchored(config.output),
        area_of_interest=config.area_of_interest and anchored(config.area_of_interest),
        tile_store=config.tile_store and anchored(config.tile_store),
    )


def _explain(entry: Any) -> str:
    # A union such as "str | ImageConfig" adds its member's name to the location; leave it out.
    place = ".".join(str(p) for p in entry["loc"] if p not in ("str", "ImageConfig"))
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
        field = {f.name: f for f in dataclasses.fields(owner)}.get(str(part))
        if field is None or not dataclasses.is_dataclass(field.type):
            return ""
        owner = field.type
    known = [f.name for f in dataclasses.fields(owner)]
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"
