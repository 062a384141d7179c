"""The same images as every kind of source that a config may name."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geo.images import open_image

DAY = "2024-03-17"


def outline_of(path: Path) -> shapely.Polygon:
    """Four corners of an image in degrees."""
    points = open_image(str(path), num_bands=1).footprint
    return shapely.Polygon([points[i] for i in (0, 16, 32, 48)])


def stac_item(
    path: Path,
    *,
    href: str | None = None,
    item_id: str | None = None,
    day: str = DAY,
    assets: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    collection: str = "drawn",
) -> dict[str, Any]:
    """A STAC item of an image, its asset called visual unless given."""
    outline = outline_of(path)
    asset = {"href": href or str(path), "roles": ["visual"], "type": "image/tiff"}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": item_id or path.stem,
        "collection": collection,
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(outline.bounds),
        "properties": {"datetime": f"{day}T08:30:00Z", **(properties or {})},
        "assets": dict(assets) if assets is not None else {"visual": asset},
        "links": [],
    }


def write_items(path: Path, items: Sequence[Mapping[str, Any]]) -> Path:
    """Items as an ItemCollection."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path


def write_catalogue(folder: Path, items: Sequence[Mapping[str, Any]]) -> Path:
    """Items as a catalogue of one collection, a file each, linked relatively."""
    folder.mkdir(parents=True, exist_ok=True)
    links = []
    for item in items:
        (folder / "items").mkdir(exist_ok=True)
        (folder / "items" / f"{item['id']}.json").write_text(json.dumps(item))
        links.append({"rel": "item", "href": f"./items/{item['id']}.json"})
    plain = {"stac_version": "1.0.0", "description": "drawn"}
    collection = {**plain, "type": "Collection", "id": "drawn", "license": "other", "extent": {}}
    (folder / "collection.json").write_text(json.dumps({**collection, "links": links}))
    catalogue = {**plain, "type": "Catalog", "id": "root"}
    child = {"rel": "child", "href": "collection.json"}
    (folder / "catalog.json").write_text(json.dumps({**catalogue, "links": [child]}))
    return folder / "catalog.json"


def write_stac_parquet(path: Path, items: Sequence[Mapping[str, Any]]) -> Path:
    """Items as stac-geoparquet: properties as columns, assets as a struct, WKB."""
    rows = []
    for item in items:
        west, south, east, north = item["bbox"]
        box = {"xmin": west, "ymin": south, "xmax": east, "ymax": north}
        geometry = shapely.to_wkb(shapely.geometry.shape(item["geometry"]))
        plain = {key: item[key] for key in ("type", "stac_version", "id", "collection", "assets")}
        moment = pa.scalar(item["properties"]["datetime"].removesuffix("Z")).cast(
            pa.timestamp("us")
        )
        others = {key: value for key, value in item["properties"].items() if key != "datetime"}
        rows.append(
            {**plain, **others, "datetime": moment.as_py(), "bbox": box, "geometry": geometry}
        )
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_index(path: Path, images: Sequence[Path], *, column: str = "location", **extra: Any):
    """A vector index as gdaltindex makes it; further columns by name."""
    frame = geopandas.GeoDataFrame(
        {column: [str(image) for image in images], **extra},
        geometry=[outline_of(image) for image in images],
        crs="EPSG:4326",
    )
    frame.to_file(path, engine="pyogrio")
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as a CSV file with the first row's keys as its header."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
