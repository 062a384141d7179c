"""OUT/collection.json and OUT/items/: the dataset as a static, self-contained STAC collection.

One item per shard. Links are relative, so that the folder can be moved or served as it is, and
nothing depends on the clock or the machine: the same dataset gives the same bytes. Items have a
folder of their own, since many readers open every file of the shards' folder.
"""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pystac

from geo.atomic_files import write_atomically
from geo.grid import unwrap_longitude, wrap_longitude
from geo.places import Place

Bounds = tuple[float, float, float, float]

COLLECTION_NAME = "collection.json"
ITEMS_FOLDER = "items"
PARQUET_TYPE = "application/vnd.apache.parquet"

FILE_EXTENSION = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
TABLE_EXTENSION = "https://stac-extensions.github.io/table/v1.2.0/schema.json"

UNKNOWN_DATES = (datetime.date(1970, 1, 1), datetime.date(2100, 1, 1))
"""STAC wants an interval even where no image has a date: one that excludes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StacShard:
    """What an item says about one shard.

    Attributes:
        token: S2 cell token; the item's id is "s2=TOKEN".
        path: of the file, relative to the output folder, with forward slashes.
        bounds: (west, south, east, north) in degrees; may run beyond +-180.
        num_rows: footprints.
        num_bytes: size of the file.
        sha256: hash of the file, hexadecimal.
        dates: first and last day of its imagery; None for those of the collection.
    """

    token: str
    path: str
    bounds: Bounds
    num_rows: int
    num_bytes: int
    sha256: str
    dates: tuple[datetime.date, datetime.date] | None = None


def write_stac(
    out_dir: Place,
    *,
    collection_id: str,
    title: str,
    description: str,
    shards: Sequence[StacShard],
    model_id: str,
    gsd_m: float,
    bounds: Bounds | None = None,
    dates: tuple[datetime.date, datetime.date] | None = None,
    licence: str = "other",
    providers: Sequence[tuple[str, tuple[str, ...]]] = (),
    columns: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """Write the collection and an item per shard; items of an earlier run are removed.

    Each file appears whole or not at all. An item's geometry is its shard's bounds.

    Args:
        out_dir: the output folder.
        collection_id: identifier, such as the output folder's name.
        title: one line.
        description: CommonMark.
        shards: the files; at least one unless `bounds` is given.
        model_id: identifier of the model that found the buildings.
        gsd_m: pixel size of the world grid in metres.
        bounds: (west, south, east, north) in degrees; the union of the shards' unless given.
        dates: first and last day of the imagery; None where no image has a date.
        licence: SPDX identifier, or "other".
        providers: name and roles ("producer", "licensor", ...) of who made the data.
        columns: name and type of the table's columns.

    Returns:
        Paths of the files, relative to `out_dir`, sorted.

    Raises:
        ValueError: if there are neither shards nor bounds.
    """
    extent = _extent(shards, bounds, dates)
    collection = pystac.Collection(
        id=collection_id,
        title=title,
        description=_with_note(description, dates),
        extent=extent,
        license=licence,
        keywords=["building footprints", "GeoParquet"],
        providers=[pystac.Provider(name, roles=_roles(roles)) for name, roles in providers] or None,
        summaries=pystac.Summaries({"gsd": [gsd_m], "everyroof:model_id": [model_id]}),
        stac_extensions=[TABLE_EXTENSION],
        catalog_type=pystac.CatalogType.SELF_CONTAINED,
        assets=_collection_assets(),
    )
    collection.extra_fields["table:columns"] = _columns(columns)
    collection.extra_fields["table:row_count"] = sum(shard.num_rows for shard in shards)
    # A made-up absolute place, only for pystac to work out relative links from.
    collection.set_self_href(f"/{COLLECTION_NAME}")
    files: dict[str, pystac.STACObject] = {COLLECTION_NAME: collection}
    for shard in sorted(shards, key=lambda shard: shard.token):
        item = _item(shard, shard.dates or dates, gsd_m=gsd_m, model_id=model_id)
        collection.add_item(item)
        item.set_self_href(f"/{ITEMS_FOLDER}/{shard.token}.json")
        files[f"{ITEMS_FOLDER}/{shard.token}.json"] = item
    _write_files(out_dir, files)
    return sorted(files)


def _write_files(out_dir: Place, files: dict[str, pystac.STACObject]) -> None:
    folder = out_dir / ITEMS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if f"{ITEMS_FOLDER}/{path.name}" not in files:
            path.unlink()
    # Items first: the collection never links to what is not there yet.
    for name in sorted(files, reverse=True):
        data = files[name].to_dict(include_self_link=False)
        write_atomically(out_dir / name, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def _item(
    shard: StacShard,
    dates: tuple[datetime.date, datetime.date] | None,
    *,
    gsd_m: float,
    model_id: str,
) -> pystac.Item:
    start, end = _interval(dates)
    item = pystac.Item(
        id=f"s2={shard.token}",
        geometry=bounds_geometry(shard.bounds),
        bbox=_bbox(shard.bounds),
        datetime=None,
        start_datetime=start,
        end_datetime=end,
        properties={
            "gsd": gsd_m,
            "table:row_count": shard.num_rows,
            "table:primary_geometry": "geometry",
            "everyroof:model_id": model_id,
            "everyroof:s2_cell": shard.token,
        },
        stac_extensions=[FILE_EXTENSION, TABLE_EXTENSION],
    )
    asset = pystac.Asset(
        href=f"../{shard.path}",
        title=f"Footprints in S2 cell {shard.token}",
        media_type=PARQUET_TYPE,
        roles=["data"],
        extra_fields={
            "file:size": shard.num_bytes,
            # A multihash: 0x12 for SHA-256, 0x20 for its 32 bytes.
            "file:checksum": f"1220{shard.sha256}",
        },
    )
    item.add_asset("footprints", asset)
    return item


def _collection_assets() -> dict[str, pystac.Asset]:
    """The files of the output folder that concern all shards."""
    return {
        "tiles": pystac.Asset(
            href="./tiles.parquet",
            title="Ledger: every planned tile and how it ended",
            media_type=PARQUET_TYPE,
            roles=["metadata"],
        ),
        "report": pystac.Asset(
            href="./report.html", title="Report", media_type="text/html", roles=["overview"]
        ),
        "manifest": pystac.Asset(
            href="./manifest.json",
            title="Manifest: config, model, counts and checksums",
            media_type="application/json",
            roles=["metadata"],
        ),
    }


def _extent(
    shards: Sequence[StacShard],
    bounds: Bounds | None,
    dates: tuple[datetime.date, datetime.date] | None,
) -> pystac.Extent:
    if bounds is None:
        if not shards:
            raise ValueError("there are neither shards nor bounds; give the bounds of the images")
        bounds = _union([shard.bounds for shard in shards])
    start, end = _interval(dates) if dates else (None, None)
    return pystac.Extent(
        pystac.SpatialExtent([_bbox(bounds)]), pystac.TemporalExtent([[start, end]])
    )


def _union(boxes: Sequence[Bounds]) -> Bounds:
    """The narrowest of two bounds of all boxes: as they are, or joined across the antimeridian."""
    box = np.array(boxes, np.float64)
    shift = unwrap_longitude(box[:, 0], float(box[0, 0])) - box[:, 0]
    moved = box + np.stack([shift, 0 * shift, shift, 0 * shift], axis=1)
    ends = [(each[:, 0].min(), each[:, 2].max()) for each in (box, moved)]
    west, east = min(ends, key=lambda pair: pair[1] - pair[0])
    return float(west), float(box[:, 1].min()), float(east), float(box[:, 3].max())


def _interval(
    dates: tuple[datetime.date, datetime.date] | None,
) -> tuple[datetime.datetime, datetime.datetime]:
    """From the first second of the first day to the last one of the last day, UTC."""
    first, last = dates or UNKNOWN_DATES
    start = datetime.datetime.combine(first, datetime.time.min, datetime.UTC)
    end = datetime.datetime.combine(last, datetime.time(23, 59, 59), datetime.UTC)
    return start, end


def _with_note(description: str, dates: tuple[datetime.date, datetime.date] | None) -> str:
    if dates is not None:
        return description
    return f"{description}\n\nThe dates of the imagery are not known."


def _bbox(bounds: Bounds) -> list[float]:
    """Bounds as GeoJSON wants them: west above east where the antimeridian is crossed."""
    west, south, east, north = bounds
    if east - west >= 360.0:
        return [-180.0, south, 180.0, north]
    if west >= -180.0 and east <= 180.0:
        return [west, south, east, north]
    return [float(wrap_longitude(west)), south, float(wrap_longitude(east)), north]


def bounds_geometry(bounds: Bounds) -> dict[str, Any]:
    """The bounds as a polygon, or as two where they cross the antimeridian (RFC 7946, 3.1.9)."""
    west, south, east, north = _bbox(bounds)
    if west <= east:
        return {"type": "Polygon", "coordinates": _ring(west, south, east, north)}
    parts = [_ring(west, south, 180.0, north), _ring(-180.0, south, east, north)]
    return {"type": "MultiPolygon", "coordinates": parts}


def _ring(west: float, south: float, east: float, north: float) -> list[list[list[float]]]:
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return [[[lon, lat] for lon, lat in corners]]


def _columns(columns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in columns]


def _roles(roles: Sequence[str]) -> list[pystac.ProviderRole]:
    return [pystac.ProviderRole(role) for role in roles]
