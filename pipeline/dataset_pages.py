"""What people and catalogues read beside the shards: the STAC collection and report.html."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geo.atomic_files import atomic_path, write_atomically
from geo.footprints import PUBLIC_SCHEMA
from geo.image_names import shown_path
from geo.images import ImageInfo
from geo.places import arrow_source
from geo.remote_names import redact
from geo.score_thresholds import THRESHOLDS_NAME
from model.bundle import confidence_words, cut_words
from model.thresholds import (
    ConfidenceCounts,
    RegionThresholds,
    expected_thresholds,
    thresholds_csv,
)
from pipeline.footprint_stats import FootprintStats
from pipeline.ledger import LEDGER_NAME
from pipeline.map_grid import side_by_side
from pipeline.report import (
    MAX_IMAGE_ROWS,
    FailureRow,
    ImageRow,
    RunSummary,
    StageTime,
    ThresholdRow,
    write_report,
)
from pipeline.run_totals import RunTotals
from pipeline.spec import JobSpec
from pipeline.stac import StacShard, write_stac
from pipeline.write import WrittenShard

_STATS_COLUMNS = ["latitude", "longitude", "area_in_meters", "confidence", "image_id"]
_NOWHERE = (-180.0, -80.0, 180.0, 84.0)


def write_dataset_stac(spec: JobSpec, shards: Sequence[WrittenShard]) -> list[str]:
    """Write collection.json and an item per shard; returns their paths in the output folder."""
    days = pc.min_max(spec.images.column("date")).as_py()
    return write_stac(
        spec.out_path,
        collection_id=spec.out_path.resolve().name,
        title="Building footprints",
        description=f"Building footprints found by {spec.model_id} at {spec.gsd_m:g} m.",
        shards=[
            StacShard(
                token=shard.token,
                path=shard.path,
                bounds=shard.bounds,
                num_rows=shard.num_rows,
                num_bytes=shard.num_bytes,
                sha256=shard.sha256,
            )
            for shard in shards
        ],
        model_id=spec.model_id,
        gsd_m=spec.gsd_m,
        bounds=None if shards else _tile_extent(spec),
        dates=(days["min"], days["max"]) if days["min"] else None,
        columns=[(field.name, str(field.type)) for field in PUBLIC_SCHEMA],
    )


def write_run_report(
    spec: JobSpec,
    shards: Sequence[WrittenShard],
    totals: RunTotals,
    facts: dict[str, Any],
) -> None:
    """Write report.html, and thresholds.csv where the confidence is calibrated.

    Args:
        spec: the job.
        shards: the files.
        totals: of the run's journal.
        facts: what run.json says.
    """
    bounds, status, told = _tile_table(spec)
    confidences = ConfidenceCounts()
    stats, by_image = _collect_stats(spec, shards, bounds, confidences)
    regions = _write_thresholds(spec, confidences)
    summary = RunSummary(
        title=spec.out_path.resolve().name,
        stats=stats,
        tile_bounds=bounds,
        tile_status=status,
        failures=[FailureRow(name=n, reason=r) for n, s, r in told if s == "failed"],
        left_out=[FailureRow(name=n, reason=r) for n, s, r in told if s != "failed"],
        images=_image_rows(spec, by_image),
        thresholds=[_threshold_row(region) for region in regions],
        stages=_stage_times(facts),
        time_shares=facts["time_shares"],
        seconds=facts["wall_s"] or 0.0,
        startup_seconds=facts["startup_s"] or 0.0,
        num_pixels=facts["pixels_valid"],
        num_stored_tiles=facts["tiles_stored"],
        gsd_m=spec.gsd_m,
        num_workers=max(totals.num_models, 1),
        num_bytes=sum(shard.num_bytes for shard in shards),
        num_shards=len(shards),
        max_failed_share=spec.config.limits.max_failed_share,
        model=_model_facts(spec),
        machine=_machine_facts(totals.fingerprint),
        config_text=redact(json.dumps(json.loads(spec.config.to_json()), indent=1)),
    )
    with atomic_path(spec.out_path / "report.html") as temporary:
        write_report(temporary, summary)


def _tile_table(
    spec: JobSpec,
) -> tuple[npt.NDArray[np.float64], list[str], list[tuple[str, str, str]]]:
    """Bounds and status of every tile; (name, status, reason) of what the ledger has to tell."""
    columns = ["tile", "image", "status", "reason", "bbox"]
    # Not `read_table`: it imports Arrow's engine for datasets of many files first.
    table = pq.ParquetFile(arrow_source(spec.out_path / LEDGER_NAME)).read(columns=columns)
    reasoned = table.filter(pc.not_equal(table["reason"], "")).to_pylist()
    told = [(r["tile"] or r["image"], r["status"], r["reason"]) for r in reasoned]
    # Columns, not rows: a continent has millions of tiles.
    tiles = table.select(["status", "bbox"]).filter(pc.is_valid(table["tile"]))
    boxes = tiles["bbox"].combine_chunks()
    sides = [boxes.field(side).to_numpy() for side in ("xmin", "ymin", "xmax", "ymax")]
    statuses = pc.dictionary_encode(tiles["status"]).combine_chunks()
    words = statuses.dictionary.to_pylist()
    status = [words[index] for index in statuses.indices.to_pylist()]
    return np.stack(sides, axis=1).astype(np.float64), status, told


def _tile_extent(spec: JobSpec) -> tuple[float, float, float, float]:
    bounds = _tile_table(spec)[0]
    return _extent(bounds) if len(bounds) else _NOWHERE


def _extent(bounds: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    west, south = bounds[:, :2].min(axis=0).tolist()
    east, north = bounds[:, 2:].max(axis=0).tolist()
    return west, south, east, north


def _write_thresholds(spec: JobSpec, confidences: ConfidenceCounts) -> list[RegionThresholds]:
    """Thresholds per region, as far as calibrated confidences tell; none of others."""
    place = spec.out_path / THRESHOLDS_NAME
    if not spec.bundle.calibration:
        place.unlink(missing_ok=True)
        return []
    regions = expected_thresholds(confidences)
    write_atomically(place, thresholds_csv(regions))
    return regions


def _threshold_row(region: RegionThresholds) -> ThresholdRow:
    return ThresholdRow(
        token=region.token,
        thresholds={
            percent: None if found is None else found.min_confidence
            for percent, found in region.thresholds.items()
        },
        num_above=region.num_buildings_above,
        num_buildings=region.num_buildings,
        # Expected thresholds rest on no labels.
        num_samples=region.num_samples or None,
    )


def _collect_stats(
    spec: JobSpec,
    shards: Sequence[WrittenShard],
    bounds: npt.NDArray[np.float64],
    confidences: ConfidenceCounts,
) -> tuple[FootprintStats, dict[str, int]]:
    stats = FootprintStats(_extent(side_by_side(bounds)) if len(bounds) else _NOWHERE)
    by_image: dict[str, int] = {}
    for shard in shards:
        file = pq.ParquetFile(arrow_source(spec.out_path / shard.path))
        for batch in file.iter_batches(columns=_STATS_COLUMNS):
            stats.add(
                batch["longitude"].to_numpy(),
                batch["latitude"].to_numpy(),
                batch["area_in_meters"].to_numpy(),
                batch["confidence"].to_numpy(),
            )
            confidences.add(
                batch["latitude"].to_numpy(),
                batch["longitude"].to_numpy(),
                batch["confidence"].to_numpy(),
            )
            for entry in batch["image_id"].value_counts().to_pylist():
                by_image[entry["values"]] = by_image.get(entry["values"], 0) + entry["counts"]
    return stats, by_image


def _image_rows(spec: JobSpec, by_image: dict[str, int]) -> list[ImageRow]:
    rows = [
        ImageRow(
            image_id=image.image_id,
            path=redact(shown_path(image.path)),
            date=str(image.date or ""),
            detail=_image_detail(image.info),
            num_footprints=by_image.get(image.image_id, 0),
        )
        for image in map(spec.images.__getitem__, _positions_to_list(spec, by_image))
    ]
    failed = [
        ImageRow(
            image_id=Path(redact(i.path)).stem,
            path=redact(i.path),
            detail=redact(i.reason),
            is_failed=True,
        )
        for i in spec.failed_images
    ]
    return [*rows, *failed]


def _positions_to_list(spec: JobSpec, by_image: dict[str, int]) -> list[int]:
    """All images of a small job; of a large one those with footprints, as many as are shown."""
    if len(spec.images) <= MAX_IMAGE_ROWS:
        return list(range(len(spec.images)))
    names = pa.array(list(by_image), pa.string())
    has_footprints = pc.is_in(spec.images.column("image_id"), value_set=names)
    return np.flatnonzero(has_footprints).tolist()[:MAX_IMAGE_ROWS]


def _image_detail(info: ImageInfo | None) -> str:
    if info is None:
        return "from a catalogue (see images.parquet)"
    return f"{info.width} x {info.height} px, {info.gsd_m:.3f} m"


def _stage_times(facts: dict[str, Any]) -> list[StageTime]:
    pixels = facts["pixels_valid"] / 1e6
    stages = []
    for name, seconds in facts["stage_s"].items():
        if name.startswith("Detect.wait_"):
            continue
        is_pixels = name.startswith("Detect.")
        stages.append(
            StageTime(
                name=name.removeprefix("Detect."),
                seconds=seconds,
                num_items=pixels if is_pixels else facts["footprints"],
                unit="Mpx" if is_pixels else "footprints",
            )
        )
    return stages


def _model_facts(spec: JobSpec) -> list[tuple[str, str]]:
    meta = spec.bundle
    return [
        ("model", spec.model_id),
        ("sha256", spec.bundle_sha256),
        ("pixel size", f"{meta.gsd_m:g} m"),
        ("threshold", f"{meta.threshold:g}"),
        ("neighbours", cut_words(meta)),
        ("grown back", f"{meta.erosion_px} px"),
        ("confidence", confidence_words(meta)),
        *(
            (str(name), value if isinstance(value, str) else json.dumps(value))
            for name, value in meta.provenance.items()
            if name != "mean_of"
        ),
        *(
            ("mean of", f"{part['share']:.2g} of {part['name']}, {part['sha256'][:12]}")
            for part in meta.provenance.get("mean_of", ())
        ),
    ]


def _machine_facts(ran_on: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("python", platform.python_version()),
        *((name, str(value)) for name, value in ran_on.items() if name != "bundle"),
    ]
