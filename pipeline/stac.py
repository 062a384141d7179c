"""OUT/collection.json and OUT/items/: the dataset as a static, self-contained STAC collection.

One item per shard. Links are relative, so that the folder can be moved or served as it is, and
nothing depends on the clock or the machine: the same dataset gives the same bytes. Items have a
folder of their own, since many readers open every file of the shards' folder.

The documents are written as they are, without pystac, which tests read them with: it imports all
its extensions to link an item to a collection, and takes longer than all else of publishing.
"""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geo.atomic_files import write_atomically
from geo.grid import unwrap_longitude, wrap_longitude
from geo.places import Place

Bounds = tuple[float, float, float, float]

COLLECTION_NAME = "collection.json"
ITEMS_FOLDER = "items"
STAC_VERSION = "1.1.0"
JSON_TYPE, GEOJSON_TYPE = "application/json", "application/geo+json"
PARQUET_TYPE = "application/vnd.apache.parquet"
PROVIDER_ROLES = ("licensor", "producer", "processor", "host")

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
        ValueError: if there are neither shards nor bounds, or a provider's role is none of STAC's.
    """
    ordered = sorted(shards, key=lambda shard: shard.token)
    collection = {
        "type": "Collection",
        "id": collection_id,
        "stac_version": STAC_VERSION,
        "description": _with_note(description, dates),
        "links": [
            _link("root", f"./{COLLECTION_NAME}", title),
            *(_link("item", f"./{_item_name(shard)}") for shard in ordered),
        ],
        "stac_extensions": [TABLE_EXTENSION],
        "table:columns": _columns(columns),
        "table:row_count": sum(shard.num_rows for shard in shards),
        "title": title,
        "extent": _extent(shards, bounds, dates),
        "license": licence,
        "keywords": ["building footprints", "GeoParquet"],
        **({"providers": _providers(providers)} if providers else {}),
        "summaries": {"gsd": [gsd_m], "everyroof:model_id": [model_id]},
        "assets": _collection_assets(),
    }
    parent = (collection_id, title)
    files = {
        _item_name(shard): _item(shard, shard.dates or dates, parent, gsd_m, model_id)
        for shard in ordered
    }
    _write_files(out_dir, {**files, COLLECTION_NAME: collection})
    return sorted([*files, COLLECTION_NAME])


def _item_name(shard: StacShard) -> str:
    return f"{ITEMS_FOLDER}/{shard.token}.json"


def _write_files(out_dir: Place, files: dict[str, dict[str, Any]]) -> None:
    folder = out_dir / ITEMS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if f"{ITEMS_FOLDER}/{path.name}" not in files:
            path.unlink()
    # Items first: the collection never links to what is not there yet.
    for name in sorted(files, reverse=True):
        write_atomically(
            out_dir / name, json.dumps(files[name], indent=1, ensure_ascii=False) + "\n"
        )


def _link(relation: str, href: str, title: str | None = None) -> dict[str, str]:
    """A link to the collection, or to an item, which has no title."""
    kind = GEOJSON_TYPE if relation == "item" else JSON_TYPE
    return {
        "rel": relation,
        "href": href,
        "type": kind,
        **({} if title is None else {"title": title}),
    }


def _item(
    shard: StacShard,
    dates: tuple[datetime.date, datetime.date] | None,
    collection: tuple[str, str],
    gsd_m: float,
    model_id: str,
) -> dict[str, Any]:
    """The item of a shard; `collection` is the id and the title of what it belongs to."""
    collection_id, title = collection
    start, end = _interval(dates)
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [FILE_EXTENSION, TABLE_EXTENSION],
        "id": f"s2={shard.token}",
        "geometry": bounds_geometry(shard.bounds),
        "bbox": _bbox(shard.bounds),
        "properties": {
            "gsd": gsd_m,
            "table:row_count": shard.num_rows,
            "table:primary_geometry": "geometry",
            "everyroof:model_id": model_id,
            "everyroof:s2_cell": shard.token,
            "start_datetime": start,
            "end_datetime": end,
            "datetime": None,
        },
        "links": [
            _link(relation, f"../{COLLECTION_NAME}", title)
            for relation in ("root", "parent", "collection")
        ],
        "assets": {
            "footprints": {
                "href": f"../{shard.path}",
                "type": PARQUET_TYPE,
                "title": f"Footprints in S2 cell {shard.token}",
                "file:size": shard.num_bytes,
                # A multihash: 0x12 for SHA-256, 0x20 for its 32 bytes.
                "file:checksum": f"1220{shard.sha256}",
                "roles": ["data"],
            }
        },
        "collection": collection_id,
    }


def _collection_assets() -> dict[str, Any]:
    """The files of the output folder that concern all shards."""
    return {
        "tiles": {
            "href": "./tiles.parquet",
            "type": PARQUET_TYPE,
            "title": "Ledger: every planned tile and how it ended",
            "roles": ["metadata"],
        },
        "report": {
            "href": "./report.html",
            "type": "text/html",
            "title": "Report",
            "roles": ["overview"],
        },
        "manifest": {
            "href": "./manifest.json",
            "type": JSON_TYPE,
            "title": "Manifest: config, model, counts and checksums",
            "roles": ["metadata"],
        },
    }


def _extent(
    shards: Sequence[StacShard],
    bounds: Bounds | None,
    dates: tuple[datetime.date, datetime.date] | None,
) -> dict[str, Any]:
    if bounds is None:
        if not shards:
            raise ValueError("there are neither shards nor bounds; give the bounds of the images")
        bounds = _union([shard.bounds for shard in shards])
    interval = _interval(dates) if dates else (None, None)
    return {"spatial": {"bbox": [_bbox(bounds)]}, "temporal": {"interval": [[*interval]]}}


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
) -> tuple[str, str]:
    """From the first second of the first day to the last one of the last day, UTC."""
    first, last = dates or UNKNOWN_DATES
    return f"{first.isoformat()}T00:00:00Z", f"{last.isoformat()}T23:59:59Z"


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


def _providers(providers: Sequence[tuple[str, tuple[str, ...]]]) -> list[dict[str, Any]]:
    unknown = {role for _, roles in providers for role in roles} - set(PROVIDER_ROLES)
    if unknown:
        raise ValueError(f"roles of providers = {sorted(unknown)}; expected {PROVIDER_ROLES}")
    return [{"name": name, "roles": [*roles]} for name, roles in providers]
