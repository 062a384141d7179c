"""Running whole jobs in tests: in this process where that will do, else as the real command."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import geopandas
import yaml
from synthetic import ROOF_RGB

from model.colour_bundle import save_colour_bundle
from pipeline.config import RunConfig, parse_config
from pipeline.output_folder import prepare_output
from pipeline.spec import JobSpec, resolve_config

EVERYROOF = Path(sys.executable).parent / "everyroof"


def make_bundle(path: Path, **options: Any) -> Path:
    """A real bundle that takes pixels of the drawn roofs' colour for buildings."""
    return save_colour_bundle(path, **{"roof_colours": (ROOF_RGB,), **options})


def make_config(tmp_path: Path, images: list[Any], **options: Any) -> RunConfig:
    """A config for drawn images: small tiles, the colour bundle, output in tmp_path / "out".

    Images are paths, or records as in a config.
    """
    model = tmp_path / "colour.safetensors"
    if not model.exists():
        make_bundle(model)
    data: dict[str, Any] = {
        "images": [image if isinstance(image, dict | str) else str(image) for image in images],
        "model": str(model),
        "output": str(tmp_path / "out"),
        "grid": {"tile_px": 512, "max_building_m": 1000.0},
    }
    return parse_config({**data, **options}, source="test")


def run_here(config: RunConfig, *, fresh: bool = False) -> JobSpec:
    """Run a job in this process, without a supervisor."""
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipeline.run import run_graph

    spec = resolve_config(config, run_token=uuid.uuid4().hex[:12])
    prepare_output(spec, fresh=fresh)
    run_graph(spec, PipelineOptions([]))
    return spec


def write_config(config: RunConfig, path: Path) -> Path:
    """The config as a YAML file."""
    path.write_text(yaml.safe_dump(json.loads(config.to_json())))
    return path


def run_command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The installed command, as a user calls it."""
    return subprocess.run(
        [str(EVERYROOF), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def footprints(out: Path) -> geopandas.GeoDataFrame:
    """All footprints of a result, by id."""
    import pandas as pd

    frames = [geopandas.read_parquet(path) for path in sorted((out / "footprints").glob("*"))]
    return pd.concat(frames).set_index("id").sort_index()


def shard_hashes(out: Path) -> dict[str, str]:
    """Hash of every shard's bytes by name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((out / "footprints").glob("*"))
    }


def manifest(out: Path) -> dict[str, Any]:
    """A result's manifest."""
    return json.loads((out / "manifest.json").read_text())


def ledger(out: Path) -> list[dict[str, Any]]:
    """A result's ledger without the geometry."""
    import pyarrow.parquet as pq

    columns = ["tile", "status", "reason", "num_instances", "num_windows_left_out", "image"]
    return pq.read_table(out / "tiles.parquet", columns=columns).to_pylist()


def journal_events(spec: JobSpec) -> list[dict[str, Any]]:
    """The journal of a run."""
    from pipeline.journal import JournalReader
    from pipeline.tile_store import TileStore

    return list(JournalReader(TileStore(spec.store_path).journal_path(spec.run_token)).new_events())


def with_options(config: RunConfig, **options: Any) -> RunConfig:
    """The config with some fields replaced."""
    return dataclasses.replace(config, **options)
