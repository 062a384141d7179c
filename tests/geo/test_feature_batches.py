"""Features of files that others made, as batches."""

import geopandas
import pytest
import shapely

from geo.feature_batches import feature_batches


@pytest.mark.parametrize("ending", ["parquet", "gpkg"])
def test_names_come_from_the_first_column_with_a_value(tmp_path, ending):
    """As ogr2ogr makes of OpenStreetMap: ways have no osm_id, relations no osm_way_id."""
    frame = geopandas.GeoDataFrame(
        {"osm_id": [None, "7", None], "osm_way_id": ["12", None, None]},
        geometry=[shapely.box(k, 0, k + 1, 1) for k in range(3)],
        crs="EPSG:4326",
    )
    path = tmp_path / f"osm.{ending}"
    frame.to_parquet(path) if ending == "parquet" else frame.to_file(path)
    ids = [name for one in feature_batches(path, near=None) for name in one.ids.to_pylist()]
    assert ids[:2] == ["12", "7"]
    assert ids[2].isdigit()  # the feature's number
