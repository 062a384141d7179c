"""Footprints in Overture's schema of buildings, version 2.0.0 (release 2026-09-23).

Columns, their order and their types are those of Overture's own files of theme=buildings,
type=building. What a footprint from imagery cannot tell (names, class, height, floors, materials)
is null. https://docs.overturemaps.org/schema/reference/buildings/building/
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from geo.antimeridian import crosses_antimeridian, cut_at_antimeridian

OVERTURE_SCHEMA_VERSION = "2.0.0"

_TEXT, _NUMBER, _WHOLE, _FLAG = pa.string(), pa.float64(), pa.int32(), pa.bool_()
_PERSPECTIVES = pa.struct([("mode", _TEXT), ("countries", pa.list_(_TEXT))])
_NAME_RULE = pa.struct(
    [
        ("variant", _TEXT),
        ("language", _TEXT),
        ("perspectives", _PERSPECTIVES),
        ("value", _TEXT),
        ("between", pa.list_(_NUMBER)),
        ("side", _TEXT),
    ]
)
_NAMES = pa.struct(
    [("primary", _TEXT), ("common", pa.map_(_TEXT, _TEXT)), ("rules", pa.list_(_NAME_RULE))]
)
_SOURCE = pa.struct(
    [
        ("property", _TEXT),
        ("dataset", _TEXT),
        ("license", _TEXT),
        ("record_id", _TEXT),
        ("update_time", _TEXT),
        ("confidence", _NUMBER),
        ("between", pa.list_(_NUMBER)),
        ("provider", _TEXT),
        ("resource", _TEXT),
        ("version", _TEXT),
    ]
)
_BBOX = pa.struct([(name, _NUMBER) for name in ("xmin", "xmax", "ymin", "ymax")])

OVERTURE_SCHEMA = pa.schema(
    [
        ("id", _TEXT),
        ("names", _NAMES),
        ("sources", pa.list_(_SOURCE)),
        ("level", _WHOLE),
        ("height", _NUMBER),
        ("min_height", _NUMBER),
        ("is_underground", _FLAG),
        ("num_floors", _WHOLE),
        ("num_floors_underground", _WHOLE),
        ("min_floor", _WHOLE),
        ("subtype", _TEXT),
        ("class", _TEXT),
        ("facade_color", _TEXT),
        ("facade_material", _TEXT),
        ("roof_material", _TEXT),
        ("roof_shape", _TEXT),
        ("roof_direction", _NUMBER),
        ("roof_orientation", _TEXT),
        ("roof_color", _TEXT),
        ("roof_height", _NUMBER),
        ("geometry", pa.binary()),
        ("has_parts", _FLAG),
        ("version", _WHOLE),
        ("bbox", _BBOX),
        ("theme", _TEXT),
        ("type", _TEXT),
    ]
)
"""Columns of Overture's files of buildings, in their order."""


def overture_rows(rows: pa.RecordBatch, *, dataset: str) -> pa.RecordBatch:
    """Footprints as Overture's buildings.

    Args:
        rows: with `id`, `confidence`, `image_date`, `geometry` and `bbox`.
        dataset: name of the dataset, for `sources`.

    Returns:
        Rows of `OVERTURE_SCHEMA`. The confidence and the image's date are in `sources`, as
        Overture does with buildings found by a machine. Footprints across the antimeridian are
        multipolygons of both sides, whose bbox goes round the earth.
    """
    num = rows.num_rows
    geometry, bbox = _within_the_map(rows)
    constants = {
        "is_underground": pa.scalar(False),
        "has_parts": pa.scalar(False),
        "version": pa.scalar(0, _WHOLE),
        "theme": pa.scalar("buildings"),
        "type": pa.scalar("building"),
    }
    columns = {
        "id": rows["id"],
        "sources": _sources(rows, dataset),
        "geometry": geometry,
        "bbox": bbox,
        **{name: pa.repeat(value, num) for name, value in constants.items()},
    }
    arrays = [columns.get(field.name, pa.nulls(num, field.type)) for field in OVERTURE_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=OVERTURE_SCHEMA)


def _sources(rows: pa.RecordBatch, dataset: str) -> pa.ListArray:
    """One source for each, of all its properties."""
    num = rows.num_rows
    day = rows["image_date"].cast(pa.string())
    values = {
        "property": pa.repeat("", num),
        "dataset": pa.repeat(dataset, num),
        "record_id": rows["id"],
        "update_time": pc.binary_join_element_wise(day, "T00:00:00Z", ""),
        "confidence": rows["confidence"],
        "provider": pa.repeat("everyroof", num),
        "resource": pa.repeat("buildings", num),
    }
    children = [values.get(field.name, pa.nulls(num, field.type)) for field in _SOURCE]
    items = pa.StructArray.from_arrays(children, fields=list(_SOURCE))
    return pa.ListArray.from_arrays(pa.array(np.arange(num + 1, dtype=np.int32)), items)


def _within_the_map(rows: pa.RecordBatch) -> tuple[pa.Array, pa.StructArray]:
    """Outlines and bounding boxes with longitudes from -180 to 180."""
    sides = {
        name: rows["bbox"].field(name).cast(_NUMBER).to_numpy(zero_copy_only=False).copy()
        for name in ("xmin", "xmax", "ymin", "ymax")
    }
    geometry, is_beyond = rows["geometry"], crosses_antimeridian(rows["bbox"])
    if is_beyond.any():
        outlines = shapely.from_wkb(geometry.filter(pa.array(is_beyond)).to_pylist())
        cut = [cut_at_antimeridian(outline) for outline in outlines]
        encoded = pa.array(shapely.to_wkb(np.array(cut, object)), pa.binary())
        geometry = pc.replace_with_mask(geometry, pa.array(is_beyond), encoded)
        bounds = shapely.bounds(cut)
        sides["xmin"][is_beyond], sides["xmax"][is_beyond] = bounds[:, 0], bounds[:, 2]
    children = [pa.array(side) for side in sides.values()]
    return geometry, pa.StructArray.from_arrays(children, fields=list(_BBOX))
