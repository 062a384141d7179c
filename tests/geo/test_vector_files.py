"""GeoPackage and FlatGeobuf, read back by GDAL and GeoPandas."""

import sqlite3

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from exported_rows import AT_ANTIMERIDIAN, column, drawn_batches, outlines

from geo.footprints import PUBLIC_SCHEMA
from geo.vector_files import write_vector_file

KINDS = {"GPKG": "a.gpkg", "FlatGeobuf": "a.fgb"}


@pytest.mark.parametrize("driver", KINDS)
@pytest.mark.parametrize("centre", [(32.58, 0.31), AT_ANTIMERIDIAN])
def test_every_footprint_comes_back(driver, centre, tmp_path):
    batches = drawn_batches(700, centre=centre)
    path = tmp_path / KINDS[driver]
    write_vector_file(path, batches, driver, PUBLIC_SCHEMA)
    info = pyogrio.read_info(path)
    assert info["layer_name"] in ("footprints", "a")
    assert info["crs"] == "EPSG:4326"
    assert info["geometry_type"] == "Polygon"
    # FlatGeobuf sorts the rows for its index.
    frame = geopandas.read_file(path).set_index("id")
    ids = column(batches, "id")
    assert sorted(frame.index) == sorted(ids)
    frame = frame.loc[ids]
    for name in ("latitude", "longitude", "area_in_meters", "confidence", "full_plus_code"):
        assert frame[name].tolist() == column(batches, name)
    days = [
        None if np.isnat(day) else day.astype("M8[D]").item()
        for day in frame.image_date.values.astype("M8[ns]")
    ]
    assert days == column(batches, "image_date")
    assert None in days
    assert (frame.geometry.values == outlines(batches)).all()


@pytest.mark.parametrize("driver", KINDS)
def test_a_box_is_read_through_the_index(driver, tmp_path):
    batches = drawn_batches(700)
    path = tmp_path / KINDS[driver]
    write_vector_file(path, batches, driver, PUBLIC_SCHEMA)
    assert pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]
    shapes = outlines(batches)
    box = shapely.bounds(shapes[3])
    expected = {i for i, shape in enumerate(shapes) if shape.intersects(shapely.box(*box))}
    found = pyogrio.read_dataframe(path, bbox=tuple(box))
    ids = column(batches, "id")
    assert {ids.index(name) for name in found["id"]} >= expected
    assert len(found) < 100


def test_some_columns(tmp_path):
    batches = [rows.select(["id", "geometry", "confidence"]) for rows in drawn_batches(50)]
    write_vector_file(tmp_path / "a.gpkg", batches, "GPKG", batches[0].schema)
    assert geopandas.read_file(tmp_path / "a.gpkg").columns.tolist() == [
        "id",
        "confidence",
        "geometry",
    ]


def test_the_geopackage_is_one_to_sqlite(tmp_path):
    write_vector_file(tmp_path / "a.gpkg", drawn_batches(50), "GPKG", PUBLIC_SCHEMA)
    with sqlite3.connect(tmp_path / "a.gpkg") as base:
        assert base.execute("pragma integrity_check").fetchone() == ("ok",)
        (kind,) = base.execute(
            "select type from pragma_table_info('footprints') where name = 'image_date'"
        ).fetchone()
        assert kind == "DATE"
        assert base.execute("select count(*) from rtree_footprints_geom").fetchone() == (50,)
    base.close()


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        write_vector_file(tmp_path / "no" / "a.gpkg", drawn_batches(5), "GPKG", PUBLIC_SCHEMA)
