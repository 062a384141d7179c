"""Bytes a building, speed of writing, and what a district query reads, on drawn footprints.

Run: python benchmarks/geoparquet.py [--rows 200000] [--repeats 5]
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("", "tests")]

from drawn_footprints import KAMPALA, draw_footprints  # noqa: E402 (after the path is set)

from geo.footprints import PUBLIC_SCHEMA  # noqa: E402
from geo.geoparquet import ShardInfo, WriteConfig, write_shard  # noqa: E402
from geo.geoparquet_reader import read_shards, row_groups_in  # noqa: E402

LEVELS = (3, 6, 9)
DISTRICT_KM = (0.2, 1.0, 3.0)
KM_PER_DEGREE = 111.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    table = draw_footprints(arguments.rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s2=1.parquet"
        compare_levels(path, table, arguments.repeats)
        write_shard(path, [table], schema=PUBLIC_SCHEMA)
        show_columns(path, table)
        show_district_queries(path)


def compare_levels(path: Path, table: pa.Table, repeats: int) -> None:
    """Bytes and speed of the writer, sorting and checksum included, beside pyarrow's defaults."""

    def default() -> int:
        pq.write_table(table.select(PUBLIC_SCHEMA.names), path, compression="zstd")
        return path.stat().st_size

    def ours(level: int) -> int:
        config = WriteConfig(compression_level=level)
        info: ShardInfo = write_shard(path, [table], schema=PUBLIC_SCHEMA, config=config)
        return info.num_bytes

    writers = {"pyarrow defaults, unsorted": default}
    writers |= {f"write_shard, zstd {level}": lambda level=level: ours(level) for level in LEVELS}
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    sizes = {}
    for _ in range(repeats):  # one run of each in turn: a busy machine slows all alike
        for name, writer in writers.items():
            start = time.perf_counter()
            sizes[name] = writer()
            seconds[name].append(time.perf_counter() - start)
    print(f"{len(table):,} rows, medians of {repeats} runs side by side")
    for name in writers:
        rate = len(table) / statistics.median(seconds[name])
        print(f"  {name:28s} {sizes[name] / len(table):6.2f} bytes/row {rate / 1e3:7.0f} k rows/s")


def show_columns(path: Path, table: pa.Table) -> None:
    """Compressed bytes a row of each column."""
    metadata = pq.read_metadata(path)
    print("bytes a row by column")
    for index in range(metadata.num_columns):
        chunks = [metadata.row_group(g).column(index) for g in range(metadata.num_row_groups)]
        num_bytes = sum(chunk.total_compressed_size for chunk in chunks) / len(table)
        encoding = next(name for name in chunks[0].encodings[::-1] if name != "RLE")
        print(f"  {chunks[0].path_in_schema:16s} {num_bytes:7.3f}  {encoding}")


def show_district_queries(path: Path) -> None:
    """Share of the file that a bbox read decodes."""
    with pq.ParquetFile(path) as file:
        metadata = file.metadata
        sizes = np.array(
            [
                sum(metadata.row_group(g).column(c).total_compressed_size for c in range(14))
                for g in range(metadata.num_row_groups)
            ]
        )
        print(
            f"district queries, {len(sizes)} row groups, footer {metadata.serialized_size:,} bytes"
        )
        for side_km in DISTRICT_KM:
            half = side_km / KM_PER_DEGREE / 2
            lon, lat = KAMPALA[0] + 0.003, KAMPALA[1] + 0.003
            bbox = (lon - half, lat - half, lon + half, lat + half)
            groups = row_groups_in(file, bbox)
            start = time.perf_counter()
            found = len(read_shards(path, bbox=bbox))
            milliseconds = (time.perf_counter() - start) * 1e3
            print(
                f"  {side_km:3.1f} km: {found:6,} rows, {len(groups)} groups, "
                f"{sizes[groups].sum():9,} of {sizes.sum():,} bytes "
                f"({sizes[groups].sum() / sizes.sum():.1%}), {milliseconds:.0f} ms"
            )


if __name__ == "__main__":
    main()
