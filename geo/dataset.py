"""A finished dataset: the folder, bucket or URL that a run wrote, as its manifest describes it.

The manifest is written last: without one a run has not finished, and what lies there is not opened.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geo.errors import DatasetError
from geo.geoparquet import Bounds
from geo.object_path import ObjectPath
from geo.places import ReadPlace, as_read_place
from geo.s2cells import cell_from_token, cell_range
from geo.web_path import WebPath

MANIFEST_NAME = "manifest.json"
_READ_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetShard:
    """One file of footprints, as the manifest names it.

    Attributes:
        path: relative to the dataset, such as footprints/s2=TOKEN.parquet.
        token: the S2 cell that holds the centroids of all its rows.
        num_rows: number of footprints.
        num_bytes: size of the file.
        bounds: bounding box of the outlines in degrees; longitudes slightly beyond +-180 occur.
        sha256: hash of the file, hexadecimal.
    """

    path: str
    token: str
    num_rows: int
    num_bytes: int
    bounds: Bounds
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A finished dataset.

    Attributes:
        place: where it lies.
        manifest: all that the manifest says.
        shards: its files along S2's Hilbert curve.
    """

    place: ReadPlace
    manifest: dict[str, Any]
    shards: tuple[DatasetShard, ...]

    @property
    def name(self) -> str:
        """The last part of its place."""
        return self.place.resolve().name

    @property
    def num_footprints(self) -> int:
        """Footprints of all files."""
        return sum(shard.num_rows for shard in self.shards)

    @property
    def model_id(self) -> str:
        """Name of the model that found them."""
        return str(self.manifest["model"]["model_id"])

    @property
    def gsd_m(self) -> float:
        """Pixel size that they were found at, in metres."""
        return float(self.manifest["gsd_m"])

    @property
    def bounds(self) -> Bounds | None:
        """Bounding box of all outlines in degrees; None without any.

        Files on both sides of the antimeridian give a box round the earth.
        """
        boxes = [shard.bounds for shard in self.shards if shard.num_rows]
        if not boxes:
            return None
        west, south, east, north = zip(*boxes, strict=True)
        return min(west), min(south), max(east), max(north)

    def place_of(self, shard: DatasetShard) -> ReadPlace:
        """Where one of its files lies."""
        return self.place_in(shard.path)

    def place_in(self, path: str) -> ReadPlace:
        """Where a file of the dataset lies, given relative to it."""
        place = self.place
        for part in path.split("/"):
            place = place / part
        return place


def open_dataset(out: str | os.PathLike[str] | ObjectPath | WebPath) -> Dataset:
    """Open a finished dataset by its manifest; no file of footprints is touched.

    Args:
        out: the output folder of a run: a path, s3://, gs:// or http(s)://.

    Raises:
        DatasetError: if there is none, its run has not finished, or its manifest is damaged.
        StorageError: if a server does not answer.
    """
    place = as_read_place(out)
    manifest = _read_manifest(place)
    try:
        shards = tuple(sorted(map(_shard, manifest["shards"]), key=_on_curve))
        dataset = Dataset(place=place, manifest=manifest, shards=shards)
        _ = (dataset.model_id, dataset.gsd_m)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{place / MANIFEST_NAME} is not the manifest of a dataset of everyroof ({error!r} is "
            "missing or wrong); run again to write it"
        ) from error
    return dataset


def check_files(dataset: Dataset) -> Iterator[DatasetShard]:
    """Compare every file with its checksum; gives each file that matches, as it goes.

    Raises:
        DatasetError: at the first that is missing or does not match.
    """
    for shard in dataset.shards:
        check_shard(dataset, shard)
        yield shard


def check_shard(dataset: Dataset, shard: DatasetShard) -> None:
    """Compare a file with its checksum; all of it is read.

    Raises:
        DatasetError: if it is missing or does not match.
    """
    place = dataset.place_of(shard)
    try:
        with place.open("rb") if isinstance(place, Path) else place.open() as file:
            digest = hashlib.sha256()
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except FileNotFoundError:
        raise missing_shard(place) from None
    if digest.hexdigest() != shard.sha256:
        raise DatasetError(
            f"{place} does not match its checksum in {MANIFEST_NAME}: it was changed or damaged "
            "after it was written; run again to write it, or copy the whole dataset again"
        )


def missing_shard(place: ReadPlace) -> DatasetError:
    """The error of a file that the manifest names and that is not there."""
    return DatasetError(
        f"{place} is missing, though {MANIFEST_NAME} names it; run again to write it, or copy the "
        "whole dataset again"
    )


def _read_manifest(place: ReadPlace) -> dict[str, Any]:
    if isinstance(place, Path):
        if not place.exists():
            raise DatasetError(f"{place} does not exist; name the output folder of a run")
        if not place.is_dir():
            raise DatasetError(f"{place} is a file; name the output folder of a run")
    path = place / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise DatasetError(
            f"{place} has no {MANIFEST_NAME}: the run has not finished, or this is no output of "
            "everyroof. The command that began the run finishes it"
        ) from None
    except ValueError as error:
        raise DatasetError(f"{path} is damaged ({error}); run again to write it") from error
    if not isinstance(manifest, dict):
        raise DatasetError(f"{path} is damaged (no object of JSON); run again to write it")
    return manifest


def _shard(entry: dict[str, Any]) -> DatasetShard:
    path, bounds = str(entry["path"]), [float(side) for side in entry["bounds"]]
    parts = path.split("/")
    # A manifest from elsewhere must not name files outside of its dataset.
    if ".." in parts or "" in parts or "\\" in path or ":" in path:
        raise ValueError(f"path = {path!r}")
    if len(bounds) != 4 or not all(map(math.isfinite, bounds)):
        raise ValueError(f"bounds = {bounds}")
    cell_from_token(entry["token"])
    return DatasetShard(
        path=path,
        token=str(entry["token"]),
        num_rows=int(entry["num_rows"]),
        num_bytes=int(entry["num_bytes"]),
        bounds=(bounds[0], bounds[1], bounds[2], bounds[3]),
        sha256=str(entry["sha256"]),
    )


def _on_curve(shard: DatasetShard) -> int:
    return cell_range(cell_from_token(shard.token))[0]
