"""The kernels of `geo.overlap` against GEOS alone: the same tables, to the byte."""

import math

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import overlap, overlap_pairs
from geo.footprints import COORDINATE_STEP_DEG, FOOTPRINT_SCHEMA, footprint_ids, footprint_table
from geo.grid import WorldGrid
from geo.lattice_rings import STEPS_PER_DEGREE, rings_from_wkb
from geo.overlap import OverlapConfig, resolve_overlaps
from geo.polygons import PolygonArray
from geo.wkb import polygons_to_wkb

NOTHING = FOOTPRINT_SCHEMA.empty_table()
ALL = OverlapConfig(min_kept_share=0, min_area_m2=0)
PLACES = {
    "town": ((85.52, 27.63), [45]),
    "south and west": ((-71.3, -33.4), [19]),
    "north": ((19.7, 83.9), [34]),
    "antimeridian": ((180.0, -16.8), [60, 1]),
    "antimeridian, north": ((-180.0, 83.7), [60, 1]),
    "equator and Greenwich": ((0.0, 0.0), [30, 31]),
}


def table_of(shapes, place="town", confidence=None, zones=None):
    """Footprints of shapes in lattice steps around a place."""
    (lon, lat), choice = PLACES[place]
    middle = np.round(np.array([lon, lat]) * STEPS_PER_DEGREE)
    shapes = shapely.orient_polygons(np.array(shapes, object))
    moved = shapely.transform(shapes, lambda xy: (np.round(xy) + middle) * COORDINATE_STEP_DEG)
    zones = zones or [choice[0]] * len(shapes)
    ids = [
        footprint_ids(WorldGrid(zone, 300), np.array([[-k, k]]))[0].as_py()
        for k, zone in enumerate(zones, 1)
    ]
    return footprint_table(
        PolygonArray.from_shapely(moved),
        ids=pa.array(ids, pa.string()),
        confidence=confidence or [0.95 - 0.01 * k for k in range(len(shapes))],
        image_ids=["drawn"] * len(shapes),
        image_dates=[None] * len(shapes),
        model_id="none",
    )


def facts(result):
    return (
        *(result.num_trimmed, result.num_dropped_twins, result.num_dropped_small),
        result.num_dropped_parts,
    )


def agree(table, config=ALL):
    """Both ways; the same rows to the byte."""
    found = resolve_overlaps(table, NOTHING, config)
    expected = resolve_overlaps(table, NOTHING, config, by_geos=True)
    assert facts(found) == facts(expected)
    assert found.table.equals(expected.table)
    for name in ("geometry", "bbox", "area_in_meters"):
        assert found.table[name].to_pylist() == expected.table[name].to_pylist()
    return found


@pytest.fixture
def asked(monkeypatch):
    """How many pairs and losers are left to GEOS."""
    numbers = {"pairs": 0, "losers": 0}
    ask, cut = overlap_pairs._ask_geos, overlap._cut_by_geos

    def counting_ask(rows, pairs):
        numbers["pairs"] += len(pairs)
        return ask(rows, pairs)

    def counting_cut(rows, cuts, index):
        numbers["losers"] += len(index)
        return cut(rows, cuts, index)

    monkeypatch.setattr(overlap_pairs, "_ask_geos", counting_ask)
    monkeypatch.setattr(overlap, "_cut_by_geos", counting_cut)
    return numbers


def turned_box(x, y, width, height, angle_deg):
    made = shapely.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    turned = shapely.affinity.rotate(made, angle_deg)
    return shapely.transform(turned, np.round)


# ------------------------------------------------------------------------------------ known answers


def test_a_cut_follows_both_outlines_and_rounds_crossings():
    wide = shapely.Polygon([(0, 0), (3000, 7), (3000, 1007), (0, 1000)])
    tall = shapely.Polygon([(1000, -500), (1503, -500), (1500, 500), (1003, 500)])
    found = agree(table_of([tall, wide]))
    middle = np.round(np.array(PLACES["town"][0]) * STEPS_PER_DEGREE)
    ring = shapely.from_wkb(found.table["geometry"][1].as_py()).exterior
    steps = np.asarray(ring.coords) * STEPS_PER_DEGREE - middle
    # y = 7 x / 3000 at x = 1001.5 and 1501.5 of the slanted sides: 2.34 and 3.50 steps.
    assert steps.tolist() == [
        [0, 0],
        [1002, 2],
        [1003, 500],
        [1500, 500],
        [1501, 4],
        [3000, 7],
        [3000, 1007],
        [0, 1000],
        [0, 0],
    ]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("angle_deg", [3, 17, -31, -5])
def test_ordinary_neighbours_need_no_geos(asked, place, angle_deg):
    shapes = [turned_box(k * 2900, 13 * k, 3000, 2400, angle_deg) for k in range(-4, 5)]
    found = agree(table_of(shapes, place))
    assert found.num_trimmed > 0
    # `agree` asks GEOS alone about all of them, once.
    assert asked["losers"] == len(shapes) - 1
    asked["losers"] = asked["pairs"] = 0
    resolve_overlaps(table_of(shapes, place), NOTHING, ALL)
    assert asked == {"pairs": 0, "losers": 0}


@pytest.mark.parametrize(
    ("shapes", "num_trimmed"),
    [
        # The first one covers the second: 0.
        ([turned_box(0, 0, 3000, 3000, 20), turned_box(10, 0, 900, 900, 50)], 0),
        # Apart, though their boxes meet.
        ([turned_box(0, 0, 6000, 900, 40), turned_box(2400, -2400, 6000, 900, 40)], 0),
        # Cut in two, and in three.
        ([turned_box(300, 0, 500, 9000, 2), turned_box(0, 0, 6000, 2000, 11)], 1),
        (
            [
                *(turned_box(x, 0, 300, 9000, 2) for x in (-1200, 900)),
                turned_box(0, 0, 6000, 2000, 11),
            ],
            1,
        ),
        # Two winners that overlap each other.
        (
            [
                *(turned_box(x, 2000, 2000, 2000, 9) for x in (-900, 1000)),
                turned_box(0, 0, 4000, 3000, 11),
            ],
            2,
        ),
    ],
)
def test_plain_cases_need_no_geos(asked, shapes, num_trimmed):
    table = table_of(shapes)
    found = resolve_overlaps(table, NOTHING, ALL)
    assert asked == {"pairs": 0, "losers": 0}
    assert found.num_trimmed == num_trimmed
    agree(table)


@pytest.mark.parametrize(
    "shapes",
    [
        # A hole is made; there is one; parts of the same size; a spike thinner than a step.
        [turned_box(0, 0, 900, 900, 20), turned_box(10, 0, 3000, 3000, 50)],
        [
            turned_box(1500, 0, 1500, 900, 1),
            shapely.box(-1500, -1500, 1500, 1500) - shapely.box(-900, -900, 900, 900),
        ],
        [shapely.box(-200, -3000, 200, 3000), shapely.box(-2000, -1000, 2000, 1000)],
        [
            shapely.Polygon([(0, 0), (4000, 0), (10, 1), (0, 2000)]),
            turned_box(2000, 1000, 900, 3000, 3),
        ],
        # Winners around a courtyard, one in the other, three on one another.
        [
            shapely.box(-2000, -2000, 2000, 2000) - shapely.box(-1500, -2500, 1400, 1500),
            turned_box(0, -1500, 6000, 900, 2),
            turned_box(100, 0, 3500, 3600, 7),
        ],
        [
            turned_box(0, 0, 3000, 2000, 5),
            turned_box(0, 0, 1000, 900, 7),
            turned_box(1500, 500, 3000, 1200, 33),
        ],
        [turned_box(300 * k, 100 * k * k, 2000, 1500, 31 * k) for k in range(4)],
    ],
)
def test_what_is_not_plain_is_the_same(shapes):
    for chosen in (shapes, shapes[::-1]):
        agree(table_of(chosen))


def test_a_row_that_is_not_on_the_lattice_is_not_plain():
    steps = np.array([[0, 0], [2000, 0], [2000, 2000], [0, 2000], [0, 0]], np.float64)
    shapes = [steps, steps + [0.25, 0], steps[::-1], steps * [1000, 1], steps * 0]
    shapes[4] = np.array([[0, 0], [2000, 2000], [2000, 0], [0, 2000], [0, 0]])
    column = pa.array(
        [shapely.to_wkb(shapely.Polygon(shape * COORDINATE_STEP_DEG)) for shape in shapes]
    )
    rings = rings_from_wkb(column)
    assert rings.is_plain.tolist() == [True, False, False, False, False]
    assert rings.twice_area.tolist() == [2 * 2000**2, 0, 0, 0, 0]
    assert rings_from_wkb(polygons_to_wkb(PolygonArray.empty())).is_plain.tolist() == []
    several = pa.array(
        [column[0].as_py(), shapely.to_wkb(shapely.MultiPolygon([shapely.box(0, 0, 1, 1)]))]
    )
    assert rings_from_wkb(several).is_plain.tolist() == [False, False]


# --------------------------------------------------------------------------------------- properties


def star(rng, x, y, radius, num):
    """A star-shaped ring of many vertices, valid on the lattice or nearly so."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, num))
    length = rng.uniform(0.3 * radius, radius, num)
    ring = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + [x, y]
    return shapely.Polygon(np.round(ring))


def ell(rng, x, y, size, angle_deg):
    """Six corners, squared."""
    a, b = rng.uniform(0.3, 0.8, 2) * size
    shape = shapely.Polygon([(0, 0), (size, 0), (size, a), (b, a), (b, size), (0, size)])
    turned = shapely.affinity.rotate(shape, angle_deg, origin=(0, 0))
    return shapely.transform(shapely.affinity.translate(turned, x, y), np.round)


def with_hole(shape):
    hole = shapely.transform(shapely.affinity.scale(shape, 0.5, 0.5), np.round)
    made = shapely.Polygon(shape.exterior, [hole.exterior])
    return made if shapely.is_valid(made) else shape


@st.composite
def crowds(draw):
    """Shapes of all kinds on and beside one another; where small, steps make contacts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.sampled_from([6, 15, 40, 200, 3000, 3000, 3000, 30_000]))
    spread = draw(st.sampled_from([0.5, 1.0, 2.0])) * size
    common_deg = draw(st.sampled_from([0.0, 0.0, 11.0, 45.0]))
    shapes = []
    for _ in range(draw(st.integers(2, 9))):
        x, y = np.round(rng.uniform(-spread, spread, 2))
        kind = draw(st.sampled_from(["box", "aligned", "ell", "star", "again", "hole"]))
        if kind == "star":
            shape = star(rng, x, y, size, int(rng.integers(3, 40)))
        elif kind == "ell":
            shape = ell(rng, x, y, size, rng.uniform(0, 360))
        elif kind == "aligned":
            shape = turned_box(x, y, *np.round(rng.uniform(0.2, 1.5, 2) * size), common_deg)
        elif kind == "again" and shapes:
            # Moved along one of its own edges, or not at all: shared edges and vertices.
            shape = shapes[int(rng.integers(len(shapes)))]
            points = shapely.get_coordinates(shape)
            k = int(rng.integers(len(points) - 1))
            shift = (points[k + 1] - points[k]) * rng.choice([0.0, 0.5, 1.0])
            shape = shapely.transform(shape, lambda xy, shift=shift: np.round(xy + shift))
        else:
            shape = turned_box(
                x, y, *np.round(rng.uniform(0.2, 1.5, 2) * size), rng.uniform(-50, 50)
            )
        if kind == "hole":
            shape = with_hole(shape)
        if shapely.is_valid(shape) and shape.area > 0 and shape.geom_type == "Polygon":
            shapes.append(shape)
    return shapes


@given(crowds(), st.sampled_from(sorted(PLACES)), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=300)
def test_equals_geos(shapes, place, random):
    if not shapes:
        return
    confidence = [random.choice([0.5, 0.6, 0.7, 0.8, 0.9]) for _ in shapes]
    zones = [random.choice(PLACES[place][1]) for _ in shapes]
    table = table_of(shapes, place, confidence, zones)
    agree(table)
    agree(table, OverlapConfig())


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3]), st.floats(0.001, 0.4))
@settings(deadline=None, max_examples=200)
def test_slivers_equal_geos(seed, num_neighbours, gap):
    """Walls side by side that run into each other at a shallow angle: many near misses."""
    rng = np.random.default_rng(seed)
    angle_deg = rng.uniform(0, 90)
    shapes = [turned_box(0, 0, 3000, 2500, angle_deg)]
    for k in range(num_neighbours):
        toward = math.radians(angle_deg + 90 * k)
        reach = 2800 - gap * rng.uniform(-100, 400)
        x, y = reach * math.cos(toward), reach * math.sin(toward)
        shapes.append(turned_box(x, y, 2700, 2700, angle_deg + gap * rng.uniform(-3, 3)))
    for order in (1, -1):
        agree(table_of(shapes[::order]))


def test_a_town_mostly_needs_no_geos(asked):
    rng = np.random.default_rng(4)
    places = np.stack(np.divmod(np.arange(400), 20), axis=1) * 3000 + rng.normal(0, 300, (400, 2))
    shapes = [ell(rng, x, y, rng.uniform(2000, 3300), rng.normal(0, 9)) for x, y in places.tolist()]
    table = table_of(shapes, confidence=rng.uniform(0.5, 1.0, 400).tolist())
    found = resolve_overlaps(table, NOTHING, OverlapConfig())
    assert found.num_trimmed > 100
    assert asked["losers"] < 0.1 * found.num_trimmed
    assert asked["pairs"] < 0.05 * found.num_trimmed
    agree(table, OverlapConfig())
