"""Images by pattern, by list, and by vector index: the sources that are files."""

import csv
import datetime
import glob
import os
from collections.abc import Iterator

import numpy as np
import pandas as pd

from geo.errors import StorageError
from geo.remote_names import is_remote, to_url
from pipeline.bucket_patterns import WILD, matching_objects
from pipeline.fetch import local_copy
from pipeline.image_index import FailedImage
from pipeline.image_sources import (
    CatalogueError,
    GlobConfig,
    ListConfig,
    VectorIndexConfig,
)
from pipeline.listed_images import (
    ListedImage,
    Listing,
    mask_of,
    needs_own_band,
    resolve_path,
    within_dates,
)

_CSV_COLUMNS = ("path", "id", "date", "cloud_mask")


def list_glob(config: GlobConfig) -> Listing:
    """Files, or objects of a bucket, of a pattern, sorted by path.

    An image's id is its path below the pattern's fixed folder, without extension: two files called
    tile.tif in different folders differ, and adding a file changes no other's id.

    Raises:
        CatalogueError: if no file matches.
    """
    needs_own_band(config.cloud_mask, config.glob)
    elsewhere = is_remote(config.glob)
    if not elsewhere and os.path.exists(config.glob):
        # A file whose name holds a bracket is itself before it is a pattern.
        mask = mask_of(config.cloud_mask, config.glob)
        return Listing(images=[ListedImage(path=config.glob, cloud_mask=mask)])
    paths = matching_objects(config.glob) if elsewhere else _matching_files(config.glob)
    pattern = to_url(config.glob) or config.glob
    root = fixed_folder(pattern)
    if not paths:
        raise CatalogueError(
            f"no file matches {config.glob}; check the folder {root or '.'} and the pattern (** "
            "stands for any folders)"
        )
    return Listing(
        images=[
            ListedImage(
                path=path,
                image_id=None if path == pattern else _name_below(path, root or "."),
                cloud_mask=mask_of(config.cloud_mask, path),
            )
            for path in paths
        ]
    )


def _matching_files(pattern: str) -> list[str]:
    found = glob.iglob(pattern, recursive=True)
    return sorted(path for path in found if os.path.isfile(path))


def _name_below(path: str, root: str) -> str:
    return os.path.splitext(os.path.relpath(path, root))[0].replace(os.sep, "/")


def fixed_folder(pattern: str) -> str:
    """The folder of a pattern up to the first part with a wildcard."""
    parts = pattern.split("/")
    wild = (i for i, part in enumerate(parts) if any(sign in part for sign in WILD))
    fixed = next(wild, len(parts))
    return "/".join(parts[: min(fixed, len(parts) - 1)]) or ("/" if pattern[0] == "/" else "")


def list_paths(config: ListConfig) -> Listing:
    """Paths of a text or CSV file, in its order.

    Raises:
        CatalogueError: if it cannot be read, has no path, or a row is broken; names the line.
    """
    try:
        with open(local_copy(config.list), newline="", encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (OSError, StorageError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{config.list}: cannot read the list of images: {error}") from error
    is_csv = _plain_name(config.list).endswith(".csv")
    if not is_csv:
        needs_own_band(config.cloud_mask, config.list)
    rows = _csv_rows(config, lines) if is_csv else _text_rows(config, lines)
    images = [row for row in rows if within_dates(row.date, config.dates)]
    if not images:
        raise CatalogueError(f"{config.list} names no image{_between(config.dates)}")
    return Listing(images=images)


def _plain_name(path: str) -> str:
    """A name in lower case, of a URL without its query."""
    return (path.partition("?")[0] if is_remote(path) else path).lower()


def _between(dates: tuple[datetime.date | None, datetime.date | None]) -> str:
    return "" if dates == (None, None) else f" between {dates[0] or '...'} and {dates[1] or '...'}"


def _text_rows(config: ListConfig, lines: list[str]) -> Iterator[ListedImage]:
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            path = resolve_path(text, config.list)
            yield ListedImage(path=path, cloud_mask=mask_of(config.cloud_mask, path))


def _csv_rows(config: ListConfig, lines: list[str]) -> Iterator[ListedImage]:
    reader = csv.DictReader(lines, strict=True)
    names = reader.fieldnames or []
    unknown = [name for name in names if name not in _CSV_COLUMNS]
    if "path" not in names or unknown:
        raise CatalogueError(
            f"{config.list}: expected a header with path and, where wanted, id, date and "
            f"cloud_mask; got {', '.join(names) or 'nothing'}"
        )
    try:
        for row in reader:
            yield _csv_row(config, row, reader.line_num)
    except csv.Error as error:
        raise CatalogueError(f"{config.list}, line {reader.line_num}: {error}") from error


def _csv_row(config: ListConfig, row: dict[str, str], line: int) -> ListedImage:
    place = f"{config.list}, line {line}"
    if None in row or any(value is None for value in row.values()):
        raise CatalogueError(f"{place}: expected as many values as the header has names")
    if not row["path"].strip():
        raise CatalogueError(f"{place}: the path is empty")
    path = resolve_path(row["path"].strip(), config.list)
    mask = (row.get("cloud_mask") or "").strip()
    if mask and config.cloud_mask is None:
        raise CatalogueError(
            f"{place}: there is a cloud mask, but the config does not say which values mask; add "
            "cloud_mask: {band: 1, values: [...]} beside `list`"
        )
    return ListedImage(
        path=path,
        image_id=(row.get("id") or "").strip() or None,
        date=_parse_date(row.get("date") or "", place),
        cloud_mask=mask_of(
            config.cloud_mask, path, resolve_path(mask, config.list) if mask else None
        ),
    )


def _parse_date(text: str, place: str) -> datetime.date | None:
    if not text.strip():
        return None
    try:
        return datetime.date.fromisoformat(text.strip()[:10])
    except ValueError:
        raise CatalogueError(f"{place}: {text!r} is no date; expected YYYY-MM-DD") from None


def list_index(config: VectorIndexConfig) -> Listing:
    """Images of a vector index, in its order, with the outlines that it states.

    Raises:
        CatalogueError: if it cannot be read, its CRS is not known, or it has no such column.
    """
    needs_own_band(config.cloud_mask, config.index)
    frame = _read_index(config)
    listing = Listing()
    ids = frame[config.id] if config.id in frame else [None] * len(frame)
    dates = frame[config.date] if config.date in frame else [None] * len(frame)
    rows = zip(frame[config.location], ids, dates, frame.geometry.to_numpy(), strict=True)
    for number, (location, name, date, outline) in enumerate(rows, start=1):
        place = f"{config.index}, row {number}"
        if not isinstance(location, str) or not location:
            reason = f"{place}: {config.location} is empty"
            listing.failed.append(FailedImage(path=place, reason=reason))
            continue
        day = _day_of(date, place)
        if within_dates(day, config.dates):
            path = resolve_path(location, config.index)
            listing.images.append(
                ListedImage(
                    path=path,
                    image_id=None if pd.isna(name) else str(name),
                    date=day,
                    outline=outline,
                    cloud_mask=mask_of(config.cloud_mask, path),
                )
            )
    if not listing.images and not listing.failed:
        raise CatalogueError(f"{config.index} holds no image{_between(config.dates)}")
    return listing


def _read_index(config: VectorIndexConfig) -> "pd.DataFrame":
    import geopandas
    import pyogrio.errors

    try:
        options = {"layer": config.layer} if config.layer else {}
        # A shapefile is several files, which only GDAL fetches together.
        is_single = to_url(config.index) and not _plain_name(config.index).endswith(".shp")
        path = local_copy(config.index) if is_single else config.index
        frame = geopandas.read_file(path, engine="pyogrio", **options)
    except (OSError, StorageError, ValueError, pyogrio.errors.DataSourceError) as error:
        raise CatalogueError(f"{config.index}: cannot read the image index: {error}") from error
    if not isinstance(frame, geopandas.GeoDataFrame) or config.location not in frame:
        raise CatalogueError(
            f"{config.index} has no column {config.location!r} of paths beside its outlines; it "
            f"has {', '.join(map(str, frame.columns))} (name it with `location`)"
        )
    if frame.crs is None:
        raise CatalogueError(
            f"{config.index} does not say which CRS its outlines are in; make it with gdaltindex "
            "-t_srs EPSG:4326"
        )
    return frame.to_crs(4326)


def _day_of(value: object, place: str) -> datetime.date | None:
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    return _parse_date(str(value).replace("/", "-").replace(":", "-", 2), place)
