import geopandas
import numpy as np
import pytest
import shapely

from geo.errors import DatasetError
from geo.references import layer_of_frame, metric_crs, read_polygons

UTM_36N = "EPSG:32636"
SQUARE = shapely.box(455000, 38700, 455020, 38720)
BOWTIE = shapely.Polygon([(455100, 38700), (455120, 38720), (455120, 38700), (455100, 38720)])
TWO = shapely.MultiPolygon(
    [shapely.box(455200, 38700, 455210, 38710), shapely.box(455230, 38700, 455240, 38730)]
)


def frame_of(shapes, crs=UTM_36N, **columns):
    return geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


@pytest.mark.parametrize(
    ("name", "crs"),
    [
        ("labels.geojson", "EPSG:4326"),
        ("labels.gpkg", "EPSG:3857"),
        ("labels.gpkg", "EPSG:32636"),
        ("labels.parquet", "EPSG:4326"),
        ("labels.shp", "EPSG:21096"),
    ],
)
def test_any_format_and_crs_gives_the_same_metres(tmp_path, name, crs):
    path = tmp_path / name
    frame = frame_of([SQUARE, TWO], score=[0.5, 0.75]).to_crs(crs)
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_file(path)
    layer = read_polygons(path, crs=metric_crs(frame_of([SQUARE])), columns=("score", "absent"))
    assert layer.crs.to_epsg() == 32636
    np.testing.assert_allclose(shapely.area(layer.polygons), [400, 100, 300], rtol=1e-4)
    assert layer.polygons[0].centroid.distance(SQUARE.centroid) < 0.01
    assert layer.source_row.tolist() == [0, 1, 1]
    assert list(layer.columns) == ["score"]
    assert layer.columns["score"].tolist() == [0.5, 0.75, 0.75]
    assert (layer.num_features, layer.num_extra_parts) == (2, 1)
    assert (layer.num_repaired, layer.num_dropped) == (0, 0)


def test_repairs_and_counts(caplog):
    collapsed = shapely.Polygon([(455300, 38700), (455310, 38700), (455305, 38700)])
    mixed = shapely.GeometryCollection([TWO, shapely.Point(455000, 38700)])
    shapes = [SQUARE, BOWTIE, None, shapely.Polygon(), shapely.Point(1, 1), collapsed, mixed]
    layer = layer_of_frame(frame_of(shapes), name="labels")
    assert shapely.is_valid(layer.polygons).all()
    assert (shapely.get_type_id(layer.polygons) == shapely.GeometryType.POLYGON).all()
    assert layer.source_row.tolist() == [0, 1, 1, 6, 6]
    np.testing.assert_allclose(shapely.area(layer.polygons), [400, 100, 100, 100, 300], rtol=1e-9)
    assert (layer.num_features, layer.num_extra_parts, layer.num_dropped) == (7, 2, 4)
    assert layer.num_repaired == 2  # the bowtie and the collapsed one
    assert "2 of 7 features repaired, 4 without an area left out" in caplog.text


def test_a_bowtie_alone_has_an_area():
    layer = layer_of_frame(frame_of([BOWTIE]), name="labels")  # its signed area is 0
    assert shapely.area(layer.polygons).tolist() == [100, 100]


def test_heights_are_dropped_and_the_frame_is_not_changed():
    frame = frame_of([shapely.force_3d(SQUARE, 12.0), BOWTIE])
    before = frame.geometry.to_wkb().tolist()
    layer = layer_of_frame(frame, name="labels")
    assert not shapely.has_z(layer.polygons).any()
    assert frame.geometry.to_wkb().tolist() == before


def test_union_joins_the_parts():
    halves = [shapely.box(455000, 0, 455010, 10), shapely.box(455010, 0, 455020, 10)]
    area = layer_of_frame(frame_of(halves), name="aoi").union()
    assert area.covers(shapely.box(455005, 2, 455015, 8))
    assert area.area == pytest.approx(200)


@pytest.mark.parametrize(
    ("lon", "lat", "epsg"),
    [(32.6, 0.35, 32636), (40.68, -14.5, 32637), (-179.9, 10, 32601), (179.9, -17, 32660)],
)
def test_metric_crs_is_the_grids(lon, lat, epsg):
    frame = frame_of([shapely.Point(lon, lat).buffer(0.01)], crs="EPSG:4326")
    assert metric_crs(frame).to_epsg() == epsg


def test_metric_crs_across_the_antimeridian():
    both = [shapely.box(179.98, -17, 179.99, -16.9), shapely.box(-179.97, -17, -179.96, -16.9)]
    layer = layer_of_frame(frame_of(both, crs="EPSG:4326"), name="Taveuni")
    assert layer.crs.to_epsg() == 32601
    assert layer.polygons[0].distance(layer.polygons[1]) == pytest.approx(4250, rel=0.01)


def test_a_missing_file(tmp_path):
    with pytest.raises(DatasetError, match=r"there is no file .*nothing\.geojson"):
        read_polygons(tmp_path / "nothing.geojson")


@pytest.mark.parametrize("shape", [None, shapely.Polygon(), shapely.LineString([(0, 0), (9, 9)])])
def test_nothing_with_an_area(shape):
    with pytest.raises(DatasetError, match=r"no polygon with an area \(2 features\)"):
        layer_of_frame(frame_of([shape, None]), name="labels")


@pytest.mark.parametrize("name", ["broken.geojson", "broken.parquet", "broken.gpkg"])
def test_a_file_that_is_none(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"no polygons here")
    with pytest.raises(DatasetError, match="cannot be read as polygons"):
        read_polygons(path)


def test_a_table_without_geometries(tmp_path):
    csv = tmp_path / "table.csv"
    csv.write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="without geometries"):
        read_polygons(csv)
    parquet = tmp_path / "table.parquet"
    frame_of([SQUARE], a=[1]).drop(columns="geometry").to_parquet(parquet)
    with pytest.raises(DatasetError, match="cannot be read as polygons"):
        read_polygons(parquet)


def test_no_polygon(tmp_path):
    path = tmp_path / "points.gpkg"
    frame_of([shapely.Point(455000, 38700)]).to_file(path)
    with pytest.raises(DatasetError, match=r"no polygon with an area \(1 features\)"):
        read_polygons(path)


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.parquet"
    frame_of([]).to_parquet(path)
    with pytest.raises(DatasetError, match=r"no polygon with an area \(0 features\)"):
        read_polygons(path)


def test_no_crs(tmp_path):
    path = tmp_path / "labels.gpkg"
    with pytest.warns(UserWarning, match="crs"):
        frame_of([SQUARE], crs=None).to_file(path)
    with pytest.raises(DatasetError, match="does not say which CRS"):
        read_polygons(path)


def test_a_wrong_crs():
    with pytest.raises(DatasetError, match="no place in the CRS EPSG:4326"):
        layer_of_frame(frame_of([SQUARE], crs="EPSG:4326"), name="labels")


def test_real_labels(shared_data):
    layer = read_polygons(shared_data / "scenes" / "kampala_a.geojson")
    assert (len(layer), layer.num_dropped, layer.crs.to_epsg()) == (108, 0, 32636)
    assert shapely.is_valid(layer.polygons).all()
    layer = read_polygons(shared_data / "scenes" / "nacala.geojson")
    assert (len(layer), layer.crs.to_epsg()) == (44, 32637)
    assert (shapely.get_coordinates(layer.polygons)[:, 1] < 0).all()
