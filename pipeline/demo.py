"""The demonstration: a drawn town, the main job's footprints of it, and how right they are."""

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import shapely

from geo.atomic_files import write_atomically
from geo.errors import DatasetError
from geo.matching import PolygonObjects
from geo.references import read_extent, read_polygons
from model.drawn_towns import DrawnScene, draw_scene
from model.evaluate import PlaceScores, score_place
from model.write_drawn import ScenePlace, write_scene_image, write_scene_outlines
from pipeline.palette import FALSE_COLOUR, MISSED_COLOUR, TRUE_COLOUR

TOWN_SEED = 10
"""A town that has a bit of everything."""
TOWN_GSD_M = 0.3
# The Gulf of Guinea: nobody lives there.
_EPSG, _MIDDLE_X_M, _MIDDLE_Y_M = 32631, 500_000.0, 2_000.0
_OVERLAY_PX = 2000

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnTown:
    """A drawn town on the disk.

    Attributes:
        scene: as drawn.
        place: where it was put.
        image_path: the GeoTIFF.
        truth_path: the outlines, GeoJSON.
        seconds: what drawing and writing took.
    """

    scene: DrawnScene
    place: ScenePlace
    image_path: Path
    truth_path: Path
    seconds: float

    @property
    def area_m2(self) -> float:
        """Ground of the image."""
        return float((self.scene.gsd_m * len(self.scene.image)) ** 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class TownScores:
    """How right footprints are.

    Attributes:
        scores: the scores.
        found: footprints that touch the image, in the town's CRS.
        references: the true outlines, in the same CRS.
    """

    scores: PlaceScores
    found: PolygonObjects
    references: PolygonObjects


def draw_town(folder: Path, *, side_m: float, seed: int = TOWN_SEED) -> DrawnTown:
    """Draw a town and write its image and truth; the same files for the same arguments.

    Args:
        folder: where to; made if missing.
        side_m: side of the square, metres.
        seed: another seed, another town.

    Raises:
        RasterError: if the image cannot be written.
        OSError: if anything else cannot.
    """
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    scene = draw_scene(seed, round(side_m / TOWN_GSD_M), TOWN_GSD_M)
    place = ScenePlace(epsg=_EPSG, left_m=_MIDDLE_X_M - side_m / 2, top_m=_MIDDLE_Y_M + side_m / 2)
    image_path, truth_path = folder / "town.tif", folder / "truth.geojson"
    write_scene_image(image_path, scene, place)
    write_scene_outlines(truth_path, scene, place)
    return DrawnTown(
        scene=scene,
        place=place,
        image_path=image_path,
        truth_path=truth_path,
        seconds=time.monotonic() - begin,
    )


def score_town(town: DrawnTown, result: Path) -> TownScores:
    """Score a run's footprints against the truth, the whole image being labelled.

    Args:
        town: what was drawn.
        result: output folder of the finished run.

    Raises:
        DatasetError: if the run has no footprints.
    """
    from pipeline.cli.evaluate import read_predictions

    references = read_polygons(town.truth_path)
    area = read_extent(town.image_path, references.crs)
    try:
        found = read_predictions(result, references.crs, area)
    except DatasetError as error:
        raise DatasetError(f"the drawn town cannot be scored: {error}") from error
    scores = score_place(
        "town",
        found.polygons,
        found.columns["confidence"],
        references.polygons,
        gsd_m=town.scene.gsd_m,
        aoi=area,
    )
    return TownScores(scores=scores, found=found.polygons, references=references.polygons)


def write_overlay(path: Path, town: DrawnTown, result: TownScores) -> None:
    """Draw what is right, wrong and missing over the town (PNG).

    Raises:
        OSError: if it cannot be written.
    """
    picture = town.scene.image[:, :, ::-1].copy()
    step = max(-(-len(picture) // _OVERLAY_PX), 1)
    matching = result.scores.matching
    layers = (
        (result.references[matching.is_missed], MISSED_COLOUR),
        (result.found[matching.is_true], TRUE_COLOUR),
        (result.found[matching.is_false], FALSE_COLOUR),
    )
    for shapes, colour in layers:
        rings = _pixel_rings(town, shapes)
        cv2.polylines(picture, rings, True, (10, 10, 10), 2 + 2 * step, cv2.LINE_AA, 4)
        cv2.polylines(picture, rings, True, _bgr(colour), 1 + step, cv2.LINE_AA, 4)
    size = (picture.shape[1] // step, picture.shape[0] // step)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _add_key(small)
    ok, coded = cv2.imencode(".png", small)
    assert ok
    write_atomically(path, coded.tobytes())


def _pixel_rings(town: DrawnTown, shapes: PolygonObjects) -> list[npt.NDArray[np.int32]]:
    """Rings of polygons in the image, in OpenCV's fixed point of 1/16 px."""
    gsd_m, place = town.scene.gsd_m, town.place
    rings = shapely.get_parts(shapely.boundary(shapes))
    coords, ring = shapely.get_coordinates(rings, return_index=True)
    pixels = (coords - (place.left_m, place.top_m)) / (gsd_m, -gsd_m) - 0.5
    fixed = np.round(pixels * 16).astype(np.int32)
    return np.split(fixed, np.flatnonzero(np.diff(ring)) + 1) if len(fixed) else []


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return blue, green, red


def _add_key(picture: UInt8Array) -> None:
    """Words in the lower left corner, on a dark bar."""
    entries = (("right", TRUE_COLOUR), ("wrong", FALSE_COLOUR), ("missed", MISSED_COLOUR))
    height = picture.shape[0]
    cv2.rectangle(picture, (0, height - 34), (280, height), (24, 24, 24), -1)
    for index, (word, colour) in enumerate(entries):
        place = (12 + 88 * index, height - 11)
        cv2.putText(
            picture, word, place, cv2.FONT_HERSHEY_SIMPLEX, 0.62, _bgr(colour), 1, cv2.LINE_AA
        )
