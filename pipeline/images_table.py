"""OUT/images.parquet: every image of the job, where it lies, and what became of it."""

import dataclasses
import datetime
from typing import Any

import pyarrow as pa
import shapely

from geo.geoparquet import WriteConfig, write_shard
from geo.remote_names import redact
from pipeline.ledger import bbox_column
from pipeline.opened_images import all_opened
from pipeline.spec import JobSpec

IMAGES_NAME = "images.parquet"
MAX_IN_MANIFEST = 1000
"""Images up to which the manifest lists them, too."""
IMAGES_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("path", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("version", pa.string()),
        pa.field("date", pa.date32()),
        pa.field("geometry", pa.binary()),
        pa.field(
            "bbox",
            pa.struct([pa.field(name, pa.float32()) for name in ("xmin", "ymin", "xmax", "ymax")]),
        ),
    ]
)
"""`status` is opened, failed (see `reason`), or unused: no tile needed it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesSummary:
    """What OUT/images.parquet says, in short.

    Attributes:
        num_images: rows.
        num_by_status: images per status.
        sha256: hash of the file.
        num_bytes: size of the file.
    """

    num_images: int
    num_by_status: dict[str, int]
    sha256: str
    num_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundImages:
    """What the run found of each image that could be used, by position.

    Attributes:
        versions: identities of the contents; None where nobody opened the image.
        dates: days they were taken; None where unknown.
        reasons: why they could not be opened; empty where they could, or nobody tried.
    """

    versions: list[str | None]
    dates: list[datetime.date | None]
    reasons: list[str]


def find_images(spec: JobSpec) -> FoundImages:
    """Read what the run's workers found: one request for each image that they opened."""
    images = spec.images
    dates = images.column("date").to_pylist()
    versions: list[str | None] = [None] * len(images)
    for position, is_opened in enumerate(images.is_opened.tolist()):
        if is_opened:
            versions[position] = images[position].version
    reasons = [""] * len(images)
    for position, record in all_opened(spec):
        if isinstance(record, str):
            reasons[position] = record
        else:
            versions[position], dates[position] = record[0].version, record[0].date
    return FoundImages(versions=versions, dates=dates, reasons=reasons)


def write_images(spec: JobSpec, found: FoundImages) -> ImagesSummary:
    """Write OUT/images.parquet, whole or not at all."""
    table = pa.concat_tables([_usable_rows(spec, found), _failed_rows(spec)])
    info = write_shard(
        spec.out_path / IMAGES_NAME, [table], schema=IMAGES_SCHEMA, config=WriteConfig()
    )
    counts = table["status"].value_counts().to_pylist()
    return ImagesSummary(
        num_images=len(table),
        num_by_status=dict(sorted((entry["values"], entry["counts"]) for entry in counts)),
        sha256=info.sha256,
        num_bytes=info.num_bytes,
    )


def images_in_manifest(spec: JobSpec, found: FoundImages) -> dict[str, Any]:
    """The manifest's own lists of images, for jobs of few."""
    facts: dict[str, Any] = {}
    if len(spec.images) <= MAX_IN_MANIFEST:
        facts["images"] = [
            {"image_id": name, "path": path, "version": version, "date": date}
            for name, path, version, date in zip(
                spec.images.column("image_id").to_pylist(),
                spec.images.column("path").to_pylist(),
                found.versions,
                found.dates,
                strict=True,
            )
        ]
    if len(spec.failed_images) <= MAX_IN_MANIFEST:
        facts["failed_images"] = [dataclasses.asdict(image) for image in spec.failed_images]
    return facts


def _usable_rows(spec: JobSpec, found: FoundImages) -> pa.Table:
    outlines = spec.images.outlines()
    status = [
        "failed" if reason else "opened" if version else "unused"
        for version, reason in zip(found.versions, found.reasons, strict=True)
    ]
    return pa.table(
        [
            spec.images.column("image_id"),
            pa.array(map(redact, spec.images.column("path").to_pylist()), pa.string()),
            pa.array(status, pa.string()),
            pa.array(map(redact, found.reasons), pa.string()),
            pa.array(found.versions, pa.string()),
            pa.array(found.dates, pa.date32()),
            pa.array(shapely.to_wkb(outlines), pa.binary()),
            bbox_column(spec.images.bounds),
        ],
        schema=IMAGES_SCHEMA,
    )


def _failed_rows(spec: JobSpec) -> pa.Table:
    failed = spec.failed_images

    def nulls(name: str) -> pa.Array:
        return pa.nulls(len(failed), IMAGES_SCHEMA.field(name).type)

    return pa.table(
        [
            nulls("image_id"),
            pa.array([redact(image.path) for image in failed], pa.string()),
            pa.array(["failed"] * len(failed), pa.string()),
            pa.array([redact(image.reason) for image in failed], pa.string()),
            *(nulls(name) for name in ("version", "date", "geometry", "bbox")),
        ],
        schema=IMAGES_SCHEMA,
    )
