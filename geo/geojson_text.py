"""Footprints as GeoJSON features, a line each, printed a batch at a time.

Coordinates have 9 decimals (0.1 mm), which tell the stored ones apart: rounded to the lattice
(`COORDINATE_STEP_DEG`), they are the stored ones. Footprints across the antimeridian are cut in
two, as RFC 7946 asks. Several times as fast as GDAL's writer (benchmarks/export.py).
"""

import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from geo.antimeridian import crosses_antimeridian, cut_at_antimeridian
from geo.number_text import fixed_text, ring_text
from geo.wkb import polygons_from_wkb

COORDINATE_DECIMALS = 9
_DECIMALS = {"latitude": 8, "longitude": 8, "area_in_meters": 4, "confidence": 4}
_LEFT_OUT = ("geometry", "bbox", "id")


def feature_lines(rows: pa.RecordBatch, *, before: str = "", after: str = "\n") -> pa.Buffer:
    """GeoJSON features of footprints: `id` as the feature's, all else but `bbox` as properties.

    Args:
        rows: footprints with at least `geometry` (WKB polygons) and `bbox`.
        before: put before each feature.
        after: put after each feature.
    """
    pieces: list[pa.Array | str] = [before + '{"type":"Feature"']
    if "id" in rows.schema.names:
        pieces += [',"id":', _json_strings(rows["id"])]
    pieces.append(',"properties":{')
    names = [name for name in rows.schema.names if name not in _LEFT_OUT]
    for position, name in enumerate(names):
        pieces += [
            ("," if position else "") + json.dumps(name) + ":",
            _json_values(name, rows[name]),
        ]
    pieces += ['},"geometry":', _geometries(rows), "}" + after]
    lines = pc.binary_join_element_wise(*pieces, "")
    _, offsets, data = lines.buffers()
    ends = np.frombuffer(offsets, np.int32)
    return data.slice(int(ends[lines.offset]), int(ends[lines.offset + len(lines)]))


def _json_values(name: str, column: pa.Array) -> pa.Array:
    if name in _DECIMALS:
        return fixed_text(column, _DECIMALS[name], strip=True)
    if pa.types.is_date(column.type):
        return pc.fill_null(
            pc.binary_join_element_wise('"', column.cast(pa.string()), '"', ""), "null"
        )
    return _json_strings(column)


def _json_strings(column: pa.Array) -> pa.Array:
    """Strings as JSON; those that need it are escaped one by one."""
    plain = pc.binary_join_element_wise('"', column, '"', "")
    # What JSON has to escape: quotes, backslashes and control characters.
    is_odd = pc.fill_null(pc.match_substring_regex(column, r'["\\\x00-\x1f]'), False)
    if pc.any(is_odd).as_py():
        escaped = [
            json.dumps(text, ensure_ascii=False) for text in column.filter(is_odd).to_pylist()
        ]
        plain = pc.replace_with_mask(plain, is_odd, pa.array(escaped, pa.string()))
    return pc.fill_null(plain, "null")


def _geometries(rows: pa.RecordBatch) -> pa.Array:
    outlines = polygons_from_wkb(rows["geometry"])
    coordinates = ring_text(outlines, "geojson", decimals=COORDINATE_DECIMALS)
    texts = pc.binary_join_element_wise('{"type":"Polygon","coordinates":', coordinates, "}", "")
    is_cut = crosses_antimeridian(rows["bbox"])
    if not is_cut.any():
        return texts
    places = np.flatnonzero(is_cut)
    cut = [_geometry_text(shapely.from_wkb(rows["geometry"][int(k)].as_py())) for k in places]
    return pc.replace_with_mask(texts, pa.array(is_cut), pa.array(cut, pa.string()))


def _geometry_text(outline: shapely.Geometry) -> str:
    shape = cut_at_antimeridian(outline)
    rounded = shapely.transform(shape, lambda xy: np.round(xy, COORDINATE_DECIMALS))
    return json.dumps(shapely.geometry.mapping(rounded), separators=(",", ":"))


def collection_pieces(batches: Iterable[pa.RecordBatch]) -> Iterable[bytes | pa.Buffer]:
    """One FeatureCollection, in pieces to be written after each other."""
    yield b'{"type":"FeatureCollection","name":"footprints","features":[\n'
    is_first = True
    for batch in batches:
        # The comma stands before each feature but the very first.
        if is_first:
            yield feature_lines(batch.slice(0, 1), after="")
            batch = batch.slice(1)
        if batch.num_rows:
            yield feature_lines(batch, before=",\n", after="")
        is_first = False
    yield b"\n]}\n"


def sequence_pieces(
    batches: Iterable[pa.RecordBatch], *, with_separator: bool = False
) -> Iterable[pa.Buffer]:
    """Features a line each, in pieces to be written after each other.

    Args:
        batches: footprints.
        with_separator: the record separator of RFC 8142 before each line; without it, it is
            newline-delimited GeoJSON.
    """
    for batch in batches:
        yield feature_lines(batch, before="\x1e" if with_separator else "")
