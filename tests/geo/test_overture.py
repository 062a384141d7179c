"""Overture's schema, checked with Overture's own model of a building and by DuckDB."""

import json
import warnings

import duckdb
import geopandas
import pyarrow.parquet as pq
import pytest
import shapely
from exported_rows import AT_ANTIMERIDIAN, column, drawn_batches, outlines

from geo.geoparquet import write_stream
from geo.overture import OVERTURE_SCHEMA, overture_rows

# DESCRIBE of theme=buildings/type=building of release 2026-09-23, by DuckDB.
PUBLISHED_TYPES = """
id VARCHAR
names STRUCT("primary" VARCHAR, common MAP(VARCHAR, VARCHAR), rules STRUCT(variant VARCHAR,
 "language" VARCHAR, perspectives STRUCT("mode" VARCHAR, countries VARCHAR[]), "value" VARCHAR,
 "between" DOUBLE[], side VARCHAR)[])
sources STRUCT(property VARCHAR, dataset VARCHAR, license VARCHAR, record_id VARCHAR,
 update_time VARCHAR, confidence DOUBLE, "between" DOUBLE[], provider VARCHAR, resource VARCHAR,
 "version" VARCHAR)[]
level INTEGER
height DOUBLE
min_height DOUBLE
is_underground BOOLEAN
num_floors INTEGER
num_floors_underground INTEGER
min_floor INTEGER
subtype VARCHAR
class VARCHAR
facade_color VARCHAR
facade_material VARCHAR
roof_material VARCHAR
roof_shape VARCHAR
roof_direction DOUBLE
roof_orientation VARCHAR
roof_color VARCHAR
roof_height DOUBLE
geometry GEOMETRY('OGC:CRS84')
has_parts BOOLEAN
version INTEGER
bbox STRUCT(xmin DOUBLE, xmax DOUBLE, ymin DOUBLE, ymax DOUBLE)
theme VARCHAR
type VARCHAR
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    batches = drawn_batches(300, centre=AT_ANTIMERIDIAN)
    path = tmp_path_factory.mktemp("overture") / "a.parquet"
    rows = (overture_rows(batch, dataset="drawn") for batch in batches)
    kinds = ("Polygon", "MultiPolygon")
    write_stream(path, rows, schema=OVERTURE_SCHEMA, geometry_types=kinds)
    return path, batches


@pytest.fixture
def building_model():
    """Overture's own model: no dependency, since its package brings a pytest plugin that warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(
            "overture.schema.buildings",
            reason="pip install overture-schema-theme-buildings; pytest -p no:overture_baselines",
        )
    return module.Building


def test_every_row_is_a_building_to_overture(written, building_model):
    path, batches = written
    for row, outline in zip(pq.read_table(path).to_pylist(), outlines(batches), strict=True):
        box, shape = row.pop("bbox"), shapely.from_wkb(row.pop("geometry"))
        geometry = shapely.geometry.mapping(shape)
        properties = {name: value for name, value in row.items() if value is not None}
        properties["sources"] = [
            {name: value for name, value in source.items() if value is not None}
            for source in properties["sources"]
        ]
        feature = {"type": "Feature", "id": properties.pop("id"), "geometry": geometry}
        feature["properties"] = properties
        feature["bbox"] = [box[side] for side in ("xmin", "ymin", "xmax", "ymax")]
        building = building_model.model_validate_json(json.dumps(feature))
        assert building.sources[0].confidence is not None
        assert shape.area == pytest.approx(outline.area, rel=1e-9)
        assert shapely.box(*feature["bbox"]).covers(shape)
        assert max(map(abs, shape.bounds)) <= 180.0


def test_columns_and_types_are_those_that_overture_publishes(written):
    path, _ = written
    found = duckdb.sql(f"describe select * from read_parquet('{path}')").fetchall()
    lines = PUBLISHED_TYPES.strip().replace("\n ", " ").splitlines()
    expected = [tuple(line.split(" ", 1)) for line in lines]
    # Without its extension for places DuckDB calls WKB a blob.
    same = {"BLOB": "GEOMETRY('OGC:CRS84')", "GEOMETRY": "GEOMETRY('OGC:CRS84')"}
    assert [(row[0], same.get(row[1], row[1])) for row in found] == expected


def test_what_is_known_is_in_the_sources(written):
    path, batches = written
    sources = [row[0] for row in pq.read_table(path)["sources"].to_pylist()]
    assert [source["record_id"] for source in sources] == column(batches, "id")
    assert [source["confidence"] for source in sources] == column(batches, "confidence")
    days = [day and f"{day}T00:00:00Z" for day in column(batches, "image_date")]
    assert [source["update_time"] for source in sources] == days
    assert None in days
    assert {source["dataset"] for source in sources} == {"drawn"}


def test_geopandas_reads_it(written):
    path, _ = written
    frame = geopandas.read_parquet(path)
    assert set(frame.geom_type) == {"Polygon", "MultiPolygon"}
    assert frame.crs == "OGC:CRS84"
