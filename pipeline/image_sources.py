"""Where the images of a run come from, as the config names it: files, lists, catalogues, tiles.

An entry of `images` is a path, a pattern, or one of the records below; the key that comes first in
each record tells which it is. What they mean is read by `pipeline.image_catalogue`.
"""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Discriminator, Tag

from geo.errors import EveryroofError

FORBID: dict[str, str] = {"extra": "forbid"}
Anchor = Callable[[str], str]
Dates = tuple[datetime.date | None, datetime.date | None]


class CatalogueError(EveryroofError):
    """A list or catalogue of images that cannot be used; nothing was started."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloudMaskConfig:
    """Which pixels of an image are not to be used: those where a raster has certain values."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    values: tuple[int, ...]
    """Values that mask. Sentinel-2's SCL: 0 no data, 1 saturated, 3 cloud shadow, 8 and 9 cloud, 10
    cirrus, 11 snow."""
    asset: str | None = None
    """Asset of the STAC item that holds the mask; of any resolution and CRS."""
    path: str | None = None
    """File that holds the mask, for a single image; of any resolution and CRS."""
    band: int | None = None
    """Band of that raster; 1 unless given. Without asset and path: the band of the image itself."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.values:
            raise ValueError("cloud_mask.values is empty; name the values that mask, such as [1]")
        if self.asset is not None and self.path is not None:
            raise ValueError("cloud_mask names both an asset and a path; give one of them")
        if self.asset is None and self.path is None and self.band is None:
            raise ValueError(
                "cloud_mask says not where the mask is; give asset, path, or a band of the image"
            )
        if self.band is not None and self.band < 1:
            raise ValueError(f"cloud_mask.band = {self.band}; expected 1 or more")


def _check_dates(dates: Dates) -> None:
    first, last = dates
    if first is not None and last is not None and first > last:
        raise ValueError(f"dates = [{first}, {last}]; expected the first day before the last")


def _check_percent(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 100:
        raise ValueError(f"{name} = {value}; expected 0 to 100")


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
    cloud_mask: CloudMaskConfig | None = None
    """Pixels that are not used; `path` or `band`."""

    def anchored(self, anchor: Anchor) -> "ImageConfig":
        """With relative paths made absolute."""
        mask = self.cloud_mask
        if mask is not None and mask.path is not None:
            mask = dataclasses.replace(mask, path=anchor(mask.path))
        return dataclasses.replace(self, path=anchor(self.path), cloud_mask=mask)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlobConfig:
    """Files, or objects of a bucket, by a pattern, sorted by path.

    Each is opened when the run is planned.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    glob: str
    """Pattern of `*`, `?`, `[...]` and `**` (any folders). An image's id is its path below the
    pattern's fixed folder, without the extension."""
    cloud_mask: CloudMaskConfig | None = None
    """Pixels that are not used; a `band` of the images."""

    def anchored(self, anchor: Anchor) -> "GlobConfig":
        """With a relative pattern made absolute."""
        return dataclasses.replace(self, glob=anchor(self.glob))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Paths in a text file, one a line, or in a CSV file; each is opened when the run is planned.

    A text file's empty lines and those that begin with `#` are left out. A CSV file has a header
    with `path` and, where wanted, `id`, `date` and `cloud_mask` (a path). Relative paths are taken
    from the file's folder.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    list: str
    """The file or its URL: *.csv, or text."""
    dates: Dates = (None, None)
    """First and last day, both included; null: open. Images without a date in the CSV are kept."""
    cloud_mask: CloudMaskConfig | None = None
    """Pixels that are not used; a `band` of the images, or of the column `cloud_mask`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_dates(self.dates)

    def anchored(self, anchor: Anchor) -> "ListConfig":
        """With a relative path made absolute."""
        return dataclasses.replace(self, list=anchor(self.list))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StacConfig:
    """Items of a STAC catalogue; images are opened by the workers, when a tile needs them.

    The item's id becomes the image's (COLLECTION/ID where two collections share it), its datetime
    the date. Items outside the area of interest are left out.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    stac: str
    """URL or path of an item, an ItemCollection, a collection or catalogue (walked), an API (its
    root or /search), or a stac-geoparquet file (*.parquet)."""
    asset: str | None = None
    """The item's asset to read: its key, else a role that only one asset has. Unless given:
    `visual`, else `data`, else the only asset."""
    collections: tuple[str, ...] = ()
    """Collections of an API or catalogue; all of a catalogue unless given."""
    dates: Dates = (None, None)
    """First and last day, both included; null: open."""
    max_cloud_percent: float | None = None
    """Items with a larger `eo:cloud_cover` are left out; those that do not say are kept."""
    max_nodata_percent: float | None = None
    """Likewise for `s2:nodata_pixel_percentage` or `nodata_percent`."""
    cloud_mask: CloudMaskConfig | None = None
    """Pixels that are not used: an `asset` such as scl, or a `band` of the image."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_dates(self.dates)
        _check_percent("max_cloud_percent", self.max_cloud_percent)
        _check_percent("max_nodata_percent", self.max_nodata_percent)

    def anchored(self, anchor: Anchor) -> "StacConfig":
        """With a relative path made absolute."""
        return dataclasses.replace(self, stac=anchor(self.stac))


@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorIndexConfig:
    """Outlines with the images' paths, such as gdaltindex makes (GeoPackage, shapefile, ...).

    Images are opened by the workers, when a tile needs them; those outside the area of interest are
    left out.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    index: str
    """The vector file, or its URL."""
    layer: str | None = None
    """Its layer; the first unless given."""
    location: str = "location"
    """Column of the paths; relative ones are taken from the index file's folder."""
    id: str = "id"
    """Column of the ids, where there is one; else the file's stem."""
    date: str = "date"
    """Column of the dates, where there is one; else the image's tags."""
    dates: Dates = (None, None)
    """First and last day, both included; null: open. Images without a date are kept."""
    cloud_mask: CloudMaskConfig | None = None
    """Pixels that are not used; a `band` of the images."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_dates(self.dates)

    def anchored(self, anchor: Anchor) -> "VectorIndexConfig":
        """With a relative path made absolute."""
        return dataclasses.replace(self, index=anchor(self.index))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TilesConfig:
    """A tile service in web mercator, as far as the area of interest goes, which it needs.

    A tile that the service does not have (404, 204) is no data; any other error fails the tiles of
    ours that need it. A service has no version: when its imagery changes, change `id` or use
    --fresh.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID

    tiles: str
    """URL template with {z}, {x} and {y} (rows from the north), or {-y} (TMS: from the south)."""
    zoom: int | None = None
    """Zoom that is read: 18 has pixels of 0.60 m at the equator, each further one half of that."""
    min_zoom: int = 0
    """Coarsest zoom of the service; coarser views are read at up to four zooms less than `zoom`."""
    tile_px: int = 256
    """Pixels per side of the service's tiles."""
    id: str = "tiles"
    """Name in the column `image_id`."""
    date: datetime.date | None = None
    """Date of the imagery, where it is known."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        missing = [name for name in ("{z}", "{x}") if name not in self.tiles]
        if "{y}" not in self.tiles and "{-y}" not in self.tiles:
            missing.append("{y} or {-y}")
        if missing:
            raise ValueError(
                f"tiles = {self.tiles!r} lacks {', '.join(missing)}; expected a template such as "
                "https://host/{z}/{x}/{y}.png"
            )
        if not self.tiles.startswith(("http://", "https://")):
            raise ValueError(f"tiles = {self.tiles!r}; expected a URL that begins with https://")
        if self.zoom is None:
            raise ValueError("zoom is missing; name the zoom to read, such as 18")
        if not 0 <= self.zoom <= 24:
            raise ValueError(f"zoom = {self.zoom}; expected 0 to 24")
        if not 0 <= self.min_zoom <= self.zoom:
            raise ValueError(f"min_zoom = {self.min_zoom}; expected 0 to zoom ({self.zoom})")
        if self.tile_px not in (256, 512, 1024):
            raise ValueError(f"tile_px = {self.tile_px}; expected 256, 512 or 1024")

    def anchored(self, anchor: Anchor) -> "TilesConfig":
        """The same: a template is no path."""
        return self


class Source(Protocol):
    """What all entries of `images` have in common."""

    def anchored(self, anchor: Anchor) -> Any:
        """The entry with relative paths made absolute."""


SOURCES: dict[str, type] = {
    "path": ImageConfig,
    "glob": GlobConfig,
    "list": ListConfig,
    "stac": StacConfig,
    "index": VectorIndexConfig,
    "tiles": TilesConfig,
}
"""Records by the key that tells what they are."""


def source_kind(value: Any) -> str | None:
    """The key of `SOURCES` that a record has, "text" for a plain path; None for anything else."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return next((name for name in SOURCES if name in value), None)
    return next((name for name, kind in SOURCES.items() if isinstance(value, kind)), None)


ImageSource = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[ImageConfig, Tag("path")]
    | Annotated[GlobConfig, Tag("glob")]
    | Annotated[ListConfig, Tag("list")]
    | Annotated[StacConfig, Tag("stac")]
    | Annotated[VectorIndexConfig, Tag("index")]
    | Annotated[TilesConfig, Tag("tiles")],
    Discriminator(
        source_kind,
        custom_error_type="image_source",
        custom_error_message=(
            "expected a path, or a record with one of the keys " + ", ".join(SOURCES)
        ),
    ),
]
"""One entry of `images`."""
ResolvedSource = (
    ImageConfig | GlobConfig | ListConfig | StacConfig | VectorIndexConfig | TilesConfig
)


def as_record(source: Any) -> ResolvedSource:
    """A plain path or pattern as the record that it stands for; records as they are."""
    if not isinstance(source, str):
        return source  # type: ignore[no-any-return]
    is_local = "://" not in source and not source.startswith("/vsi")
    # Of a web server the signs are taken as they stand: it gives no list, and URLs have queries.
    is_bucket = source.startswith(("s3://", "gs://", "gcs://"))
    if (is_local or is_bucket) and any(sign in source for sign in "*?["):
        return GlobConfig(glob=source)
    return ImageConfig(path=source)
