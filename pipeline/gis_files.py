"""What a GIS opens: the dataset as one layer, its style, and an index of its files.

- footprints.vrt: all shards as one layer, for GDAL with the Parquet driver and all that use it;
- footprints.qml: its style, which QGIS applies by itself since it has the same name;
- footprints.qlr: a QGIS layer definition of both layers, styled;
- shards.geojson and shards.qml: which file covers where; opens without the Parquet driver too.

Paths in them are relative, so that the folder can be moved or served, and the same shards give the
same bytes.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from geo.atomic_files import write_atomically
from geo.dataset import DatasetShard
from geo.footprints import PUBLIC_SCHEMA
from geo.places import Place
from geo.spherical import EARTH_RADIUS_M
from pipeline.gis_style import footprints_style, layer_definition, render, shards_style
from pipeline.stac import bounds_geometry
from pipeline.write import WrittenShard

VRT_NAME, LAYERS_NAME, STYLE_NAME = "footprints.vrt", "footprints.qlr", "footprints.qml"
SHARDS_NAME, SHARDS_STYLE_NAME = "shards.geojson", "shards.qml"
GIS_NAMES = (VRT_NAME, LAYERS_NAME, STYLE_NAME, SHARDS_NAME, SHARDS_STYLE_NAME)
"""All files that this module writes into an output folder."""

Bounds = tuple[float, float, float, float]

_OGR_TYPES = {pa.float64(): "Real", pa.string(): "String", pa.date32(): "Date"}
# A file of one footprint has next to no bounds: its density would be that of its roof.
_MIN_AREA_KM2 = 0.01


Shard = WrittenShard | DatasetShard


def write_gis_files(out: Place, shards: Sequence[Shard]) -> list[str]:
    """Write what a GIS opens; each file appears whole or not at all.

    Without shards there is nothing to open as one layer: only the styles and an empty index are
    written, and a layer of an earlier run is removed.

    Args:
        out: the output folder.
        shards: its files; the order does not matter.

    Returns:
        Names of the files in `out`, sorted.

    Raises:
        OSError: if they cannot be written.
    """
    shards = sorted(shards, key=lambda shard: shard.token)
    texts = {
        STYLE_NAME: footprints_style(),
        SHARDS_NAME: shards_geojson(shards),
        SHARDS_STYLE_NAME: shards_style(),
    }
    if shards:
        texts[VRT_NAME] = footprints_vrt(shards)
        texts[LAYERS_NAME] = layer_definition(f"./{VRT_NAME}", f"./{SHARDS_NAME}")
    for name in set(GIS_NAMES) - set(texts):
        (out / name).unlink(missing_ok=True)
    for name, text in texts.items():
        write_atomically(out / name, text)
    return sorted(texts)


def footprints_vrt(shards: Sequence[Shard]) -> str:
    """All shards as one layer, in GDAL's virtual format.

    Numbers of rows count on from file to file. GDAL's own numbering of such layers begins anew with
    every filter, so that what a person selects in one view is something else in the next. Counts
    are not stated: GDAL would return a file's for filtered rows too, and the whole one where it has
    no Parquet driver and reads nothing. Bounds are, so that a view opens only the files it shows.

    Args:
        shards: at least one; in the order in which the rows are to be numbered.
    """
    columns = [field for field in PUBLIC_SCHEMA if field.type in _OGR_TYPES]
    entries, first_fid = [], 0
    for shard in shards:
        layer = shard.path.rpartition("/")[2].removesuffix(".parquet")
        entry = {"layer": layer, "path": shard.path, "bounds": shard.bounds}
        entries.append({**entry, "first_fid": first_fid})
        first_fid += shard.num_rows
    west, south = (min(shard.bounds[side] for shard in shards) for side in (0, 1))
    east, north = (max(shard.bounds[side] for shard in shards) for side in (2, 3))
    return render(
        VRT_NAME,
        shards=entries,
        columns=", ".join(field.name for field in columns),
        fields=[(field.name, _OGR_TYPES[field.type]) for field in columns],
        bounds=(west, south, east, north),
    )


def shards_geojson(shards: Sequence[Shard]) -> str:
    """The index of the files: their bounds, sizes and how dense their footprints lie."""
    features = [
        {
            "type": "Feature",
            "properties": _properties(shard),
            "geometry": bounds_geometry(shard.bounds),
        }
        for shard in shards
    ]
    # A file a line, so that people and diffs can read it.
    lines = ",\n".join(json.dumps(feature) for feature in features)
    return f'{{"type": "FeatureCollection", "name": "shards", "features": [\n{lines}\n]}}\n'


def _properties(shard: Shard) -> dict[str, Any]:
    area_km2 = max(_area_m2(shard.bounds) / 1e6, _MIN_AREA_KM2)
    return {
        "path": shard.path,
        "s2_cell": shard.token,
        "footprints": shard.num_rows,
        "bytes": shard.num_bytes,
        "footprints_per_km2": round(shard.num_rows / area_km2, 1),
        "sha256": shard.sha256,
    }


def _area_m2(bounds: Bounds) -> float:
    """Area between two meridians and two parallels on the sphere."""
    west, south, east, north = map(math.radians, bounds)
    return EARTH_RADIUS_M**2 * (east - west) * (math.sin(north) - math.sin(south))
