"""The work on one tile as plain steps: task -> read -> segment -> trace. Beam only wires it."""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from geo.components import find_instances
from geo.grid import Tile
from geo.instances import Instances
from geo.pixel_window import PixelWindow
from geo.rasters import TileRaster, TileReader
from geo.seams import Pieces, split_cell
from model.cores import CoreProbability, cut_cores, join_cores, join_rims, mean_of_layers
from model.cores_under_way import CoresUnderWay
from model.segment import Segmenter
from pipeline.cover import Cover
from pipeline.formats import TILE_FORMAT
from pipeline.image_shelf import ImageShelf, OpenedImage
from pipeline.spec import JobSpec
from pipeline.tile_store import TileResult

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileTask:
    """One tile, ready to be worked on.

    Attributes:
        tile: the tile.
        window: the part of it that holds active cores; whole cores.
        cores: which cores of `window` to segment, bool.
        images: positions of the images that meet the window and its margin, in order.
        opened: what is known of them.
        tile_hash: identity of everything that reading, segmenting and tracing depend on.
    """

    tile: Tile
    window: PixelWindow
    cores: BoolArray
    images: tuple[int, ...]
    opened: tuple[OpenedImage, ...]
    tile_hash: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileLayers:
    """What was read for one tile: a raster per image for mean_probability, else just one."""

    task: TileTask
    rasters: tuple[TileRaster, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileProbability:
    """Probability of one tile's active window.

    Attributes:
        task: the tile.
        cores: what was segmented, with surroundings where the bundle needs them.
        image_index: image of each pixel, uint16; None where there is one image.
        num_pixels_valid: pixels with image data.
        num_windows: windows that went through the network.
        num_left_out: windows that a first look found empty.
    """

    task: TileTask
    cores: tuple[CoreProbability, ...]
    image_index: npt.NDArray[np.uint16] | None
    num_pixels_valid: int
    num_windows: int
    num_left_out: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the active window."""
        return self.task.window.height, self.task.window.width

    @property
    def probability(self) -> UInt8Array:
        """round(255 * probability), uint8, shape `shape`; 0 where there is none."""
        return join_cores(self.cores, self.shape)


def make_task(
    spec: JobSpec, cover: Cover, shelf: ImageShelf, fingerprint: dict[str, Any], tile: Tile
) -> TileTask:
    """Find a tile's active window and images, and hash what its result depends on.

    Raises:
        RasterError: if one of its images cannot be opened.
    """
    cores = cover.core_mask(tile)
    window, cores = _active_window(tile, cores, spec.core_px)
    images = tuple(cover.images_of(tile.zone, window.expand(spec.margin_px)))
    opened = tuple(shelf.image(index) for index in images)
    facts = {
        "format": TILE_FORMAT,
        "tile": tile.name,
        "cores": hashlib.sha256(
            np.packbits(cores).tobytes() + repr(cores.shape).encode()
        ).hexdigest(),
        "images": [image.facts for image in opened],
        "raster": dataclasses.asdict(spec.config.raster),
        "bundle": spec.bundle_sha256,
        "segment": fingerprint,
        "max_extent_px": spec.max_extent_px,
        "probability": "probability" in spec.config.outputs,
    }
    if spec.config.raster.mosaic == "mean_probability" and len(images) > 1:
        facts["provenance"] = "newest"
    text = json.dumps(facts, sort_keys=True, default=str)
    return TileTask(
        tile=tile,
        window=window,
        cores=cores,
        images=images,
        opened=opened,
        tile_hash=hashlib.sha256(text.encode()).hexdigest()[:40],
    )


def _active_window(tile: Tile, cores: BoolArray, core_px: int) -> tuple[PixelWindow, BoolArray]:
    rows, cols = np.flatnonzero(cores.any(axis=1)), np.flatnonzero(cores.any(axis=0))
    if len(rows) == 0:
        return PixelWindow(tile.window.col_off, tile.window.row_off, 0, 0), cores[:0, :0]
    top, bottom, left, right = rows[0], rows[-1] + 1, cols[0], cols[-1] + 1
    window = PixelWindow(
        tile.window.col_off + int(left) * core_px,
        tile.window.row_off + int(top) * core_px,
        int(right - left) * core_px,
        int(bottom - top) * core_px,
    )
    return window, cores[top:bottom, left:right]


def read_layers(spec: JobSpec, shelf: ImageShelf, task: TileTask) -> TileLayers:
    """Read a tile's images onto the grid, margin included.

    Raises:
        RasterError: if an image cannot be read there.
    """
    if not task.images or not task.cores.any():
        return TileLayers(task=task, rasters=())
    reader = TileReader(
        [image.info for image in task.opened],
        [shelf.profile(index) for index in task.images],
        task.tile.grid,
        spec.config.raster,
        limits=[image.limit for image in task.opened],
        reader=shelf.reader,
    )
    with reader:
        window = task.window.expand(spec.margin_px)
        if spec.config.raster.mosaic == "mean_probability":
            rasters = tuple(reader.read_layers(window))
        else:
            rasters = (reader.read(window),)
    return TileLayers(task=task, rasters=rasters)


class LayersUnderWay:
    """A tile's layers on their way through the network; made by `begin_layers`."""

    def __init__(
        self, spec: JobSpec, segmenter: Segmenter, layers: TileLayers, *, is_last: bool
    ) -> None:
        self._segmenter, self._task = segmenter, layers.task
        self._valid = [raster.valid for raster in layers.rasters]
        self._index = [raster.image_index for raster in layers.rasters]
        self._inner = layers.task.window.within(layers.task.window.expand(spec.margin_px))
        self._cores: list[CoresUnderWay] = []
        try:
            for raster in layers.rasters:
                begun = segmenter.begin_cores(
                    raster.pixels, raster.valid, active=layers.task.cores, is_last=is_last
                )
                self._cores.append(begun)
        except BaseException:
            self.stop()
            raise

    @property
    def begun_s(self) -> float | None:
        """When the network began with the tile (`time.perf_counter`); None before, or for none."""
        return min((each.begun_s for each in self._cores if each.begun_s), default=None)

    @property
    def ended_s(self) -> float | None:
        """When the network last ended with a window of it; None before, or without windows."""
        return max((each.ended_s for each in self._cores if each.ended_s), default=None)

    @property
    def is_over(self) -> bool:
        """Whether the network has ended with the tile."""
        return all(each.is_over for each in self._cores)

    def stop(self) -> None:
        """Have no more windows begun, and wait for those that have been; there is no result."""
        for each in self._cores:
            each.stop()

    def result(self) -> TileProbability:
        """Wait for the network; several images are averaged pixel by pixel. To be called once.

        Raises:
            SegmentError: if memory does not even hold one window.
        """
        try:
            parts = [
                [(part, valid[self._segmenter.surroundings(part.core)]) for part in each.result()]
                for each, valid in zip(self._cores, self._valid, strict=True)
            ]
        except BaseException:
            self.stop()
            raise
        task, (is_valid, image_index) = self._task, self._newest()
        whole = [part for part, _ in parts[0]] if len(parts) == 1 else mean_of_layers(parts)
        return TileProbability(
            task=task,
            cores=tuple(whole),
            image_index=image_index if len(task.images) > 1 else None,
            num_pixels_valid=0 if is_valid is None else int(np.count_nonzero(is_valid)),
            num_windows=sum(each.num_windows for each in self._cores),
            num_left_out=sum(each.num_left_out for each in self._cores),
        )

    def _newest(self) -> tuple[BoolArray | None, npt.NDArray[np.uint16] | None]:
        """Which pixels are valid in any image, and the newest image of each; None without images.

        Of images whose probabilities are averaged the newest is kept as provenance.
        """
        day = np.array([_day(image) for image in self._task.opened], np.int64)
        is_valid: BoolArray | None = None
        image_index: npt.NDArray[np.uint16] | None = None
        for whole_valid, whole_index in zip(self._valid, self._index, strict=True):
            valid, index = whole_valid[self._inner], whole_index[self._inner]
            if is_valid is None or image_index is None:
                # With a single image nothing is copied.
                is_valid, image_index = valid, index
            else:
                is_newer = valid & (~is_valid | (day[index] >= day[image_index]))
                image_index = np.where(is_newer, index, image_index)
                is_valid = is_valid | valid
        return is_valid, image_index


def begin_layers(
    spec: JobSpec, segmenter: Segmenter, layers: TileLayers, *, is_last: bool = False
) -> LayersUnderWay:
    """Begin to run the network over a tile, behind the tiles begun before.

    Args:
        spec: the job.
        segmenter: its network.
        layers: the tile's pixels; not to be changed before the end.
        is_last: no tile follows, as far as one knows. Changes no bits.
    """
    return LayersUnderWay(spec, segmenter, layers, is_last=is_last)


def segment_layers(spec: JobSpec, segmenter: Segmenter, layers: TileLayers) -> TileProbability:
    """Run the network over a tile; several images are averaged pixel by pixel.

    Raises:
        SegmentError: if memory does not even hold one window.
    """
    return begin_layers(spec, segmenter, layers, is_last=True).result()


def _day(image: OpenedImage) -> int:
    return image.info.date.toordinal() if image.info.date else 0


def find_tile_instances(spec: JobSpec, done: TileProbability) -> Instances:
    """Threshold and label a tile, with neighbours apart where the bundle says so."""
    floor, depth = spec.bundle.threshold_uint8, spec.bundle.valley_depth_uint8
    cut = cut_cores(done.cores, floor=floor, depth=depth) if depth else done.cores
    rim = None
    if spec.bundle.confidence == "contrast":
        rim = join_rims(done.cores, cut, done.shape, floor=floor)
    return find_instances(
        join_cores(cut, done.shape),
        threshold=floor,
        window=done.task.window,
        image_index=done.image_index,
        rim=rim,
    )


def trace_tile(spec: JobSpec, done: TileProbability) -> TileResult:
    """The instances of a tile; what is larger than any building is left out."""
    task = done.task
    if done.num_pixels_valid == 0:
        return TileResult(status="nodata", whole=Instances.empty(), pieces=Pieces.empty())
    instances = find_tile_instances(spec, done)
    level = split_cell(instances, task.tile.window, spec.max_extent_px)
    return TileResult(
        status="ok" if len(instances) else "empty",
        whole=level.whole,
        pieces=level.open,
        image_versions=tuple(image.info.version for image in task.opened),
        num_pixels_valid=done.num_pixels_valid,
        num_windows=done.num_windows,
        num_left_out=done.num_left_out,
        oversize=tuple(tuple(int(v) for v in row) for row in level.oversize.bounds),
    )
