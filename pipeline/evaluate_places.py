"""A bundle over a set of places: footprints as the main job makes them, scored place by place."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from geo.errors import DatasetError, EveryroofError
from geo.matching import Float64Array, PolygonObjects
from geo.references import PolygonLayer, layer_of_frame, read_extent, read_polygons
from model.evaluate import PlaceScores, score_place
from model.segment import Segmenter
from model.thresholds import RegionThresholds, region_thresholds
from pipeline.evaluation_config import AOI_IMAGE, EvaluationConfig, PlaceConfig
from pipeline.place_footprints import PlaceFootprints, find_footprints
from pipeline.spec import JobSpec, resolve_config

logger = logging.getLogger(__name__)
BoolArray = npt.NDArray[np.bool_]

_CONFIDENCE, _RAW, _LATITUDE, _LONGITUDE = "confidence", "raw_confidence", "latitude", "longitude"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceEvaluation:
    """One place at one pixel size: what was found, what is there, and the scores.

    Attributes:
        place: where.
        spec: the job that was run.
        scores: the scores.
        crs: metric CRS of all polygons here.
        footprints: what was found and touches the labelled area.
        references: what people drew.
        aoi: the labelled area.
        confidence: of each footprint, as a run writes it.
        raw_confidence: the same before the bundle's calibration.
        latitude: of each footprint's centroid, degrees.
        longitude: the same.
    """

    place: PlaceConfig
    spec: JobSpec
    scores: PlaceScores
    crs: pyproj.CRS
    footprints: PolygonObjects
    references: PolygonObjects
    aoi: shapely.Geometry
    confidence: Float64Array
    raw_confidence: Float64Array
    latitude: Float64Array
    longitude: Float64Array

    def samples(self) -> tuple[Float64Array, BoolArray]:
        """Raw confidence and truth of the footprints that are right or wrong."""
        matching = self.scores.matching
        is_scored = matching.is_true | matching.is_false
        return self.raw_confidence[is_scored], matching.is_true[is_scored]

    @property
    def scored_confidence(self) -> Float64Array:
        """Confidence, as a run writes it, of the footprints of `samples`."""
        matching = self.scores.matching
        return self.confidence[matching.is_true | matching.is_false]


def evaluate_places(
    model: str | Path,
    config: EvaluationConfig,
    *,
    gsds_m: Sequence[float] = (),
    min_confidence: float = 0.0,
) -> Iterator[PlaceEvaluation]:
    """Evaluate a bundle; the places come one by one, all pixel sizes of the first place first.

    Args:
        model: the bundle, or an exported file of it.
        config: the places, with paths that can be opened.
        gsds_m: pixel sizes in metres; none takes the config's, else the bundle's.
        min_confidence: see `model.evaluate.score_place`.

    Raises:
        EveryroofError: if the bundle, an image or labels cannot be used; the message names the
            place.
    """
    segmenter = Segmenter.load(model, config.segment)
    sizes = tuple(gsds_m) or config.gsd_m or (segmenter.bundle.meta.gsd_m,)
    for place in config.places:
        for gsd_m in sizes:
            try:
                yield _evaluate(str(model), config, place, gsd_m, segmenter, min_confidence)
            except EveryroofError as error:
                raise type(error)(f"place {place.name}: {error}") from error


def _evaluate(
    model: str,
    config: EvaluationConfig,
    place: PlaceConfig,
    gsd_m: float,
    segmenter: Segmenter,
    min_confidence: float,
) -> PlaceEvaluation:
    references = read_polygons(place.labels)
    area = _labelled_area(place, references.crs)
    spec = resolve_config(config.run_config(place, model, gsd_m))
    found = _as_layer(find_footprints(spec, segmenter), references.crs, place.name)
    touches = shapely.intersects(area, found.polygons)
    columns = {name: np.asarray(values)[touches] for name, values in found.columns.items()}
    scores = score_place(
        place.name,
        found.polygons[touches],
        columns[_CONFIDENCE],
        references.polygons,
        gsd_m=gsd_m,
        aoi=area,
        category=place.category,
        min_confidence=min_confidence,
    )
    if scores.scores.num_references == 0:
        raise DatasetError(f"none of the {len(references)} polygons of {place.labels} lies in aoi")
    logger.info("%s at %g m: AP50 %.3f", place.name, gsd_m, scores.scores.ap50)
    return PlaceEvaluation(
        place=place,
        spec=spec,
        scores=scores,
        crs=references.crs,
        footprints=found.polygons[touches],
        references=references.polygons,
        aoi=area,
        confidence=columns[_CONFIDENCE],
        raw_confidence=columns[_RAW],
        latitude=columns[_LATITUDE],
        longitude=columns[_LONGITUDE],
    )


def _labelled_area(place: PlaceConfig, crs: pyproj.CRS) -> shapely.Geometry:
    if place.aoi == AOI_IMAGE:
        return shapely.union_all([read_extent(path, crs) for path in place.image_paths])
    return read_polygons(place.aoi, crs=crs).union()


def _as_layer(found: PlaceFootprints, crs: pyproj.CRS, name: str) -> PolygonLayer:
    """Footprints as polygons in a metric CRS; none at all is a layer of none."""
    names = (_CONFIDENCE, _LATITUDE, _LONGITUDE)
    columns = {column: found.table[column].to_numpy() for column in names}
    columns[_RAW] = found.raw_confidence
    if len(found.table) == 0:
        return PolygonLayer(
            name=name,
            crs=crs,
            polygons=np.zeros(0, object),
            source_row=np.zeros(0, np.int64),
            columns=columns,
            num_features=0,
            num_repaired=0,
            num_extra_parts=0,
            num_dropped=0,
        )
    shapes = shapely.from_wkb(found.table["geometry"].to_numpy(zero_copy_only=False))
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs="OGC:CRS84")
    return layer_of_frame(frame, name=name, crs=crs, columns=tuple(columns))


def by_pixel_size(evaluations: Sequence[PlaceEvaluation]) -> dict[float, list[PlaceEvaluation]]:
    """Evaluations by pixel size in metres, the finest first."""
    groups: dict[float, list[PlaceEvaluation]] = {}
    for evaluation in evaluations:
        groups.setdefault(evaluation.scores.gsd_m, []).append(evaluation)
    return dict(sorted(groups.items()))


def thresholds_of(evaluations: Sequence[PlaceEvaluation]) -> list[RegionThresholds]:
    """Thresholds per region of evaluations at one pixel size; places of one region share them."""

    def joined(name: str, owners: Sequence[object]) -> npt.NDArray[np.generic]:
        return np.concatenate([getattr(owner, name) for owner in owners])

    matchings = [evaluation.scores.matching for evaluation in evaluations]
    return region_thresholds(
        joined("latitude", evaluations),
        joined("longitude", evaluations),
        joined("confidence", evaluations),
        joined("is_true", matchings),
        joined("is_false", matchings),
    )
