"""ImageShelf: what must be known of an image before a tile is read from it, found when needed.

    images/KEY.npz      profiles, by version

An image of a catalogue is opened by the first worker that needs it. What it found, the version
above all, is shared through the store for the rest of the run (`pipeline.opened_images`): all tiles
of a run see the same version of an image, and one that changes meanwhile is noticed when its pixels
are read. The next run opens it again, so that a changed image gives its tiles new hashes.
"""

import dataclasses
import datetime
import hashlib
import json
import time
from typing import Any

import shapely

from geo.errors import EveryroofError, RasterError
from geo.image_limits import CloudMask, ImageLimit
from geo.image_profile import ImageProfile, load_profile, profile_image, save_profile
from geo.image_reader import ImageReader
from geo.images import ImageInfo, open_image
from geo.places import Place
from pipeline.image_index import IndexedImage, MaskSource
from pipeline.kept_once import KeptOnce
from pipeline.opened_images import (
    FAILED_FOR_S,
    OpenedPair,
    note_failure,
    opened_path,
    read_opened,
    recent_failure,
    share_opened,
)
from pipeline.spec import JobSpec
from pipeline.tile_store import TileStore

MAX_KEPT_IMAGES = 1024
MAX_KEPT_PROFILES = 16
MEASURED_SLACK_DEG = 1e-7
"""A centimetre: an outline that was measured is not held against itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedImage:
    """An image that tiles can be read from.

    Attributes:
        info: what the file says, with the config's or catalogue's name and date.
        limit: where it may be used.
    """

    info: ImageInfo
    limit: ImageLimit

    @property
    def facts(self) -> list[Any]:
        """What a tile's result depends on: content, date and limits.

        Neither the path nor the name: a moved file is the same image.
        """
        facts: list[Any] = [self.info.version, str(self.info.date)]
        if self.limit.cloud_mask is not None:
            mask = self.limit.cloud_mask
            facts.append(["cloud_mask", mask.info.version, mask.info.bands, mask.values])
        if self.limit.outline is not None:
            facts.append(["outline", hashlib.sha256(self.limit.outline.wkb).hexdigest()])
        return facts


class ImageShelf:
    """Opened images and their profiles, shared through the store, the last ones kept in memory.

    For several threads at once.
    """

    def __init__(self, spec: JobSpec, store: TileStore) -> None:
        self._spec = spec
        self._store = store
        self._images: KeptOnce[int, OpenedImage] = KeptOnce(MAX_KEPT_IMAGES)
        self._profiles: KeptOnce[int, ImageProfile] = KeptOnce(MAX_KEPT_PROFILES)
        self._failed: dict[int, tuple[float, str]] = {}
        self.reader = ImageReader()
        """Reads the images of one tile after the other; the last datasets stay open."""

    def close(self) -> None:
        """Close the images."""
        self.reader.close()

    def image(self, position: int) -> OpenedImage:
        """An image of the job, opened where nobody has yet.

        Raises:
            RasterError: if it, or its cloud mask, cannot be opened, or could not be opened by this
                or another worker in the last `FAILED_FOR_S` seconds.
        """

        def make() -> OpenedImage:
            indexed = self._spec.images[position]
            info, mask = self._infos(position, indexed)
            return OpenedImage(info=info, limit=_limit(indexed, info, mask))

        return self._images.get(position, make)

    def date(self, position: int) -> datetime.date | None:
        """The date of an image: the config's, the catalogue's, or what a worker read in its file.

        An image that no worker of this run opened is not opened for it.
        """
        date = self._spec.images.column("date")[position].as_py()
        if date is None and not self._spec.images.is_opened[position]:
            pair = read_opened(self._opened_path(position))
            date = pair[0].date if pair else None
        return date

    def profile(self, position: int) -> ImageProfile:
        """An image's profile, computed unless it is stored.

        Raises:
            RasterError: if it could not be computed.
        """

        def make() -> ImageProfile:
            self.make_profile(position)
            return load_profile(self._profile_path(position))

        return self._profiles.get(position, make)

    def make_profile(self, position: int) -> None:
        """Compute and store an image's profile unless it is stored.

        Raises:
            RasterError: if the image cannot be read.
        """
        path = self._profile_path(position)
        if not path.exists():
            info = self.image(position).info
            profile = profile_image(info, self._spec.config.raster, self.reader)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_profile(profile, path)

    def _profile_path(self, position: int) -> Place:
        """Named by the image's version and what the profile is made with."""
        version = self.image(position).info.version
        facts = [version, dataclasses.asdict(self._spec.config.raster)]
        text = json.dumps(facts, sort_keys=True, default=str)
        return self._store.profile_path(hashlib.sha256(text.encode()).hexdigest()[:32])

    def _infos(self, position: int, indexed: IndexedImage) -> OpenedPair:
        if indexed.info is not None and indexed.cloud_mask is None:
            return indexed.info, None
        pair = read_opened(self._opened_path(position))
        if pair is None:
            self._refuse_failed(position)
            pair = self._open_and_share(position, indexed)
        return pair

    def _open_and_share(self, position: int, indexed: IndexedImage) -> OpenedPair:
        """Open an image and its mask, unless another worker does it sooner."""
        path = self._opened_path(position)
        try:
            info = indexed.info or self._open(indexed)
            mask = _open_mask(indexed.cloud_mask) if indexed.cloud_mask else None
        except EveryroofError as error:
            pair = read_opened(path)
            if pair is not None:
                return pair
            self._failed[position] = (time.monotonic(), str(error))
            note_failure(path, str(error))
            raise
        return share_opened(path, info, mask)

    def _refuse_failed(self, position: int) -> None:
        """Fail at once where this worker, or another, waited in vain a short while ago."""
        if position in self._failed:
            at_s, reason = self._failed[position]
            if time.monotonic() - at_s < FAILED_FOR_S:
                raise RasterError(reason)
        reason_of_another = recent_failure(self._opened_path(position))
        if reason_of_another is not None:
            raise RasterError(reason_of_another)

    def _opened_path(self, position: int) -> Place:
        return opened_path(self._spec, self._store, position)

    def _open(self, indexed: IndexedImage) -> ImageInfo:
        return open_image(
            indexed.path,
            image_id=indexed.image_id,
            date=indexed.date,
            bands=self._spec.config.raster.bands,
            num_bands=len(self._spec.bundle.bands),
        )


def _limit(indexed: IndexedImage, info: ImageInfo, mask: ImageInfo | None) -> ImageLimit:
    outline: shapely.Polygon | None = indexed.outline
    if indexed.info is not None or _holds(indexed.outline, info):
        outline = None
    source = indexed.cloud_mask
    cloud_mask = CloudMask(info=mask, values=source.values) if mask and source else None
    return ImageLimit(outline=outline, cloud_mask=cloud_mask)


def _holds(outline: shapely.Polygon, info: ImageInfo) -> bool:
    """Whether the image lies within what its catalogue states, as it should."""
    measured = shapely.Polygon(info.footprint)
    turn = 360.0 * round((outline.centroid.x - measured.centroid.x) / 360.0)
    moved = shapely.transform(measured, lambda c: c + [turn, 0.0])
    return bool(shapely.covers(shapely.buffer(outline, MEASURED_SLACK_DEG), moved))


def _open_mask(source: MaskSource) -> ImageInfo:
    try:
        return open_image(source.path, bands=(source.band,), num_bands=1)
    except RasterError as error:
        raise RasterError(f"cloud mask: {error}") from error
