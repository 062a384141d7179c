"""Small datasets on a disk, in the form that a run publishes, from any table of footprints."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from geo.footprints import PUBLIC_SCHEMA
from geo.geoparquet import WriteConfig, write_shard
from geo.shards import ShardPlan, count_cells, plan_shards


def write_dataset(
    out: Path, table: pa.Table, *, max_rows: int = 1000, row_group_rows: int = 100
) -> Path:
    """Write a table of FOOTPRINT_SCHEMA as a dataset of several files; returns its folder."""
    (out / "footprints").mkdir(parents=True)
    cells = table["s2_cell"].to_numpy()
    plan = ShardPlan(plan_shards(*count_cells(cells, 20), max_rows))
    owner = plan.assign(cells)
    shards = []
    for index, shard in enumerate(plan.shards):
        path = f"footprints/s2={shard.token}.parquet"
        rows = table.filter(pa.array(owner == index))
        config = WriteConfig(row_group_rows=row_group_rows)
        info = write_shard(out / path, [rows], schema=PUBLIC_SCHEMA, config=config)
        area_m2 = float(np.sum(rows["area_in_meters"].to_numpy()))
        facts = {
            name: getattr(info, name) for name in ("num_rows", "num_bytes", "bounds", "sha256")
        }
        shards.append({"path": path, "token": shard.token, "area_m2": area_m2, **facts})
    write_manifest(out, shards)
    return out


def write_manifest(out: Path, shards: list[dict[str, object]]) -> None:
    manifest = {
        "everyroof": "0.1.0",
        "model": {"model_id": "drawn"},
        "gsd_m": 0.3,
        "counts": {"footprints": sum(shard["num_rows"] for shard in shards)},
        "shards": shards,
    }
    (out / "manifest.json").write_text(json.dumps(manifest))
