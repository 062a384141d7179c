"""Images of a STAC catalogue: items from files, walked catalogues, APIs and stac-geoparquet.

Only plain facts of each item are looked at (id, outline, date, the asset's href, a few properties),
as dictionaries, so that a hundred thousand items pass in seconds and none is kept.
"""

import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import shapely

from geo.errors import StorageError
from geo.gdal import is_remote
from pipeline.fetch import local_copy
from pipeline.image_index import FailedImage
from pipeline.image_sources import CatalogueError, CloudMaskConfig, StacConfig
from pipeline.listed_images import ListedImage, Listing, mask_of, resolve_path, within_dates
from pipeline.stac_documents import DocumentReader, short_reason

Item = dict[str, Any]
Bounds = tuple[float, float, float, float]
ITEMS_PER_PAGE = 500
_ODD = (AttributeError, LookupError, OverflowError, TypeError, ValueError)
"""What Python says where a document's values are of other types than the specification has."""
_NODATA_KEYS = ("s2:nodata_pixel_percentage", "nodata_percent")
_PARQUET_COLUMNS = (
    "id",
    "collection",
    "geometry",
    "bbox",
    "datetime",
    "start_datetime",
    "end_datetime",
    "assets",
    "proj:shape",
    "eo:cloud_cover",
    *_NODATA_KEYS,
)


def list_stac(config: StacConfig, bounds: Bounds | None) -> Listing:
    """Images of a STAC catalogue, in its order; an item that comes twice counts once.

    An item that is not as items should be fails alone, with a reason that names it.

    Args:
        config: the catalogue and the limits.
        bounds: (west, south, east, north) of the area of interest in degrees, for APIs; None: all.

    Raises:
        CatalogueError: if it cannot be read, or no item passes the limits.
    """
    listing, seen, num_items = Listing(), set(), 0
    collections: list[str] = []
    for item, base in stac_items(config, bounds):
        try:
            key = _key(item)
            if key in seen:
                continue
            seen.add(key)
            image = _listed(item, base, config) if _passes(item, config) else None
        except CatalogueError as error:
            listing.failed.append(_failed(item, base, num_items, str(error)))
        except _ODD as error:
            reason = f"it is not as STAC items are ({type(error).__name__}: {short_reason(error)})"
            listing.failed.append(_failed(item, base, num_items, reason))
        else:
            if image is not None:
                listing.images.append(image)
                collections.append(key[0])
        num_items += 1
    if not listing.images and not listing.failed:
        raise CatalogueError(_nothing_left(config, num_items, bounds))
    return dataclasses.replace(listing, images=_told_apart(listing.images, collections))


def _key(item: Item) -> tuple[str, str]:
    """Collection (empty for none) and id, which tell items apart."""
    name, collection = item["id"], item.get("collection")
    if not isinstance(name, str) or not name or not isinstance(collection, str | None):
        raise CatalogueError(
            f"its id is {name!r} and its collection {collection!r}; expected texts"
        )
    # What no file can hold as UTF-8 is refused here, not when the index is written.
    (name + (collection or "")).encode()
    return collection or "", name


def _failed(item: Any, base: str, position: int, reason: str) -> FailedImage:
    """An item that cannot be used: by its id where it has one, else by its place in the list."""
    name = item.get("id") if isinstance(item, dict) else None
    if not isinstance(name, str | int) or name == "":
        name = f"number {position + 1}"
    shown = ascii(name)[1:-1] if not str(name).isprintable() else str(name)
    text = reason.encode("utf-8", "backslashreplace").decode()
    prefix = "" if f"item {shown}:" in text else f"item {shown}: "
    return FailedImage(path=f"{base}#{shown}", reason=f"{prefix}{text}")


def _told_apart(images: list[ListedImage], collections: list[str]) -> list[ListedImage]:
    """Items of one id in several collections are called COLLECTION/ID; the others keep theirs."""
    count = Counter(image.image_id for image in images)
    return [
        dataclasses.replace(image, image_id=f"{collection}/{image.image_id}")
        if count[image.image_id] > 1 and collection
        else image
        for image, collection in zip(images, collections, strict=True)
    ]


def _nothing_left(config: StacConfig, num_items: int, bounds: Bounds | None) -> str:
    limits = [
        f"{name} = {value}"
        for name, value in (
            ("dates", [str(date) if date else None for date in config.dates]),
            ("collections", list(config.collections)),
            ("max_cloud_percent", config.max_cloud_percent),
            ("max_nodata_percent", config.max_nodata_percent),
        )
        if value not in (None, [], [None, None])
    ]
    if bounds is not None:
        limits.append("the area " + ", ".join(f"{value:.4f}" for value in bounds))
    within = f" within {'; '.join(limits)}" if limits else ""
    return f"{config.stac}: none of {num_items} items can be used{within}; widen the limits"


def stac_items(config: StacConfig, bounds: Bounds | None) -> Iterator[tuple[Item, str]]:
    """Items as dictionaries, each with the place that its relative hrefs are taken from.

    Raises:
        CatalogueError: if the catalogue cannot be read.
    """
    if config.stac.partition("?")[0].endswith((".parquet", ".geoparquet")):
        yield from _parquet_items(config)
        return
    with DocumentReader() as reader:
        url = config.stac.rstrip("/")
        if url.endswith("/search"):
            yield from _api_items(config, url.removesuffix("/search"), bounds, reader)
        else:
            yield from _items_of(reader.read(config.stac), config, bounds, reader)


def _items_of(
    document: dict[str, Any], config: StacConfig, bounds: Bounds | None, reader: DocumentReader
) -> Iterator[tuple[Item, str]]:
    """Items of the document that the config names."""
    kind = document.get("type")
    if kind == "Feature":
        yield document, _self_href(document, config.stac)
    elif kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list):
            raise CatalogueError(f"{config.stac}: its features are no list")
        for item in features:
            yield item, _self_href(item, config.stac)
    elif kind in ("Catalog", "Collection"):
        if _is_api(document):
            yield from _api_items(config, config.stac, bounds, reader)
        else:
            yield from _walked_items(config, document, reader)
    else:
        raise CatalogueError(
            f"{config.stac} is no STAC item, ItemCollection, collection or catalogue: its type is "
            f"{kind!r}"
        )


def _is_api(document: dict[str, Any]) -> bool:
    has_search = any(link.get("rel") == "search" for link in _links(document))
    return has_search and "conformsTo" in document


def _links(document: Any) -> list[dict[str, Any]]:
    """The links of a document or item, those that are none left out."""
    links = document.get("links") if isinstance(document, dict) else None
    if not isinstance(links, list):
        return []
    return [link for link in links if isinstance(link, dict) and isinstance(link.get("href"), str)]


def _self_href(item: Item, place: str) -> str:
    """The item's own link, which its hrefs are relative to; else the file that holds it."""
    for link in _links(item):
        if link.get("rel") == "self" and "://" in link["href"]:
            # A file here may hold items of the network, but not the other way round.
            if is_remote(place) and not is_remote(link["href"]):
                break
            return str(link["href"])
    return place


def _walked_items(
    config: StacConfig, root: dict[str, Any], reader: DocumentReader
) -> Iterator[tuple[Item, str]]:
    """Items below a catalogue, depth first; the links of a document are fetched side by side."""
    known = {config.stac}
    open_links = [iter([(config.stac, root)])]
    while open_links:
        place, document = next(open_links[-1], (None, None))
        if place is None or document is None:
            open_links.pop()
        elif document.get("type") == "Feature":
            yield document, place
        else:
            fresh = [href for href in _below(document, place, config) if href not in known]
            known.update(fresh)
            open_links.append(reader.read_all(fresh))


def _below(document: dict[str, Any], place: str, config: StacConfig) -> list[str]:
    """Where the items, collections and catalogues that a document links to lie."""
    name = document.get("id")
    is_collection = document.get("type") == "Collection"
    if is_collection and config.collections and name not in config.collections:
        return []
    links = _links(document)
    hrefs = [link["href"] for link in links if link.get("rel") in ("item", "child")]
    if not hrefs and any(link.get("rel") == "items" for link in links):
        raise CatalogueError(
            f"{place} is a collection of an API; name the API's root and collections: [{name}]"
        )
    return list(dict.fromkeys(resolve_path(href, place) for href in hrefs))


def _api_items(
    config: StacConfig, root: str, bounds: Bounds | None, reader: DocumentReader
) -> Iterator[tuple[Item, str]]:
    """Items of an API search (POST, page by page)."""
    from pystac_client import Client

    first, last = config.dates
    days = f"{_instant(first, '00:00:00')}/{_instant(last, '23:59:59')}"
    try:
        client = Client.open(root, stac_io=reader.io())
        search = client.search(
            collections=list(config.collections) or None,
            bbox=list(bounds) if bounds else None,
            datetime=days if first or last else None,
            limit=ITEMS_PER_PAGE,
        )
        for item in search.items_as_dicts():
            yield item, _self_href(item, root)
    except CatalogueError:
        raise
    except Exception as error:
        raise CatalogueError(
            f"{config.stac}: the STAC API failed: {short_reason(error)}"
        ) from error


def _instant(date: datetime.date | None, time: str) -> str:
    return f"{date.isoformat()}T{time}Z" if date else ".."


def _parquet_items(config: StacConfig) -> Iterator[tuple[Item, str]]:
    """Items of a stac-geoparquet file (https://github.com/radiantearth/stac-geoparquet-spec)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(local_copy(config.stac))
        names = set(file.schema_arrow.names)
        if not {"id", "geometry", "assets"} <= names:
            raise CatalogueError(
                f"{config.stac} is no stac-geoparquet file: expected columns id, geometry and "
                f"assets; it has {', '.join(sorted(names))}"
            )
        columns = [name for name in _PARQUET_COLUMNS if name in names]
        for batch in file.iter_batches(batch_size=4096, columns=columns):
            for row in batch.to_pylist():
                yield _item_of_row(row), config.stac
    except (OSError, StorageError, pa.ArrowException) as error:
        raise CatalogueError(
            f"{config.stac}: cannot read the catalogue: {short_reason(error)}"
        ) from error


def _item_of_row(row: dict[str, Any]) -> Item:
    geometry, bbox = row.pop("geometry"), row.pop("bbox", None)
    having = row.pop("assets") or {}
    assets = {name: asset for name, asset in having.items() if asset is not None}
    item: Item = {"id": row.pop("id"), "collection": row.pop("collection", None)}
    if isinstance(bbox, dict):
        bbox = [bbox.get(name) for name in ("xmin", "ymin", "xmax", "ymax")]
    return {**item, "geometry": geometry, "bbox": bbox, "assets": assets, "properties": row}


def _passes(item: Item, config: StacConfig) -> bool:
    properties = _properties(item)
    if config.collections and item.get("collection") not in (None, *config.collections):
        return False
    begin, end = item_days(properties)
    if not (
        within_dates(end, (config.dates[0], None)) and within_dates(begin, (None, config.dates[1]))
    ):
        return False
    cloud = properties.get("eo:cloud_cover")
    nodata = next((v for k in _NODATA_KEYS if (v := properties.get(k)) is not None), None)
    limits = ((cloud, config.max_cloud_percent), (nodata, config.max_nodata_percent))
    return all(value is None or limit is None or float(value) <= limit for value, limit in limits)


def _properties(item: Item) -> dict[str, Any]:
    properties = item.get("properties")
    if not isinstance(properties, dict):
        raise CatalogueError(f"its properties are {properties!r}; expected an object")
    return properties


def item_days(
    properties: dict[str, Any],
) -> tuple[datetime.date | None, datetime.date | None]:
    """First and last day (UTC) of an item; the last one is what the image is dated by."""
    moment = _day(properties.get("datetime"))
    if moment is not None:
        return moment, moment
    return _day(properties.get("start_datetime")), _day(properties.get("end_datetime"))


def _day(value: Any) -> datetime.date | None:
    if value is None:
        return None
    moment = value if isinstance(value, datetime.datetime) else None
    if moment is None:
        try:
            moment = datetime.datetime.fromisoformat(str(value))
        except ValueError:
            raise CatalogueError(f"{value!r} is no date and time; expected RFC 3339") from None
    return moment.astimezone(datetime.UTC).date() if moment.tzinfo else moment.date()


def _listed(item: Item, base: str, config: StacConfig) -> ListedImage:
    name = choose_asset(item, config.asset)
    asset = item["assets"][name]
    path = resolve_path(_href(name, asset), base)
    shape = asset.get("proj:shape") or _properties(item).get("proj:shape")
    return ListedImage(
        path=path,
        image_id=str(item["id"]),
        date=item_days(_properties(item))[1],
        outline=_outline(item),
        num_px=_num_px(shape) if shape else 0,
        cloud_mask=_cloud_mask(item, base, config.cloud_mask, path),
    )


def _href(name: str, asset: dict[str, Any]) -> str:
    href = asset.get("href")
    if not isinstance(href, str) or not href:
        raise CatalogueError(f"its asset {name!r} has the href {href!r}; expected a path or URL")
    href.encode()
    return href


def _num_px(shape: Any) -> int:
    height, width = int(shape[0]), int(shape[1])
    if not (0 < height < 1 << 31 and 0 < width < 1 << 31):
        raise CatalogueError(f"its proj:shape is {shape!r}; expected [rows, columns]")
    return height * width


def choose_asset(item: Item, wanted: str | None) -> str:
    """The key of the asset to read: by key, else by a role that only one asset has.

    Raises:
        CatalogueError: if there is no such asset, or more than one; lists what the item has.
    """
    assets = item.get("assets") or {}
    if wanted is not None and wanted in assets:
        return wanted
    for name in [wanted] if wanted is not None else ["visual", "data"]:
        if name in assets:
            return name
        having = [key for key, asset in assets.items() if name in (asset.get("roles") or ())]
        if len(having) == 1:
            return having[0]
    if wanted is None and len(assets) == 1:
        return next(iter(assets))
    told = ", ".join(
        f"{key} ({'/'.join(a.get('roles') or ['no role'])})" for key, a in assets.items()
    )
    problem = (
        f"no asset {wanted!r}, by key or by role" if wanted else "no asset to choose by itself"
    )
    raise CatalogueError(
        f"item {item.get('id')}: {problem}; it has {told or 'none'}. Name one of them with `asset`"
    )


def _cloud_mask(item: Item, base: str, config: CloudMaskConfig | None, path: str) -> Any:
    if config is None or config.asset is None:
        return mask_of(config, path)
    asset = (item.get("assets") or {}).get(config.asset)
    if asset is None:
        raise CatalogueError(
            f"item {item.get('id')}: no asset {config.asset!r} for the cloud mask; it has "
            f"{', '.join(item.get('assets') or {}) or 'none'}"
        )
    return mask_of(config, path, resolve_path(_href(config.asset, asset), base))


def _outline(item: Item) -> Any:
    geometry, bbox = item.get("geometry"), item.get("bbox")
    if isinstance(geometry, shapely.Geometry):
        return geometry
    try:
        if isinstance(geometry, bytes):
            return shapely.from_wkb(geometry)
        if geometry is not None:
            return shapely.from_geojson(json.dumps(geometry))
        if bbox is None:
            return shapely.Polygon()
        # Six numbers have heights in the third and sixth place.
        west, south, east, north = (bbox[i] for i in ((0, 1, 3, 4) if len(bbox) == 6 else range(4)))
        return shapely.box(west, south, east + 360.0 if east < west else east, north)
    except (shapely.GEOSException, TypeError, ValueError, IndexError) as error:
        raise CatalogueError(
            f"item {item.get('id')}: its outline cannot be read: {short_reason(error)}"
        ) from error
