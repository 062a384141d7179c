"""Whole jobs behind the network: tiles get their instances from a drawn land, all else is real.

Planning, the tile store, seam merging, finishing, overlaps, shards, ledger and report are those of
every run; only reading, segmenting and tracing are left out. Nothing but the images' outlines and
a tiny bundle's facts stands before them.
"""

import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import shapely
from drawn_land import SITES_PER_DEGREE, SITES_PER_TOWN, Land, land_instances

from geo.grid import METRES_PER_DEGREE, Tile
from geo.image_profile import ImageProfile, save_profile
from geo.images import ImageInfo
from geo.instances import Instances
from geo.seams import Pieces, split_cell
from model.bundle import read_meta
from model.colour_bundle import save_colour_bundle
from pipeline.config import parse_config
from pipeline.cover import Cover
from pipeline.detect import DetectBuildings, Detection, Stopwatch, TileDetector, _DetectDoFn
from pipeline.image_index import FailedImage, ImageIndex, IndexedImage
from pipeline.image_shelf import ImageShelf
from pipeline.output_folder import prepare_output
from pipeline.spec import JobSpec
from pipeline.tile_store import TileResult, TileStore
from pipeline.tile_work import TileTask, make_task

IMAGE_STEP_DEG = SITES_PER_TOWN / SITES_PER_DEGREE
"""Width and height of an image: that of a town, 33 km."""
_IMAGE_MARGIN_DEG = 0.01


class SimulateBuildings(DetectBuildings):
    """`DetectBuildings` with a drawn land in place of pixels and network."""

    land = Land()

    def expand(self, tiles: Any) -> Any:
        """Wire the transform."""
        return tiles | "DetectTile" >> beam.ParDo(
            _SimulateDoFn(self._spec, self.land), profiled=self._profiled
        ).with_outputs("records", main="refs")


class _SimulateDoFn(_DetectDoFn):
    def __init__(self, spec: JobSpec, land: Land) -> None:
        super().__init__(spec)
        self._land = land

    def setup(self) -> None:
        self._detector = SimulatedDetector(self._spec, self._land)


class SimulatedDetector(TileDetector):
    """Finds what stands on a tile's ground, without looking."""

    def __init__(self, spec: JobSpec, land: Land) -> None:
        self.spec, self.land = spec, land
        self.cover, self.store = Cover(spec), TileStore(spec.store_path)
        self.shelf = ImageShelf(spec, self.store)
        self._journal = self.store.journal(spec.run_token)
        self._journal.write("model", seconds=0.0, fingerprint={"simulated": repr(land)})

    def start(self, tile: Tile, *, is_isolated: bool = False) -> Iterator[Detection]:
        fingerprint = {"simulated": repr(self.land)}
        task = make_task(self.spec, self.cover, self.shelf, fingerprint, tile)
        if self.store.has_tile(task.tile_hash):
            yield self._finished(task, self.store.load_tile(task.tile_hash), None)
            return
        begin = time.perf_counter()
        self.store.mark_attempt(task.tile_hash)
        result = self._find(task)
        watch = Stopwatch(segment_s=time.perf_counter() - begin)
        self.store.save_tile(task.tile_hash, result)
        watch.trace_s = time.perf_counter() - begin - watch.segment_s
        self.store.clear_attempts(task.tile_hash)
        yield self._finished(task, result, watch)

    def finish(self) -> Iterator[Detection]:
        return iter(())

    def close(self) -> None:
        self.shelf.close()

    def _find(self, task: TileTask) -> TileResult:
        if not task.images or not task.cores.any():
            return TileResult(status="nodata", whole=Instances.empty(), pieces=Pieces.empty())
        places = (image.info.image_id.split("_") for image in task.opened)
        instances = land_instances(
            self.land,
            task.tile.grid,
            task.window,
            cores=task.cores,
            core_px=self.spec.core_px,
            image_step_deg=IMAGE_STEP_DEG,
            image_numbers={(int(r), int(c)): n for n, (_, r, c) in enumerate(places)},
        )
        level = split_cell(instances, task.tile.window, self.spec.max_extent_px)
        num_cores = int(np.count_nonzero(task.cores))
        return TileResult(
            status="ok" if len(instances) else "empty",
            whole=level.whole,
            pieces=level.open,
            image_versions=tuple(image.info.version for image in task.opened),
            num_pixels_valid=num_cores * self.spec.core_px**2,
            num_windows=num_cores,
            oversize=tuple(tuple(int(v) for v in row) for row in level.oversize.bounds),
        )


def make_simulated_spec(
    folder: Path,
    area: shapely.Geometry,
    *,
    core_px: int = 1024,
    failed: Iterable[FailedImage] = (),
    **options: Any,
) -> JobSpec:
    """A job over an area (degrees; beyond 180 across the antimeridian), without any image file.

    Args:
        folder: where the bundle and the output lie.
        area: the area of interest: what has its centroid in it comes out.
        core_px: pixels per side of a core.
        failed: images that could not be used.
        options: sections of the run's config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bundle = save_colour_bundle(
        folder / "facts.safetensors", gsd_m=0.5, window_px=core_px, erosion_px=1
    )
    images = list(_lattice_images(area))
    data = {"model": str(bundle), "output": str(folder / "out")}
    names = [image.path for image in images]
    return JobSpec(
        config=parse_config({**data, **options, "images": names}, source="simulation"),
        images=ImageIndex.of(map(IndexedImage.of_opened, images), failed),
        bundle=read_meta(str(bundle)),
        bundle_sha256="0" * 64,
        aoi_wkb=bytes(shapely.to_wkb(_split_at_antimeridian(area))),
        run_token=uuid.uuid4().hex[:12],
    )


def _split_at_antimeridian(area: shapely.Geometry) -> shapely.Geometry:
    """The area with longitudes in [-180, 180], as files have them."""
    world = shapely.box(-180, -90, 180, 90)
    turned = [shapely.transform(area, lambda c, s=s: c + [s, 0]) for s in (-360.0, 0.0, 360.0)]
    return shapely.union_all([shapely.intersection(part, world) for part in turned])


def _lattice_images(area: shapely.Geometry) -> Iterable[ImageInfo]:
    """Images on a lattice that hold the area, each a kilometre larger on every side."""
    step = IMAGE_STEP_DEG
    west, south, east, north = area.bounds
    for row in range(int(np.floor(south / step)) - 1, int(np.floor(north / step)) + 2):
        for col in range(int(np.floor(west / step)) - 1, int(np.floor(east / step)) + 2):
            box = shapely.box(col * step, row * step, (col + 1) * step, (row + 1) * step)
            box = box.buffer(_IMAGE_MARGIN_DEG, join_style="mitre")
            if shapely.intersects(box, area):
                # The place in the name is that of [-180, 180), as the land has it.
                turn = round(360 / step)
                yield _image(f"image_{row}_{(col + turn // 2) % turn - turn // 2}", box)


def _image(name: str, box: shapely.Polygon) -> ImageInfo:
    west, south, east, north = box.bounds
    gsd_deg = 0.5 / METRES_PER_DEGREE
    ring = shapely.get_coordinates(shapely.segmentize(box.exterior, 0.05))
    return ImageInfo(
        path=f"/nowhere/{name}.tif",
        image_id=name,
        date=None,
        version=name,
        crs="EPSG:4326",
        transform=(gsd_deg, 0.0, west, 0.0, -gsd_deg, north),
        width=round((east - west) / gsd_deg),
        height=round((north - south) / gsd_deg),
        num_bands=3,
        bands=(1, 2, 3),
        dtype="uint8",
        nodata=None,
        mask="all_valid",
        block_size=(512, 512),
        overview_sizes=(),
        gsd_col_m=0.5,
        gsd_row_m=0.5,
        footprint=tuple((float(x), float(y)) for x, y in ring),
        x_period=360.0,
    )


def prepare_simulated(spec: JobSpec) -> None:
    """The output folder and the images' profiles, as a job finds them before its first tile."""
    prepare_output(spec, fresh=False)
    store = TileStore(spec.store_path)
    shelf = ImageShelf(spec, store)
    for number, image in enumerate(spec.images):
        path = shelf._profile_path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_profile(ImageProfile(version=image.version, fill=None, scaling=None), path)
    store.journal(spec.run_token).write("started", seconds=0.0, begin=time.time())


def run_simulated(spec: JobSpec, *, land: Land | None = None, workers: int = 1) -> JobSpec:
    """Run a job over the drawn land, in this process or in workers of its own."""
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipeline.run import run_graph

    prepare_simulated(spec)
    flags = []
    if workers > 1:
        flags = [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    detect = type("Simulate", (SimulateBuildings,), {"land": land or Land()})
    run_graph(spec, PipelineOptions(flags), detect=detect)
    return spec
