"""PLACES.yaml: the places that a bundle is evaluated or calibrated on, and how."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import TypeAdapter, ValidationError

from geo.errors import EveryroofError
from geo.finish import FinishConfig
from geo.footprints import FilterConfig
from geo.grid import gsd_to_mm
from geo.overlap import OverlapConfig
from geo.raster_config import RasterConfig
from model.segment_config import SegmentConfig
from pipeline.config import ConfigError, RunConfig, parse_config

AOI_IMAGE = "image"
"""The value of `aoi` that stands for the images' own extent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaceConfig:
    """One place: imagery, what people drew on it, and where they did so completely."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    """Name in tables and pictures."""
    category: str = ""
    """Free word, such as urban or rural; scores are also given per category."""
    image: str | None = None
    """The image, where there is one."""
    images: tuple[str, ...] = ()
    """The images, where there are several, in the order of preference."""
    labels: str
    """Vector file of the buildings, in any CRS."""
    aoi: str
    """Vector file of the area that is completely labelled, or `image` where all of it is."""

    def __post_init__(self) -> None:
        """Check that the place can be told apart and has imagery."""
        if not self.name or not self.name.isprintable():
            raise ValueError(f"name = {self.name!r}; expected printable characters")
        if (self.image is None) == (not self.images):
            raise ValueError(f"place {self.name!r} needs either `image` or `images`")

    @property
    def image_paths(self) -> tuple[str, ...]:
        """All images."""
        return self.images if self.image is None else (self.image,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Places and how to find footprints there; the defaults are those of a run."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    places: tuple[PlaceConfig, ...]
    """The places, scored one by one."""
    root: str = "."
    """Folder that the paths of the places start from, itself from the folder of the YAML file."""
    gsd_m: tuple[float, ...] = ()
    """Pixel sizes in metres to evaluate at; the bundle's unless given."""
    raster: RasterConfig = dataclasses.field(default_factory=RasterConfig)
    segment: SegmentConfig = dataclasses.field(default_factory=SegmentConfig)
    finish: FinishConfig = dataclasses.field(default_factory=FinishConfig)
    filter: FilterConfig = dataclasses.field(default_factory=FilterConfig)
    overlap: OverlapConfig = dataclasses.field(default_factory=OverlapConfig)

    def __post_init__(self) -> None:
        """Check what concerns several places."""
        if not self.places:
            raise ValueError("places is empty; name at least one place")
        names = [place.name for place in self.places]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"places: {', '.join(twice)} occurs twice; give different names")
        for gsd_m in self.gsd_m:
            gsd_to_mm(gsd_m)

    def run_config(self, place: PlaceConfig, model: str, gsd_m: float) -> RunConfig:
        """The run that would find a place's footprints.

        Raises:
            ConfigError: if pixel size, windows and tiles do not fit together.
        """
        sections = ("raster", "segment", "finish", "filter", "overlap")
        data: dict[str, Any] = {name: getattr(self, name) for name in sections}
        return parse_config(
            {
                "images": place.image_paths,
                "model": model,
                "output": "unused",
                "area_of_interest": None if place.aoi == AOI_IMAGE else place.aoi,
                "grid": {"gsd_m": gsd_m},
                **data,
            },
            source=f"place {place.name}",
        )


_ADAPTER = TypeAdapter(EvaluationConfig)


def load_places(path: str | Path, *, root: str | Path | None = None) -> EvaluationConfig:
    """Read places from YAML; all paths in the result can be opened as they are.

    Args:
        path: the YAML file.
        root: folder that the places' paths start from; None takes the file's own `root`.

    Raises:
        ConfigError: missing file, broken YAML, or content that does not fit.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the places: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    config = parse_places(data, source=str(path))
    folder = path.parent / config.root if root is None else Path(root)
    return dataclasses.replace(
        config, places=tuple(_anchored(place, folder) for place in config.places)
    )


def parse_places(data: Any, *, source: str) -> EvaluationConfig:
    """Check plain data (as YAML gives it).

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
        raise ConfigError("\n".join([f"{source}: the places cannot be used", *lines])) from None
    except EveryroofError as error:
        raise ConfigError(f"{source}: {error}") from error


def _explain(entry: Any) -> str:
    where = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "unexpected_keyword_argument":
        return f"  {where}: unknown key"
    if entry["type"] == "missing":
        return f"  {where}: missing; this key is needed"
    value = "" if isinstance(entry["input"], dict) else f" (got {entry['input']!r})"
    prefix = f"  {where}: " if where else "  "
    return f"{prefix}{entry['msg'].removeprefix('Value error, ')}{value}"


def _anchored(place: PlaceConfig, folder: Path) -> PlaceConfig:
    def anchored(path: str) -> str:
        is_remote = "://" in path or path.startswith("/vsi")
        return path if is_remote else str(folder / path)

    return dataclasses.replace(
        place,
        image=place.image and anchored(place.image),
        images=tuple(anchored(path) for path in place.images),
        labels=anchored(place.labels),
        aoi=place.aoi if place.aoi == AOI_IMAGE else anchored(place.aoi),
    )
