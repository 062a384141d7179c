"""Reading: what a bbox selects, what it touches on the disk, and damaged files."""

import io
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from drawn_footprints import draw_footprints
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.errors import DatasetError
from geo.footprints import FOOTPRINT_SCHEMA, PUBLIC_SCHEMA
from geo.geoparquet import WriteConfig, geo_metadata, write_shard
from geo.geoparquet_reader import read_info, read_shards, row_groups_in

SMALL_GROUPS = WriteConfig(row_group_rows=100)


class CountingFile(io.FileIO):
    """A file that notes which bytes are read."""

    def __init__(self, path: Path):
        super().__init__(path, "rb")
        self.num_read = 0

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        self.num_read += len(data)
        return data

    def readinto(self, buffer) -> int:
        num = super().readinto(buffer)
        self.num_read += num
        return num


def write(path: Path, table: pa.Table, **kwargs: object) -> Path:
    write_shard(path, [table], schema=FOOTPRINT_SCHEMA, **kwargs)
    return path


def overlapping(table: pa.Table, bbox: tuple[float, ...]) -> list[str]:
    """Ids of the rows whose box meets the query, one by one."""
    west, south, east, north = bbox
    return [
        row["id"]
        for row in table.select(["id", "bbox"]).to_pylist()
        if row["bbox"]["xmin"] <= east
        and row["bbox"]["xmax"] >= west
        and row["bbox"]["ymin"] <= north
        and row["bbox"]["ymax"] >= south
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two shards of a town in many small row groups."""
    folder = tmp_path_factory.mktemp("footprints")
    table = draw_footprints(3_000, seed=3)
    is_west = pa.array(table["longitude"].to_numpy() < 32.58)
    write(folder / "s2=1.parquet", table.filter(is_west), config=SMALL_GROUPS)
    write(
        folder / "s2=2.parquet",
        table.filter(pa.compute.invert(is_west)),
        config=SMALL_GROUPS,
        metadata={"everyroof:model": "m1"},
    )
    (folder / ".s2=3.parquet").write_bytes(b"hidden")
    (folder / "notes.txt").write_bytes(b"other")
    return folder


@pytest.fixture(scope="module")
def whole(folder) -> pa.Table:
    parts = [pq.read_table(folder / f"s2={n}.parquet") for n in (1, 2)]
    return pa.concat_tables(parts).replace_schema_metadata(None)


class TestRows:
    def test_a_folder_is_read_in_the_order_of_names(self, folder, whole):
        assert read_shards(folder).equals(whole)
        assert read_shards(str(folder), columns=["id", "latitude"]).equals(
            whole.select(["id", "latitude"])
        )

    def test_files_one_by_one(self, folder, whole):
        assert read_shards([folder / "s2=2.parquet", folder / "s2=1.parquet"])[
            "id"
        ].to_pylist() == (
            read_shards(folder / "s2=2.parquet")["id"].to_pylist()
            + read_shards(folder / "s2=1.parquet")["id"].to_pylist()
        )
        with (folder / "s2=1.parquet").open("rb") as file:
            assert read_shards(file).equals(read_shards(folder / "s2=1.parquet"))

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_a_bbox_selects_what_it_meets(self, folder, whole, data):
        west = data.draw(st.floats(32.57, 32.59))
        south = data.draw(st.floats(0.30, 0.32))
        size = st.one_of(st.just(0.0), st.floats(0, 0.02))
        bbox = (west, south, west + data.draw(size), south + data.draw(size))
        found = read_shards(folder, bbox=bbox, columns=["id"])
        assert found.column_names == ["id"]
        assert found["id"].to_pylist() == overlapping(whole, bbox)

    def test_limits_are_compared_exactly(self, folder, whole):
        """A limit between two float32 numbers is not rounded to one of them."""
        edge = max(row["xmax"] for row in whole["bbox"].to_pylist())
        beyond = np.nextafter(edge, np.inf)
        assert np.float32(beyond) == np.float32(edge)
        assert len(read_shards(folder, bbox=(edge, -1.0, 33.0, 1.0))) == 1
        assert len(read_shards(folder, bbox=(float(beyond), -1.0, 33.0, 1.0))) == 0

    def test_nothing_in_the_box_keeps_the_columns(self, folder):
        empty = read_shards(folder, bbox=(0.0, 0.0, 1.0, 0.1))
        assert empty.equals(PUBLIC_SCHEMA.empty_table())

    def test_across_the_antimeridian(self, tmp_path):
        table = draw_footprints(800, centre=(-180.0, -17.0), seed=4)
        path = write(tmp_path / "a.parquet", table, config=SMALL_GROUPS)
        lon = table["longitude"].to_numpy()
        assert (lon > 179).any()
        assert (lon < -179).any()

        def ids(bbox: tuple[float, float, float, float]) -> set[str]:
            return set(read_shards(path, bbox=bbox, columns=["id"])["id"].to_pylist())

        everything = set(table["id"].to_pylist())
        assert ids((179.0, -18.0, -179.0, -16.0)) == everything
        assert ids((179.0, -18.0, 181.0, -16.0)) == everything
        assert ids((-181.0, -18.0, -179.0, -16.0)) == everything
        # Buildings across the line lie in both halves.
        east, west = ids((179.0, -18.0, 180.0, -16.0)), ids((-180.0, -18.0, -179.0, -16.0))
        assert east | west == everything
        boxes = table["bbox"].to_pylist()
        crossing = {
            name
            for name, box in zip(table["id"].to_pylist(), boxes, strict=True)
            if box["xmin"] < -180 < box["xmax"] or box["xmin"] < 180 < box["xmax"]
        }
        assert crossing
        assert crossing <= east & west
        assert ids((-170.0, -18.0, 170.0, -16.0)) == set()


class TestBytes:
    def test_a_bbox_read_touches_only_the_row_groups_it_needs(self, tmp_path):
        table = draw_footprints(60_000, seed=5)
        path = write(tmp_path / "a.parquet", table, config=WriteConfig(row_group_rows=2_000))
        bbox = (32.58, 0.31, 32.582, 0.312)
        with CountingFile(path) as file:
            found = read_shards(file, bbox=bbox)
            num_read = file.num_read
        assert found["id"].to_pylist() == overlapping(read_shards(path), bbox)
        assert len(found) > 100

        with pq.ParquetFile(path) as file:
            metadata, groups = file.metadata, row_groups_in(file, bbox)
        assert metadata.num_row_groups == 30
        assert len(groups) <= 4
        needed = sum(
            metadata.row_group(group).column(column).total_compressed_size
            for group in groups
            for column in range(metadata.num_columns)
        )
        # The footer is read with the last 64 kB.
        assert needed < num_read <= needed + metadata.serialized_size + 2 * 65_536
        assert num_read < path.stat().st_size / 4

    def test_columns_not_asked_for_are_not_read(self, tmp_path):
        path = write(tmp_path / "a.parquet", draw_footprints(20_000, seed=6))
        with CountingFile(path) as file:
            read_shards(file, columns=["confidence"])
            assert file.num_read < path.stat().st_size / 5

    def test_the_footer_alone_tells_the_info(self, folder):
        path = folder / "s2=2.parquet"
        with CountingFile(path) as file:
            info = read_info(file)
            assert file.num_read <= 2 * 65_536
        table = read_shards(path)
        assert info == read_info(path)
        assert info.num_rows == len(table)
        assert info.num_row_groups == pq.read_metadata(path).num_row_groups > 5
        assert info.schema.equals(PUBLIC_SCHEMA)
        assert info.metadata == {"everyroof:model": "m1"}
        polygons = shapely.from_wkb(table["geometry"].to_numpy())
        assert np.allclose(info.bounds, shapely.total_bounds(polygons), rtol=0, atol=1e-5)

    def test_groups_without_statistics_are_read(self, folder, tmp_path):
        path = tmp_path / "a.parquet"
        table = read_shards(folder)
        with pq.ParquetWriter(path, PUBLIC_SCHEMA, write_statistics=False) as writer:
            writer.write_table(table, row_group_size=500)
            writer.add_key_value_metadata(
                {"geo": '{"version": "1.1.0", "primary_column": "geometry", "columns": '
                 '{"geometry": {"encoding": "WKB", "geometry_types": ["Polygon"]}}}'}
            )  # fmt: skip
        bbox = (32.58, 0.31, 32.582, 0.312)
        assert read_shards(path, bbox=bbox)["id"].to_pylist() == overlapping(table, bbox)


class TestRefusals:
    def test_files_that_are_missing_or_empty(self, tmp_path):
        with pytest.raises(DatasetError, match=r"none\.parquet does not exist"):
            read_shards(tmp_path / "none.parquet")
        with pytest.raises(DatasetError, match="does not exist"):
            read_info(str(tmp_path / "none.parquet"))
        with pytest.raises(DatasetError, match=r"holds no \.parquet files"):
            read_shards(tmp_path)
        with pytest.raises(DatasetError, match="list is empty"):
            read_shards([])
        (tmp_path / "zero.parquet").touch()
        with pytest.raises(DatasetError, match=r"zero\.parquet cannot be read as Parquet"):
            read_info(tmp_path / "zero.parquet")
        (tmp_path / "text.parquet").write_text("id,geometry\n" * 100)
        with pytest.raises(DatasetError, match=r"text\.parquet cannot be read as Parquet"):
            read_shards(tmp_path / "text.parquet")

    @pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.9999])
    def test_a_truncated_file(self, folder, tmp_path, share):
        data = (folder / "s2=1.parquet").read_bytes()
        (tmp_path / "cut.parquet").write_bytes(data[: int(share * len(data))])
        for read in (read_info, read_shards):
            with pytest.raises(DatasetError, match=r"cut\.parquet cannot be read as Parquet"):
                read(tmp_path / "cut.parquet")

    def test_flipped_bits_are_noticed(self, folder, tmp_path):
        """Pages carry checksums: no wrong value is ever returned."""
        data = (folder / "s2=1.parquet").read_bytes()
        whole = read_shards(folder / "s2=1.parquet")
        metadata = pq.read_metadata(folder / "s2=1.parquet")
        end = len(data) - metadata.serialized_size - 8
        num_noticed = 0
        for position in np.random.default_rng(7).integers(4, end, 60).tolist():
            damaged = bytearray(data)
            damaged[position] ^= 0x10
            (tmp_path / "bad.parquet").write_bytes(damaged)
            try:
                found = read_shards(tmp_path / "bad.parquet")
            except DatasetError:
                num_noticed += 1
            else:
                # A bit of a page's header that nobody reads, such as its own statistics.
                assert found.equals(whole)
        assert num_noticed > 40

    def test_parquet_that_is_not_ours(self, folder, tmp_path):
        table = read_shards(folder).slice(0, 10)
        path = tmp_path / "a.parquet"
        pq.write_table(table, path)
        with pytest.raises(DatasetError, match="not GeoParquet"):
            read_shards(path)
        geometry = geopandas.GeoSeries.from_wkb(table["geometry"].to_numpy(), crs=32636)
        geopandas.GeoDataFrame(geometry=geometry).to_parquet(path)
        with pytest.raises(DatasetError, match="was not written by everyroof"):
            read_shards(path)
        for geo in ("[]", "not json", '{"version": "1.1.0"}', '{"columns": {"geometry": 5}}'):
            with pq.ParquetWriter(path, table.schema) as writer:
                writer.write_table(table)
                writer.add_key_value_metadata({"geo": geo})
            with pytest.raises(DatasetError, match="malformed"):
                read_info(path)

    def test_columns_that_do_not_exist(self, folder):
        with pytest.raises(
            DatasetError, match=r"s2=1\.parquet has no column 'heigth'; it has .*'id'"
        ):
            read_shards(folder, columns=["id", "heigth"])

    def test_files_of_different_columns(self, folder, tmp_path):
        schema = pa.schema([field for field in PUBLIC_SCHEMA if field.name != "id"])
        table = read_shards(folder).slice(0, 5).drop_columns("id")
        write_shard(tmp_path / "other.parquet", [table], schema=schema)
        with pytest.raises(DatasetError, match="different columns"):
            read_shards([folder / "s2=1.parquet", tmp_path / "other.parquet"])
        assert "covering" in geo_metadata(None, schema)["columns"]["geometry"]

    @pytest.mark.parametrize(
        "bbox",
        [(0.0, 1.0, 1.0, 0.0), (0.0, 0.0, float("nan"), 1.0), (0.0, 0.0, 400.0, 1.0)],
    )
    def test_boxes_that_mean_nothing(self, folder, bbox):
        with pytest.raises(ValueError, match=r"bbox = .*expected \(min_x, min_y"):
            read_shards(folder, bbox=bbox)
