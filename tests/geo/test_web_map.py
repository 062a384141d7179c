"""PMTiles read back by the packages pmtiles and mapbox-vector-tile, and by GDAL."""

import gzip

import mapbox_vector_tile
import numpy as np
import pyarrow as pa
import pyogrio
import pytest
import shapely
from exported_rows import AT_ANTIMERIDIAN, column, drawn_batches, outlines
from pmtiles.reader import MmapSource, Reader, all_tiles
from pmtiles.tile import zxy_to_tileid

from geo import web_map
from geo.errors import DatasetError
from geo.web_map import MAX_TILE_BYTES, WEB_COLUMNS, write_web_map

CENTRES = {"kampala": (32.58, 0.31), "antimeridian": AT_ANTIMERIDIAN, "north": (25.0, 69.0)}


def to_lonlat(xy):
    """Web map units to degrees, with the math module's own functions."""
    x, y = xy.T
    return np.stack([360 * x - 180, np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y))))], axis=1)


def read(path):
    """Header, metadata, and the decoded layers by tile."""
    with path.open("rb") as file:
        source = MmapSource(file)
        reader = Reader(source)
        tiles = {
            place: mapbox_vector_tile.decode(
                gzip.decompress(data), default_options={"y_coord_down": True}
            )
            for place, data in all_tiles(source)
        }
        return reader.header(), reader.metadata(), tiles


def shapes_on_earth(place, layer):
    """The features of a tile's layer, in longitude and latitude."""
    zoom, x, y = place
    size = layer["extent"]
    shapes = np.array([shapely.geometry.shape(one["geometry"]) for one in layer["features"]])
    return shapely.transform(shapes, lambda xy: to_lonlat((xy / size + [x, y]) / 2**zoom))


@pytest.fixture(scope="module", params=sorted(CENTRES))
def drawn(request, tmp_path_factory):
    batches = [
        rows.select(list(WEB_COLUMNS))
        for rows in drawn_batches(1500, centre=CENTRES[request.param])
    ]
    path = tmp_path_factory.mktemp("map") / "a.pmtiles"
    summary = write_web_map(path, batches, name="drawn")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.pmtiles"]
    return path, batches, summary, *read(path)


@pytest.mark.parametrize("zoom", [14, 15])
def test_every_footprint_is_in_every_tile_that_it_touches(drawn, zoom):
    _, batches, summary, _, _, tiles = drawn
    assert summary.max_zoom == 15
    ids = column(batches, "id")
    whole = dict(zip(ids, outlines(batches), strict=True))
    # A step of a tile, at the equator.
    step = 360 / 2**zoom / (8192 if zoom == 15 else 4096)
    seen = set()
    for place, layers in tiles.items():
        if place[0] != zoom:
            continue
        layer = layers["footprints"]
        for feature, shape in zip(layer["features"], shapes_on_earth(place, layer), strict=True):
            name = feature["properties"]["id"]
            outline = whole[name]
            turn = 360 * np.round((shape.centroid.x - outline.centroid.x) / 360)
            moved = shapely.transform(shape, lambda xy, turn=turn: xy - [turn, 0])
            assert moved.hausdorff_distance(outline) < step
            seen.add((name, place))
    expected = set()
    for name, outline in whole.items():
        x, y = web_map.to_web_units(*np.array(outline.exterior.coords).T)
        for column_ in {int(np.floor(v * 2**zoom)) % 2**zoom for v in (x.min(), x.max())}:
            for row in {int(np.floor(v * 2**zoom)) for v in (y.min(), y.max())}:
                expected.add((name, (zoom, column_, row)))
    assert seen >= expected
    # What lies just beside a tile is in it, too, and little else.
    assert len(seen - expected) < 0.1 * len(expected)


def test_properties_are_those_of_the_footprints(drawn):
    _, batches, _, _, _, tiles = drawn
    rows = {
        name: dict(zip(column(batches, "id"), column(batches, name), strict=True))
        for name in ("confidence", "area_in_meters", "full_plus_code", "image_date")
    }
    features = [
        feature["properties"]
        for place, layers in tiles.items()
        if place[0] >= 14
        for feature in layers["footprints"]["features"]
    ]
    for found in features:
        name = found["id"]
        assert found["confidence"] == round(rows["confidence"][name], 4)
        assert found["area_in_meters"] == pytest.approx(rows["area_in_meters"][name], abs=0.0501)
        assert found["full_plus_code"] == rows["full_plus_code"][name]
        day = rows["image_date"][name]
        assert found.get("image_date") == (day and day.isoformat())
    assert any("image_date" not in found for found in features)


@pytest.mark.parametrize("zoom", range(14))
def test_density_counts_every_footprint_once(drawn, zoom):
    _, batches, _, _, _, tiles = drawn
    features = [
        (feature["properties"], shape)
        for place, layers in tiles.items()
        if place[0] == zoom
        for feature, shape in zip(
            layers["density"]["features"], shapes_on_earth(place, layers["density"]), strict=True
        )
    ]
    assert sum(found["count"] for found, _ in features) == 1500
    mean = sum(found["count"] * found["mean_confidence"] for found, _ in features) / 1500
    assert mean == pytest.approx(np.mean(column(batches, "confidence")), abs=6e-4)
    cells = np.array([shape for _, shape in features])
    centroids = shapely.points(column(batches, "longitude"), column(batches, "latitude"))
    tree = shapely.STRtree(cells)
    _, hits = tree.query(centroids, predicate="dwithin", distance=1e-9)
    counts = np.bincount(hits, minlength=len(cells))
    # A centroid on an edge is counted by both cells here.
    assert (counts >= [found["count"] for found, _ in features]).all()
    assert counts.sum() <= 1510


def test_header_and_metadata(drawn):
    _, batches, summary, header, metadata, tiles = drawn
    assert (header["min_zoom"], header["max_zoom"]) == (0, 15)
    assert header["clustered"]
    assert header["addressed_tiles_count"] == summary.num_tiles == len(tiles)
    assert header["min_lat_e7"] == round(min(column(batches, "latitude")) * 1e7)
    layers = {layer["id"]: layer for layer in metadata["vector_layers"]}
    assert (layers["density"]["minzoom"], layers["density"]["maxzoom"]) == (0, 13)
    assert (layers["footprints"]["minzoom"], layers["footprints"]["maxzoom"]) == (14, 15)
    assert "full_plus_code" in layers["footprints"]["fields"]
    assert summary.num_footprints == 1500
    assert summary.notes == ()


def test_gdal_reads_it(drawn):
    path, batches, *_ = drawn
    frame = pyogrio.read_dataframe(path, layer="footprints")
    assert set(frame["id"]) == set(column(batches, "id"))
    low = pyogrio.read_dataframe(path, layer="density", ZOOM_LEVEL="5")
    assert low["count"].sum() == 1500


def test_tiles_are_in_the_order_of_their_ids(drawn):
    *_, tiles = drawn
    ids = [zxy_to_tileid(*place) for place in tiles]
    assert ids == sorted(ids)


def test_the_same_rows_give_the_same_bytes(tmp_path, monkeypatch):
    batches = drawn_batches(800)
    write_web_map(tmp_path / "a.pmtiles", batches, name="drawn")
    # However often rows are put on the disk in between.
    monkeypatch.setattr(web_map, "_ROWS_IN_MEMORY", 100)
    write_web_map(tmp_path / "b.pmtiles", batches, name="drawn")
    assert (tmp_path / "a.pmtiles").read_bytes() == (tmp_path / "b.pmtiles").read_bytes()


def test_tiles_that_would_be_too_large(tmp_path, monkeypatch):
    batches = drawn_batches(1500)
    monkeypatch.setattr(web_map, "_MAX_FOOTPRINTS_PER_TILE", 100)
    monkeypatch.setattr(web_map, "MAX_TILE_BYTES", 5000)
    summary = write_web_map(tmp_path / "a.pmtiles", batches, name="drawn")
    assert summary.max_zoom == 16
    assert "too full for Plus Codes" in summary.notes[0]
    assert "only the largest" in summary.notes[1]
    *_, tiles = read(tmp_path / "a.pmtiles")
    finest = set()
    for place, layers in tiles.items():
        features = layers.get("footprints", {"features": []})["features"]
        if place[0] == 16:
            finest |= {feature["properties"]["id"] for feature in features}
        elif len(features) > 200:
            assert set(features[0]["properties"]) == {"confidence", "area_in_meters"}
    assert finest == set(column(batches, "id"))
    with (tmp_path / "a.pmtiles").open("rb") as file:
        sizes = {place: len(data) for place, data in all_tiles(MmapSource(file))}
    assert max(size for (zoom, _, _), size in sizes.items() if zoom in (14, 15)) <= 5000
    assert MAX_TILE_BYTES == 500_000


def test_outlines_larger_than_a_tile_are_cut_and_whole_together(tmp_path):
    rows = drawn_batches(3)[0]
    # A hall of 9 km: some 8 tiles of zoom 15 wide.
    hall = shapely.box(32.5, 0.3, 32.58, 0.32)
    place = rows.schema.get_field_index("geometry")
    wkb = pa.array([shapely.to_wkb(hall), *rows["geometry"].to_pylist()[1:]], pa.binary())
    box = [dict(zip(("xmin", "ymin", "xmax", "ymax"), hall.bounds, strict=True))]
    boxes = pa.array(box + rows["bbox"].to_pylist()[1:], rows["bbox"].type)
    rows = rows.set_column(place, "geometry", wkb)
    rows = rows.set_column(rows.schema.get_field_index("bbox"), "bbox", boxes)
    rows = rows.set_column(0, "latitude", pa.array([0.31, *rows["latitude"].to_pylist()[1:]]))
    rows = rows.set_column(1, "longitude", pa.array([32.54, *rows["longitude"].to_pylist()[1:]]))
    write_web_map(tmp_path / "a.pmtiles", [rows], name="drawn")
    *_, tiles = read(tmp_path / "a.pmtiles")
    name, parts = rows["id"][0].as_py(), []
    for tile, layers in tiles.items():
        if tile[0] != 15:
            continue
        layer = layers["footprints"]
        for feature, shape in zip(layer["features"], shapes_on_earth(tile, layer), strict=True):
            if feature["properties"]["id"] == name:
                points = np.array(feature["geometry"]["coordinates"][0])
                assert np.abs(points).max() <= 2 * 8192
                parts.append(shape)
    assert len(parts) > 8
    union = shapely.union_all(parts, grid_size=1e-9)
    # A step along the edge at most.
    step = 360 / 2**15 / 8192
    assert union.symmetric_difference(hall).area < step * hall.length


def test_footprints_beyond_web_maps_are_named(tmp_path):
    near, far = drawn_batches(50)[0], drawn_batches(20, centre=(10.0, 83.5))[0]
    place = far.schema.get_field_index("bbox")
    boxes = [box | {"ymin": 86.0, "ymax": 86.1} for box in far["bbox"].to_pylist()]
    far = far.set_column(place, "bbox", pa.array(boxes, far["bbox"].type))
    summary = write_web_map(tmp_path / "a.pmtiles", [near, far], name="drawn")
    assert summary.num_footprints == 50
    assert "20 footprints lie beyond 85.05 degrees" in summary.notes[0]
    with pytest.raises(DatasetError, match="no footprint lies within"):
        write_web_map(tmp_path / "b.pmtiles", [far], name="drawn")
