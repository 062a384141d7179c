"""JobSpec: a config made concrete, the one read-only thing that every stage gets.

Made once by the launcher: images opened, the bundle's facts read, the area of interest loaded.
"""

import dataclasses
import functools
import hashlib
import json
import logging

import pyproj
import shapely
import shapely.affinity

from geo.errors import RasterError
from geo.grid import WorldGrid, check_latitudes, gsd_to_mm
from geo.places import Place, as_place
from geo.references import read_polygons
from geo.stated_outlines import meets_area
from model.bundle import BundleMeta, read_meta
from model.errors import SegmentError
from model.windows import check_first_look
from pipeline.config import ConfigError, RunConfig
from pipeline.fetch import file_sha256, local_copy
from pipeline.formats import FINISH_FORMAT, TILE_FORMAT
from pipeline.image_index import FailedImage as FailedImage
from pipeline.image_index import ImageIndex

logger = logging.getLogger(__name__)

MAX_WARNINGS = 20
"""Images without use that are named one by one; all of them are in the ledger."""

TileKey = tuple[int, int, int]
"""(zone, tile row, tile col): enough within one run, and small in a shuffle."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What to compute, resolved.

    Attributes:
        config: the run's config.
        images: the images that can be used, or that a catalogue says can, in the config's order.
        bundle: the bundle's metadata.
        bundle_sha256: hash of the bundle's file.
        aoi_wkb: area of interest as WKB in degrees, or None.
        run_token: name of this invocation, of its journal and of the folder of its later stages; it
            begins with the name of the output, see `output_name`.
    """

    config: RunConfig
    images: ImageIndex
    bundle: BundleMeta
    bundle_sha256: str
    aoi_wkb: bytes | None
    run_token: str = "run"

    @property
    def failed_images(self) -> tuple[FailedImage, ...]:
        """Images that could not be opened or placed when the job was planned, with the reason."""
        return self.images.failed

    @functools.cached_property
    def gsd_mm(self) -> int:
        """Pixel size of the world grid in millimetres."""
        return gsd_to_mm(self.config.grid.gsd_m or self.bundle.gsd_m)

    @property
    def gsd_m(self) -> float:
        """Pixel size of the world grid in metres."""
        return self.gsd_mm / 1000.0

    @property
    def tile_px(self) -> int:
        """Pixels per side of a tile."""
        return self.config.grid.tile_px

    @property
    def core_px(self) -> int:
        """Pixels per side of a window's core."""
        window = self.config.segment.window_px
        return self.bundle.window_px if window is None else window

    @property
    def margin_px(self) -> int:
        """Margin of a window on every side."""
        margin = self.config.segment.margin_px
        return self.bundle.margin_px if margin is None else margin

    @property
    def model_id(self) -> str:
        """The column `model_id`: the bundle's name and the start of its hash."""
        return f"{self.bundle.name}-{self.bundle_sha256[:8]}"

    @property
    def max_extent_px(self) -> int:
        """Largest building in pixels."""
        return int(self.config.grid.max_building_m / self.gsd_m)

    @property
    def store_path(self) -> Place:
        """Folder of the tile store."""
        return self.config.store_path

    @property
    def out_path(self) -> Place:
        """Folder of the output."""
        return self.config.out_path

    def grid(self, zone: int) -> WorldGrid:
        """The world grid of a zone."""
        return WorldGrid(zone, self.gsd_mm)

    @functools.cached_property
    def job_hash(self) -> str:
        """Identity of what the command asks for: the same for the same command.

        Neither versions of images nor what a catalogue holds today are part of it.
        """
        config = json.loads(self.config.to_json())
        facts = {
            "format": (TILE_FORMAT, FINISH_FORMAT),
            # What engines are told changes no result.
            "config": {key: value for key, value in config.items() if key != "engine"},
            "bundle": self.bundle_sha256,
            "aoi": hashlib.sha256(self.aoi_wkb or b"").hexdigest(),
        }
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def output_name(out: Place) -> str:
    """A short name of an output: what belongs to it in a shared store begins with it."""
    return hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:10]


def resolve_config(config: RunConfig, run_token: str = "run") -> JobSpec:
    """Find what the config names; images of a catalogue are not opened.

    Raises:
        EveryroofError: if the bundle, the area of interest, a catalogue or every image is unusable.
    """
    from pipeline.image_catalogue import collect_images

    bundle = local_copy(config.model)
    meta = read_meta(bundle)
    _check_windows(config, meta)
    aoi_wkb = _read_aoi(config)
    images = collect_images(config, num_bands=len(meta.bands), aoi_wkb=aoi_wkb)
    if not len(images):
        reasons = "\n".join(f"  {image.reason}" for image in images.failed)
        raise RasterError(f"no image can be used:\n{reasons}")
    for image in images.failed[:MAX_WARNINGS]:
        logger.warning("%s; going on without it", image.reason)
    if len(images.failed) > MAX_WARNINGS:
        logger.warning("%d images in all cannot be used", len(images.failed))
    _check_overlap(config, images, aoi_wkb)
    return JobSpec(
        config=config,
        images=images,
        bundle=meta,
        bundle_sha256=file_sha256(bundle),
        aoi_wkb=aoi_wkb,
        run_token=f"{output_name(as_place(config.output))}-{run_token}",
    )


def _check_overlap(config: RunConfig, images: ImageIndex, aoi_wkb: bytes | None) -> None:
    if aoi_wkb is None:
        return
    area = shapely.from_wkb(aoi_wkb)
    if meets_area(images.outlines(), area).any():
        return
    bounds = ", ".join(f"{value:.4f}" for value in area.bounds)
    raise ConfigError(
        f"the area of interest {config.area_of_interest} (longitude and latitude {bounds}) does "
        "not overlap any image; check its CRS and the order of its coordinates"
    )


def _check_windows(config: RunConfig, meta: BundleMeta) -> None:
    window_px = config.segment.window_px or meta.window_px
    if config.grid.tile_px % window_px:
        raise ConfigError(
            f"grid.tile_px = {config.grid.tile_px} is not a whole number of windows of "
            f"{window_px} px (segment.window_px, or the bundle's)"
        )
    if config.segment.first_look is not None:
        margin_px = meta.margin_px if config.segment.margin_px is None else config.segment.margin_px
        try:
            check_first_look(window_px + 2 * margin_px, meta.network.stride_px)
        except SegmentError as error:
            raise ConfigError(str(error)) from error


def _read_aoi(config: RunConfig) -> bytes | None:
    if config.area_of_interest is None:
        return None
    area = shapely.union_all(
        read_polygons(local_copy(config.area_of_interest), crs=pyproj.CRS.from_epsg(4326)).polygons
    )
    west, south, east, north = area.bounds
    check_latitudes(south, north, f"the area of interest {config.area_of_interest}")
    if west < -180.0 or east > 180.0:
        area = _within_the_map(area)
    return bytes(shapely.to_wkb(area))


def _within_the_map(area: shapely.Geometry) -> shapely.Geometry:
    """An area drawn on across the antimeridian, with longitudes of -180 to 180 as points have."""
    world = shapely.box(-180.0, -90.0, 180.0, 90.0)
    turned = [shapely.affinity.translate(area, turn) for turn in (-360.0, 0.0, 360.0)]
    return shapely.union_all([shapely.intersection(part, world) for part in turned])
