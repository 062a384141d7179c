"""How QGIS draws footprints: by confidence, dots from afar and outlines from near.

The styles are QGIS's own XML, made from the palette and checked in a real QGIS. A style travels in
three ways: in a .qml file with the name of the data beside it, which QGIS applies by itself; inside
a GeoPackage; or in a layer definition (.qlr). Columns that a format leaves out (Open Buildings' CSV
has no date) are left blank.
"""

import functools
import itertools
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jinja2

from geo.atomic_files import write_atomically
from pipeline.page_templates import template_environment
from pipeline.palette import CONFIDENCE_RAMP

QGIS_VERSION = "3.22.0"
"""The oldest QGIS that the styles are written for; later ones read what earlier ones wrote."""
OUTLINES_UNTIL, SHAPES_UNTIL, FOOTPRINTS_UNTIL = 12_500, 60_000, 250_000
"""Denominators of the scales up to which footprints have outlines, are drawn as shapes rather than
dots, and (in the layer definition, where the files' density takes over) are drawn at all."""
LABELS_UNTIL = 500
"""Denominator of the scale up to which every footprint carries its label."""

# Opacity (of 255) of a fill that the image shows through, and of a dot, many of which add up; what
# an outline keeps of its colour's brightness.
_VEIL, _DOT, _EDGE_SHADE = 105, 150, 0.72

_LABEL = """"full_plus_code" || '\\n' || round("area_in_meters") || ' m²  ' ||
 format_number("confidence", 2)"""
_SHARD_LABEL = """"path" || '\\n' || format_number("footprints", 0) ||
 if("footprints" = 1, ' footprint', ' footprints')"""
_MAP_TIP = (
    ("Plus Code", '"full_plus_code"'),
    ("Area", "format_number(\"area_in_meters\", 1) || ' m²'"),
    ("Confidence", 'format_number("confidence", 2)'),
    ("Date", "coalesce(format_date(attribute('image_date'), 'yyyy-MM-dd'), 'not known')"),
    ("Image", "coalesce(attribute('image_id'), '')"),
    ("Model", "coalesce(attribute('model_id'), '')"),
)
_SHARD_MAP_TIP = (
    ("File", '"path"'),
    ("Footprints", 'format_number("footprints", 0)'),
    ("Size", "format_number(\"bytes\" / 1e6, 1) || ' MB'"),
    ("Density", "format_number(\"footprints_per_km2\", 0) || ' per km²'"),
)
_DENSITY = ((0, "#F2F0F7"), (50, "#CBC9E2"), (200, "#9E9AC8"), (1000, "#756BB1"), (3000, "#54278F"))
"""Footprints per square kilometre: where a class begins, and its colour (ColorBrewer's Purples)."""


def footprints_style() -> str:
    """The style of footprints as the text of a .qml file."""
    return render("qgis_style.qml", qgis_version=QGIS_VERSION, layer_xml=_footprints_xml())


def shards_style() -> str:
    """The style of the index of files as the text of a .qml file."""
    return render("qgis_style.qml", qgis_version=QGIS_VERSION, layer_xml=_shards_xml())


def write_style_beside(path: Path) -> Path:
    """Give an exported file its style: QGIS applies a .qml file of the same name by itself.

    Args:
        path: a file of footprints with a column `confidence`, such as buildings.fgb.

    Returns:
        The style's place, such as buildings.qml.

    Raises:
        OSError: if it cannot be written.
    """
    # QGIS looks for x.qml beside x.csv.gz, which it takes for two endings.
    name = path.name.removesuffix(".gz")
    style = path.with_name(name).with_suffix(".qml")
    write_atomically(style, footprints_style())
    return style


def style_geopackage(path: Path, layer: str) -> None:
    """Put the style into a GeoPackage, as the layer's default: QGIS applies it by itself.

    Args:
        path: the GeoPackage; changed in place.
        layer: name of its layer of footprints.

    Raises:
        ValueError: if the file has no such layer.
        sqlite3.DatabaseError: if the file is not a GeoPackage or cannot be written.
    """
    with closing(sqlite3.connect(path)) as database, database:
        found = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", [layer]
        ).fetchone()
        if found is None:
            raise ValueError(f"{path} has no layer {layer!r} to style")
        for statement in _LAYER_STYLES:
            database.execute(statement)
        database.execute(
            "DELETE FROM layer_styles WHERE f_table_name = ? AND styleName = 'confidence'", [layer]
        )
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner) "
            "VALUES ('', '', ?, ?, 'confidence', ?, '', 1, 'Footprints by confidence', '')",
            [layer, found[0], footprints_style()],
        )


# The table as QGIS makes it, with a fixed time: the same footprints give the same bytes.
_LAYER_STYLES = (
    "CREATE TABLE IF NOT EXISTS layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "
    "f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), "
    "f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, "
    "useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), "
    "update_time DATETIME DEFAULT '1970-01-01T00:00:00.000Z')",
    "INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier, description, "
    "last_change) VALUES ('layer_styles', 'attributes', 'layer_styles', '', "
    "'1970-01-01T00:00:00.000Z')",
)


def layer_definition(footprints: str, shards: str) -> str:
    """Both layers with their styles as the text of a .qlr file.

    Args:
        footprints: place of the footprints relative to the file, such as ./footprints.vrt.
        shards: the same of the index of files.
    """
    layers = [
        {
            "id": "everyroof_footprints",
            "name": "Building footprints",
            "source": footprints,
            "geometry": "Polygon",
            # From further away every footprint of a country would be read to draw a few pixels.
            "farthest": FOOTPRINTS_UNTIL,
            "xml": _footprints_xml(),
        },
        {
            "id": "everyroof_shards",
            "name": "Files",
            "source": shards,
            "geometry": "Polygon",
            "farthest": None,
            "xml": _shards_xml(),
        },
    ]
    return render("qgis_layers.qlr", layers=layers)


def _footprints_xml() -> str:
    return render(
        "qgis_footprints.xml",
        classes=_classes(CONFIDENCE_RAMP, 1.0, "{:g} to {:g}"),
        outlines_until=OUTLINES_UNTIL,
        shapes_until=SHAPES_UNTIL,
        labels_until=LABELS_UNTIL,
        label=_LABEL,
        map_tip=_tip_html(_MAP_TIP),
    )


def _shards_xml() -> str:
    return render(
        "qgis_shards.xml",
        classes=_classes(_DENSITY, 1e9, "{:,} to {:,} per km²"),
        footprints_until=FOOTPRINTS_UNTIL,
        shapes_until=SHAPES_UNTIL,
        label=_SHARD_LABEL,
        map_tip=_tip_html(_SHARD_MAP_TIP),
    )


def _classes(
    ramp: Sequence[tuple[float, str]], end: float, label: str
) -> list[dict[str, float | str]]:
    """The classes of a ramp: limits, label, and colours as QGIS writes them."""
    limits = [*(begin for begin, _ in ramp), end]
    return [
        {
            "lower": lower,
            "upper": upper,
            "label": label.format(lower, upper),
            "solid": _rgba(colour),
            "veil": _rgba(colour, alpha=_VEIL),
            "dot": _rgba(colour, alpha=_DOT),
            "edge": _rgba(colour, shade=_EDGE_SHADE),
        }
        for (lower, upper), (_, colour) in zip(itertools.pairwise(limits), ramp, strict=True)
    ]


def _rgba(colour: str, *, alpha: int = 255, shade: float = 1.0) -> str:
    """#RRGGBB as QGIS writes it: "r,g,b,a", each from 0 to 255."""
    channels = [round(int(colour[i : i + 2], 16) * shade) for i in (1, 3, 5)]
    return ",".join(map(str, [*channels, alpha]))


def _tip_html(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th align='left'>{name}</th><td>[% {expression} %]</td></tr>"
        for name, expression in rows
    )
    return f"<table>{cells}</table>"


@functools.cache
def _environment() -> jinja2.Environment:
    # One for all: it keeps the templates that it has compiled.
    return template_environment()


def render(template: str, **values: Any) -> str:
    """A template of the package, filled in; values are escaped for XML."""
    return _environment().get_template(template).render(**values) + "\n"
