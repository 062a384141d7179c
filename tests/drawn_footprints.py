"""Drawn footprint tables with the statistics of a dense city, for tests and benchmarks of storage.

Rectangles and L-shapes of random size, rotation and confidence, about as many a square kilometre as
in Kampala, with every column filled as the pipeline fills it.
"""

import datetime

import numpy as np
import pyarrow as pa
import pyproj

from geo.footprints import footprint_ids, footprint_table, to_lonlat
from geo.grid import WorldGrid, zone_of_longitude, zone_to_lonlat
from geo.polygons import PolygonArray

PER_KM2 = 3000.0
KAMPALA = (32.58, 0.31)
GSD_MM = 300
IMAGES = (("kampala_2021_a", datetime.date(2021, 3, 4)), ("kampala_2023_b", None))
MODEL_ID = "everyroof-unet-r18-0123456789ab"


def draw_footprints(
    num_rows: int, *, seed: int = 0, centre: tuple[float, float] = KAMPALA, per_km2: float = PER_KM2
) -> pa.Table:
    """A table of FOOTPRINT_SCHEMA in random order, around a (longitude, latitude).

    Buildings lie one each at a random place in the cells of a square grid.
    """
    random = np.random.default_rng(seed)
    zone = zone_of_longitude(centre[0])
    centre_m = zone_to_lonlat(zone).transform(
        *centre, direction=pyproj.enums.TransformDirection.INVERSE
    )
    per_side, spacing_m = int(np.ceil(np.sqrt(num_rows))), 1000.0 / np.sqrt(per_km2)
    places = np.stack(np.divmod(random.permutation(per_side**2)[:num_rows], per_side), axis=1)
    places = (places + random.random(places.shape) - per_side / 2) * spacing_m + centre_m
    polygons, is_usable = to_lonlat(_outlines(places, random), zone)
    assert is_usable.all()
    pixels = np.floor(places[:, ::-1] / (GSD_MM / 1000) * (-1, 1)).astype(np.int64)
    image = (random.random(num_rows) < 0.3).astype(int)
    return footprint_table(
        polygons,
        ids=footprint_ids(WorldGrid(zone, GSD_MM), pixels),
        confidence=np.sqrt(random.uniform(0.25, 1.0, num_rows)),
        image_ids=[IMAGES[index][0] for index in image],
        image_dates=[IMAGES[index][1] for index in image],
        model_id=MODEL_ID,
    )


def _outlines(places: np.ndarray, random: np.random.Generator) -> PolygonArray:
    """A rectangle or, at three places in ten, an L-shape around each place, in metres."""
    num = len(places)
    width, depth = np.exp(random.normal(2.3, 0.35, num)), np.exp(random.normal(2.1, 0.3, num))
    inner_x, inner_y = random.uniform(0.3, 0.7, (2, num)) * (width, depth)
    zero = np.zeros(num)
    rectangle = [(zero, zero), (width, zero), (width, depth), (zero, depth), (zero, zero)]
    corners = [*rectangle[:2], (width, inner_y), (inner_x, inner_y), (inner_x, depth)]
    ell = np.array([*corners, *rectangle[3:]])
    is_ell = random.random(num) < 0.3
    # Seven points each; of a rectangle only five are kept.
    points = np.where(is_ell, ell, np.array([*rectangle, *rectangle[:2]])).transpose(2, 0, 1)
    points = points - np.stack([width, depth], axis=1)[:, np.newaxis] / 2
    angle = random.uniform(0, np.pi / 2, num)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = np.einsum("npk,kjn->npj", points, turn) + places[:, np.newaxis]
    lengths = np.where(is_ell, 7, 5)
    return PolygonArray(
        coords=points[np.arange(7) < lengths[:, np.newaxis]],
        ring_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        polygon_offsets=np.arange(num + 1),
    )
