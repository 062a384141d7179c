"""GeoParquet files: bytes, metadata, row groups, and every reader that matters."""

import hashlib
import json
from pathlib import Path

import duckdb
import geopandas
import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pyproj
import pytest
import referencing
import sedonadb
import shapely
from click.testing import CliRunner
from drawn_footprints import draw_footprints
from geoparquet_io.cli.main import cli as gpio

from geo.errors import DatasetError
from geo.footprints import FOOTPRINT_SCHEMA, PUBLIC_SCHEMA
from geo.geoparquet import ShardInfo, WriteConfig, geo_metadata, write_shard

SCHEMA_FILE = Path(__file__).parents[1] / "data" / "geoparquet-1.1.0.schema.json"
PROJJSON_URI = "https://proj.org/schemas/v0.7/projjson.schema.json"
BOX_FIELDS = ("xmin", "ymin", "xmax", "ymax")


def in_order(table: pa.Table) -> pa.Table:
    """The rows as a shard must hold them, sorted by plain Python."""
    keys = list(zip(table["s2_cell"].to_pylist(), table["id"].to_pylist(), strict=True))
    return table.take(sorted(range(len(table)), key=keys.__getitem__)).select(PUBLIC_SCHEMA.names)


def write(path: Path, table: pa.Table, **kwargs: object) -> ShardInfo:
    return write_shard(path, [table], schema=FOOTPRINT_SCHEMA, **kwargs)


def geo_of(path: Path) -> dict:
    return json.loads(pq.read_metadata(path).metadata[b"geo"])


def validator() -> jsonschema.Draft7Validator:
    """The schema, with PROJ's own copy of the PROJJSON schema it refers to."""
    projjson = json.loads(
        (Path(pyproj.datadir.get_data_dir()) / "projjson.schema.json").read_text()
    )
    resource = referencing.Resource.from_contents(projjson)
    registry = referencing.Registry().with_resource(PROJJSON_URI, resource)
    return jsonschema.Draft7Validator(json.loads(SCHEMA_FILE.read_text()), registry=registry)


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """A district: enough rows for several row groups."""
    return draw_footprints(66_000, seed=1)


@pytest.fixture(scope="module")
def shard(rows, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shard") / "s2=177d.parquet"
    write(path, rows, metadata={"everyroof:model": "m1"})
    return path


class TestContent:
    def test_rows_lie_along_the_hilbert_curve_with_the_public_columns(self, rows, shard):
        assert pq.read_table(shard).cast(PUBLIC_SCHEMA).equals(in_order(rows))
        assert pq.read_schema(shard).names == PUBLIC_SCHEMA.names

    def test_ties_are_settled_by_id(self, tmp_path):
        table = draw_footprints(40)
        table = table.set_column(
            table.column_names.index("s2_cell"),
            FOOTPRINT_SCHEMA.field("s2_cell"),
            pa.array([5] * 40, pa.uint64()),
        )
        write(tmp_path / "a.parquet", table)
        ids = pq.read_table(tmp_path / "a.parquet")["id"].to_pylist()
        assert ids == sorted(ids)

    def test_the_same_rows_give_the_same_bytes(self, rows, shard, tmp_path):
        random = np.random.default_rng(0)
        shuffled = rows.take(random.permutation(len(rows)))
        columns = [shuffled.column_names[k] for k in random.permutation(shuffled.num_columns)]
        batches = [*shuffled.select(columns).slice(0, 30_000).to_batches(max_chunksize=777)]
        batches.append(shuffled.select(columns).slice(30_000))
        again = tmp_path / "again.parquet"
        write_shard(
            again, iter(batches), schema=FOOTPRINT_SCHEMA, metadata={"everyroof:model": "m1"}
        )
        assert again.read_bytes() == shard.read_bytes()

    def test_the_info_describes_the_file(self, rows, tmp_path):
        path = tmp_path / "a.parquet"
        info = write(path, rows)
        bounds = shapely.total_bounds(shapely.from_wkb(rows["geometry"].to_numpy()))
        assert info.num_rows == len(rows)
        assert info.num_row_groups == pq.read_metadata(path).num_row_groups == 6
        assert info.num_bytes == path.stat().st_size
        assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert np.allclose(info.bounds, bounds, rtol=0, atol=1e-5)
        assert (np.array(info.bounds[:2]) <= bounds[:2]).all()
        assert (np.array(info.bounds[2:]) >= bounds[2:]).all()
        assert geo_of(path)["columns"]["geometry"]["bbox"] == list(info.bounds)

    def test_a_building_takes_under_70_bytes(self, rows, shard):
        assert shard.stat().st_size / len(rows) < 62

    def test_extra_metadata_is_kept(self, shard):
        assert pq.read_metadata(shard).metadata[b"everyroof:model"] == b"m1"

    def test_no_rows_make_a_readable_file(self, tmp_path):
        path = tmp_path / "none.parquet"
        info = write_shard(path, [], schema=FOOTPRINT_SCHEMA)
        assert (info.num_rows, info.num_row_groups, info.bounds) == (0, 0, None)
        assert pq.read_table(path).cast(PUBLIC_SCHEMA).equals(PUBLIC_SCHEMA.empty_table())
        assert "bbox" not in geo_of(path)["columns"]["geometry"]
        validator().validate(geo_of(path))
        assert len(geopandas.read_parquet(path)) == 0

    def test_other_tables_are_written_too(self, tmp_path):
        """The ledger: tiles as polygons, without S2 cells, in the order given."""
        schema = pa.schema(
            [
                pa.field("tile", pa.string(), nullable=False),
                pa.field("status", pa.string(), nullable=False),
                pa.field("num_footprints", pa.int64()),
                pa.field("geometry", pa.binary(), nullable=False),
            ]
        )
        boxes = shapely.to_wkb(shapely.box([3, 1, 2], 0, [4, 2, 3], 1))
        table = pa.table(
            [["c", "a", "b"], ["ok", "failed", "ok"], [3, None, 7], list(boxes)], schema=schema
        )
        path = tmp_path / "tiles.parquet"
        info = write_shard(path, [table], schema=schema)
        assert pq.read_table(path).cast(schema).equals(table)
        assert info.bounds is None
        assert "covering" not in geo_of(path)["columns"]["geometry"]
        frame = geopandas.read_parquet(path)
        assert frame.crs.to_authority() == ("OGC", "CRS84")
        assert frame.geometry.geom_equals(geopandas.GeoSeries.from_wkb(boxes, crs=frame.crs)).all()


class TestMetadata:
    def test_it_says_what_the_specification_asks(self, shard):
        metadata = geo_of(shard)
        column = metadata["columns"]["geometry"]
        assert (metadata["version"], metadata["primary_column"]) == ("1.1.0", "geometry")
        assert column["covering"] == {"bbox": {field: ["bbox", field] for field in BOX_FIELDS}}
        assert {key: column[key] for key in column if key not in ("bbox", "covering")} == {
            "encoding": "WKB",
            "geometry_types": ["Polygon"],
            "edges": "planar",
            "orientation": "counterclockwise",
        }

    def test_it_is_valid_by_the_json_schema(self, shard):
        validator().validate(geo_of(shard))

    @pytest.mark.parametrize(
        "change",
        [
            {"encoding": "wkb"},
            {"geometry_types": ["polygon"]},
            {"crs": "EPSG:4326"},
            {"edges": "flat"},
            {"orientation": "clockwise"},
            {"bbox": [0, 0, 1]},
            {"covering": {}},
            {"covering": {"bbox": {f: ["bbox", "x"] for f in BOX_FIELDS}}},
            {"covering": {"bbox": {f: ["bbox", f] for f in BOX_FIELDS[:3]}}},
        ],
    )
    def test_the_json_schema_refuses_what_is_wrong(self, change):
        metadata = geo_metadata((0.0, 0.0, 1.0, 1.0), PUBLIC_SCHEMA)
        validator().validate(metadata)
        metadata["columns"]["geometry"].update(change)
        with pytest.raises(jsonschema.ValidationError):
            validator().validate(metadata)

    def test_geometries_are_what_it_says(self, shard):
        polygons = shapely.from_wkb(pq.read_table(shard)["geometry"].to_numpy())
        assert (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all()
        assert shapely.is_ccw(shapely.get_exterior_ring(polygons)).all()
        assert shapely.is_valid(polygons).all()

    def test_geometry_is_plain_bytes_to_parquet(self, shard):
        """GeoParquet 1.1 has no native geometry type, and Arrow's own schema is left out."""
        file = pq.ParquetFile(shard)
        column = file.schema.column(file.schema.names.index("geometry"))
        assert column.physical_type == "BYTE_ARRAY"
        assert column.logical_type.type == "NONE"
        assert set(file.metadata.metadata) == {b"geo", b"everyroof:model"}


class TestRowGroups:
    def test_statistics_are_those_of_the_rows(self, shard):
        file = pq.ParquetFile(shard)
        index = {file.metadata.schema.column(i).path: i for i in range(14)}
        for group in range(file.num_row_groups):
            boxes = file.read_row_group(group, columns=["bbox"])["bbox"].combine_chunks()
            for field in BOX_FIELDS:
                statistics = (
                    file.metadata.row_group(group).column(index[f"bbox.{field}"]).statistics
                )
                values = boxes.field(field).to_numpy(zero_copy_only=False)
                assert (statistics.min, statistics.max) == (values.min(), values.max())
            # Of WKB they would be long and mean nothing.
            assert file.metadata.row_group(group).column(index["geometry"]).statistics is None

    def test_their_boxes_hardly_overlap(self, shard):
        file = pq.ParquetFile(shard)
        index = {file.metadata.schema.column(i).path: i for i in range(14)}

        def limit(group: int, field: str) -> float:
            statistics = file.metadata.row_group(group).column(index[f"bbox.{field}"]).statistics
            return statistics.min if field.endswith("min") else statistics.max

        boxes = shapely.box(
            *([limit(g, field) for g in range(file.num_row_groups)] for field in BOX_FIELDS)
        )
        assert shapely.area(boxes).sum() < 1.4 * shapely.area(shapely.union_all(boxes))

    @pytest.mark.parametrize(
        ("num_rows", "config", "num_groups"),
        [
            (10, WriteConfig(), 1),
            (59, WriteConfig(row_group_rows=10), 1),
            (60, WriteConfig(row_group_rows=10), 6),
            (199, WriteConfig(row_group_rows=10), 19),
            (12, WriteConfig(row_group_rows=1), 12),
        ],
    )
    def test_their_number(self, tmp_path, num_rows, config, num_groups):
        path = tmp_path / "a.parquet"
        table = draw_footprints(num_rows)
        assert write(path, table, config=config).num_row_groups == num_groups
        assert pq.read_table(path).cast(PUBLIC_SCHEMA).equals(in_order(table))

    @pytest.mark.parametrize(
        "centre", [(32.58, 0.31), (25.0, 69.0), (179.9999, -17.0)], ids=["equator", "north", "180"]
    )
    @pytest.mark.parametrize("num_rows", [10, 3_000, 75_000])
    def test_gpio_finds_nothing_to_say(self, tmp_path, num_rows, centre):
        path = tmp_path / "s2=1.parquet"
        write(path, draw_footprints(num_rows, seed=2, centre=centre))
        for check in (
            ["compression"],
            ["row-group"],
            ["spatial"],
            ["bbox", "--sample-rows", "0"],
            ["spec", "--skip-data-validation"],
        ):
            result = CliRunner().invoke(gpio, ["check", *check, "--strict", str(path)])
            assert result.exit_code == 0, (check, result.output)
            assert "⚠" not in result.output, (check, result.output)
            assert "✗" not in result.output, (check, result.output)

    def test_gpio_does_find_what_is_wrong(self, rows, shard, tmp_path):
        """The checks above can fail: the same rows in random order do."""
        path = tmp_path / "unsorted.parquet"
        with pq.ParquetWriter(path, PUBLIC_SCHEMA, compression="zstd") as writer:
            writer.write_table(rows.select(PUBLIC_SCHEMA.names), row_group_size=11_000)
            writer.add_key_value_metadata({"geo": json.dumps(geo_of(shard))})
        result = CliRunner().invoke(gpio, ["check", "spatial", "--strict", str(path)])
        assert result.exit_code == 1
        assert "Poor spatial ordering" in result.output


class TestReaders:
    def test_geopandas(self, rows, shard):
        frame = geopandas.read_parquet(shard)
        assert frame.crs.to_authority() == ("OGC", "CRS84")
        expected = in_order(rows)
        assert frame["id"].tolist() == expected["id"].to_pylist()
        assert frame["confidence"].tolist() == expected["confidence"].to_pylist()
        assert frame["full_plus_code"].tolist() == expected["full_plus_code"].to_pylist()
        assert (shapely.to_wkb(frame.geometry.values) == expected["geometry"].to_numpy()).all()

    def test_geopandas_by_bbox(self, rows, shard):
        bbox = (32.58, 0.31, 32.585, 0.316)
        frame = geopandas.read_parquet(shard, bbox=bbox)
        polygons = shapely.from_wkb(rows["geometry"].to_numpy())
        hits = set(rows.filter(shapely.intersects(shapely.box(*bbox), polygons))["id"].to_pylist())
        assert hits <= set(frame["id"])
        assert len(hits) > 500
        assert len(frame) < len(hits) + 50

    def test_duckdb(self, rows, shard):
        with duckdb.connect() as db:
            relation = db.sql(f"SELECT * FROM read_parquet('{shard}')")
            kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
            found = relation.to_arrow_table()
            [counted] = db.sql(
                f"SELECT count(*) FROM '{shard}' WHERE bbox.xmin > 32.578125 AND bbox.ymax < 0.3125"
            ).fetchone()
            db.sql("SET enable_geoparquet_conversion = false")
            wkb = db.sql(f"SELECT geometry FROM '{shard}'").to_arrow_table()["geometry"]
        assert kinds["geometry"] == "GEOMETRY('OGC:CRS84')"
        assert kinds["image_date"] == "DATE"
        expected = in_order(rows)
        for name in PUBLIC_SCHEMA.names:
            if name not in ("geometry", "bbox"):
                assert found[name].to_pylist() == expected[name].to_pylist(), name
        assert wkb.to_pylist() == expected["geometry"].to_pylist()
        boxes = expected["bbox"].combine_chunks()
        west = boxes.field("xmin").to_numpy().astype(float)
        north = boxes.field("ymax").to_numpy().astype(float)
        assert counted == np.count_nonzero((west > 32.578125) & (north < 0.3125)) > 0

    def test_pyarrow_datasets(self, rows, shard):
        dataset = pa.dataset.dataset(shard, format="parquet")
        found = dataset.to_table(filter=pa.dataset.field("bbox", "xmin") > 32.59375)
        boxes = in_order(rows)["bbox"].combine_chunks()
        is_wanted = boxes.field("xmin").to_numpy() > 32.59375
        assert found.cast(PUBLIC_SCHEMA).equals(in_order(rows).filter(is_wanted))

    def test_sedonadb(self, rows, shard):
        sedona = sedonadb.connect()
        frame = sedona.read_parquet(str(shard))
        assert "ogc:crs84" in repr(frame.schema).lower()
        frame.to_view("buildings")
        box = shapely.box(32.58, 0.31, 32.585, 0.316)
        found = sedona.sql(
            "SELECT id, confidence, full_plus_code, ST_AsBinary(geometry) AS wkb FROM buildings "
            f"WHERE ST_Intersects(geometry, ST_GeomFromText('{box.wkt}', 'OGC:CRS84'))"
        ).to_arrow_table()
        polygons = shapely.from_wkb(rows["geometry"].to_numpy())
        expected = rows.filter(shapely.intersects(box, polygons))
        assert len(found) == len(expected) > 500
        expected = expected.rename_columns({"geometry": "wkb"}).select(found.column_names)
        assert sorted(zip(*found.to_pydict().values(), strict=True)) == sorted(
            zip(*expected.to_pydict().values(), strict=True)
        )


class TestRefusals:
    def test_a_missing_column(self, tmp_path):
        with pytest.raises(DatasetError, match=r"a\.parquet: rows do not fit.*confidence"):
            write(tmp_path / "a.parquet", draw_footprints(5).drop_columns("confidence"))
        assert list(tmp_path.iterdir()) == []

    def test_nulls_where_none_may_be(self, tmp_path):
        table = draw_footprints(5)
        index = table.column_names.index("model_id")
        table = table.set_column(index, "model_id", pa.array([None] * 5, pa.string()))
        with pytest.raises(DatasetError, match="null"):
            write(tmp_path / "a.parquet", table)
        assert list(tmp_path.iterdir()) == []

    def test_another_type(self, tmp_path):
        table = draw_footprints(5)
        table = table.set_column(0, "latitude", pa.array([b"x"] * 5, pa.binary()))
        with pytest.raises(DatasetError, match="rows do not fit the schema"):
            write(tmp_path / "a.parquet", table)

    def test_batches_that_differ(self, tmp_path):
        table = draw_footprints(5)
        with pytest.raises(DatasetError, match="rows do not fit the schema"):
            write_shard(
                tmp_path / "a.parquet",
                [table, table.drop_columns("id")],
                schema=FOOTPRINT_SCHEMA,
            )

    def test_a_building_delivered_twice(self, tmp_path):
        table = draw_footprints(50)
        twice = pa.concat_tables([table, table.slice(7, 2)])
        with pytest.raises(DatasetError, match=r"2 rows have the id and place.*z36_g300mm_r-"):
            write(tmp_path / "a.parquet", twice)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "none" / "a.parquet", draw_footprints(5))

    @pytest.mark.parametrize(
        ("field", "value"),
        [("row_group_rows", 0), ("compression_level", 0), ("compression_level", 20)],
    )
    def test_configs_out_of_range(self, field, value):
        with pytest.raises(ValueError, match=f"{field} = {value}: expected"):
            WriteConfig(**{field: value})
