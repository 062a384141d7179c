import math

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.errors import RasterError
from model.drawing.canvas import Sun
from model.drawing.fill_polygon import fill_polygon
from model.drawing.light import shadow_share
from model.drawing.noise import BANK_PX, broad_noise, noise_bank, noise_patch
from model.drawing.occupancy import BUILT, Occupancy
from model.drawing.outlines import Pose, courtyard, draw_outline, l_shape, t_shape, u_shape
from model.drawn_towns import STYLES, draw_scene
from model.write_drawn import ScenePlace, write_scene_image, write_scene_outlines

PLACE = ScenePlace(epsg=32631, left_m=500_000.0, top_m=2_000.0)


@pytest.fixture(scope="module")
def scenes():
    """One small scene of every style."""
    return {name: draw_scene(11, 320, 0.3, name) for name in STYLES}


def as_polygon(rings):
    return shapely.Polygon(rings[0], rings[1:])


def polygons_of(scene):
    return np.array([as_polygon(rings) for rings in scene.polygons], object)


# --- the promises of a scene ---------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws_buildings(scenes, style):
    scene = scenes[style]
    assert scene.image.shape == (320, 320, 3)
    assert scene.image.dtype == np.uint8
    assert scene.ids.dtype == np.int32
    assert len(scene.polygons) >= 1
    assert scene.image.std() > 8


@pytest.mark.parametrize("style", STYLES)
def test_ids_are_the_outlines(scenes, style):
    scene = scenes[style]
    y, x = np.mgrid[0:320, 0:320] + 0.5
    expected = np.zeros((320, 320), np.int32)
    for index, polygon in enumerate(polygons_of(scene)):
        expected[shapely.contains_xy(polygon, x, y)] = index + 1
    # A centre exactly on an edge may go either way; no drawn corner is that round.
    np.testing.assert_array_equal(scene.ids, expected)
    assert set(np.unique(scene.ids)) - {0} == set(range(1, len(scene.polygons) + 1))


@pytest.mark.parametrize("style", STYLES)
def test_areas_of_ids_are_those_of_the_outlines(scenes, style):
    scene = scenes[style]
    polygons = polygons_of(scene)
    whole = shapely.within(polygons, shapely.box(0, 0, 320, 320))
    pixels = np.bincount(scene.ids.ravel(), minlength=len(polygons) + 1)[1:]
    # An edge of length n cuts about n pixels, which fall on either side.
    room = 0.6 * shapely.length(polygons) + 1
    assert (np.abs(pixels - shapely.area(polygons)) <= room)[whole].all()


@pytest.mark.parametrize("style", STYLES)
def test_buildings_do_not_overlap(scenes, style):
    polygons = polygons_of(scenes[style])
    assert shapely.is_valid(polygons).all()
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    pairs = first < second
    shared = shapely.area(shapely.intersection(polygons[first[pairs]], polygons[second[pairs]]))
    assert (shared < 1e-9).all()


def test_row_houses_share_walls_and_keep_their_ids(scenes):
    scene = scenes["row_houses"]
    polygons = polygons_of(scene)
    first, second = shapely.STRtree(polygons).query(polygons, predicate="dwithin", distance=1e-6)
    touching = [
        (a, b)
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
        if a < b and polygons[a].buffer(1e-6).intersection(polygons[b].boundary).length > 4
    ]
    assert len(touching) >= 5
    right = np.stack([scene.ids[:, :-1].ravel(), scene.ids[:, 1:].ravel()])
    below = np.stack([scene.ids[:-1].ravel(), scene.ids[1:].ravel()])
    beside = {tuple(sorted(pair)) for pair in np.concatenate([right, below], axis=1).T.tolist()}
    visible = [(a, b) for a, b in touching if {a + 1, b + 1} <= set(np.unique(scene.ids))]
    assert sum((a + 1, b + 1) in beside for a, b in visible) >= 0.8 * len(visible)


def test_same_seed_same_bytes():
    one, two = draw_scene(3, 200, 0.4), draw_scene(3, 200, 0.4)
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.ids, two.ids)
    for first, second in zip(one.polygons, two.polygons, strict=True):
        assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_another_seed_draws_another_scene():
    one, two = draw_scene(3, 200, 0.4, "planned"), draw_scene(4, 200, 0.4, "planned")
    assert (one.image != two.image).mean() > 0.5


@pytest.mark.parametrize("gsd_m", [0.1, 0.2, 0.6, 1.0])
def test_houses_have_the_size_of_houses_at_any_pixel_size(gsd_m):
    scene = draw_scene(5, 256, gsd_m, "suburb")
    whole = shapely.within(polygons_of(scene), shapely.box(0, 0, 256, 256))
    areas_m2 = shapely.area(polygons_of(scene)[whole]) * gsd_m**2
    assert len(scene.polygons) >= 1
    assert ((areas_m2 > 3) & (areas_m2 < 1000)).all()


def test_a_town_without_a_style_has_districts():
    scene = draw_scene(2, 500, 1.0)
    assert len(scene.polygons) > 100
    assert scene.ids.max() == len(scene.polygons)


def test_roofs_stand_out_from_the_ground_they_stand_on(scenes):
    """A scene whose labels are shifted or shuffled would fail here."""
    contrasts = []
    for scene in scenes.values():
        grey = scene.image.mean(axis=2)
        edge_x = np.abs(np.diff(grey, axis=1))
        at_edge = (scene.ids[:, 1:] > 0) != (scene.ids[:, :-1] > 0)
        contrasts.append(edge_x[at_edge].mean() / edge_x[~at_edge].mean())
    assert np.mean(contrasts) > 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((-1, 64, 0.3, None), "seed"),
        ((0, 8, 0.3, None), "size_px"),
        ((0, 64, 9.0, None), "gsd_m"),
        ((0, 64, 0.3, "atlantis"), "atlantis"),
    ],
)
def test_refuses_what_cannot_be_drawn(arguments, word):
    with pytest.raises(ValueError, match=word):
        draw_scene(*arguments)


# --- files ---------------------------------------------------------------------------------------


def test_georeferenced_files_round_trip(tmp_path, scenes):
    scene = scenes["planned"]
    write_scene_image(tmp_path / "town.tif", scene, PLACE)
    write_scene_outlines(tmp_path / "town.geojson", scene, PLACE)
    with rasterio.open(tmp_path / "town.tif") as image:
        assert image.crs.to_epsg() == 32631
        assert image.driver == "GTiff"
        assert image.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        pixels = np.moveaxis(image.read(), 0, -1).astype(int)
        to_pixels = ~image.transform
    assert np.abs(pixels - scene.image).mean() < 6  # JPEG
    frame = geopandas.read_file(tmp_path / "town.geojson").to_crs(32631)
    assert frame["id"].tolist() == list(range(1, len(scene.polygons) + 1))
    for shape, rings in zip(frame.geometry, scene.polygons, strict=True):
        corners = np.array([to_pixels @ corner for corner in shape.exterior.coords[:-1]])
        np.testing.assert_allclose(corners, rings[0], atol=1e-3)


def test_an_image_that_cannot_be_written_says_so(tmp_path, scenes):
    with pytest.raises(RasterError, match=r"town\.tif"):
        write_scene_image(tmp_path / "missing" / "town.tif", scenes["planned"], PLACE)


# --- parts ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=8),
    st.floats(0.1, 3),
)
def test_filling_agrees_with_geos(points, scale):
    ring = np.array(points) * scale
    hull = shapely.convex_hull(shapely.multipoints(ring))
    if hull.geom_type != "Polygon" or hull.area < 1e-3:
        return
    corners = np.array(hull.exterior.coords[:-1])
    filled = fill_polygon([corners], (20, 24))
    mask = np.zeros((20, 24), bool)
    if filled is not None:
        mask[filled.rows, filled.cols] = filled.mask
    y, x = np.mgrid[0:20, 0:24] + 0.5
    inside = shapely.contains_xy(hull, x, y)
    doubtful = shapely.distance(shapely.points(x, y), hull.boundary) < 1e-9
    np.testing.assert_array_equal(mask[~doubtful], inside[~doubtful])


@settings(max_examples=60)
@given(st.integers(0, 10_000))
def test_polygons_that_share_an_edge_share_no_pixel_and_leave_none(seed):
    rng = np.random.default_rng(seed)
    # Corners on half pixels: centres fall on edges and corners all the time.
    a, b = np.round(rng.uniform(1, 15, (2, 2)) * 2) / 2
    side = np.array([-(b - a)[1], (b - a)[0]])
    if not side.any():
        return
    quad = np.array([a + side, a, b, b + side])
    other = np.array([a - side, b - side, b, a])
    both = np.array([a + side, a - side, b - side, b + side])
    count = np.zeros((40, 40), int)
    for ring in (quad, other):
        filled = fill_polygon([ring + 12], (40, 40))
        if filled is not None:
            count[filled.rows, filled.cols] += filled.mask
    whole = np.zeros((40, 40), int)
    filled = fill_polygon([both + 12], (40, 40))
    if filled is not None:
        whole[filled.rows, filled.cols] += filled.mask
    np.testing.assert_array_equal(count, whole)


def test_a_courtyard_is_ground():
    outline = courtyard(20, 20, 5)
    filled = fill_polygon([ring + 16 for ring in outline.rings], (32, 32))
    assert filled is not None
    assert filled.mask.sum() == 400 - 100
    assert not filled.mask[filled.mask.shape[0] // 2, filled.mask.shape[1] // 2]


@pytest.mark.parametrize(
    "outline",
    [
        l_shape(12, 8, 5, 4),
        t_shape(12, 8, 4, 3, 0.5),
        t_shape(12, 8, 4, 3, 0.0),
        u_shape(14, 6, 4, 5),
        courtyard(18, 14, 4),
        *(draw_outline(np.random.default_rng(seed), 12, 9) for seed in range(20)),
    ],
)
def test_an_outline_is_the_union_of_its_boxes(outline):
    polygon = as_polygon(outline.rings)
    assert shapely.union_all([shapely.box(*box) for box in outline.boxes]).equals(polygon)


def test_poses_turn_and_move():
    pose = Pose(10, 20, math.pi / 2)
    np.testing.assert_allclose(pose.apply((2, 0)), (10, 22), atol=1e-12)
    there = pose.moved(2, 1, 0.5)
    np.testing.assert_allclose((there.x, there.y, there.angle), (9, 22, math.pi / 2 + 0.5))


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_claimed_outlines_never_overlap(seed):
    rng = np.random.default_rng(seed)
    occupancy = Occupancy(30, 5)
    kept = []
    for _ in range(25):
        pose = Pose(*rng.uniform(0, 30, 2), float(rng.uniform(0, 3)))
        ring = pose.apply(draw_outline(rng, *rng.uniform(2, 9, 2)).rings[0])
        if occupancy.claim([ring]):
            kept.append(shapely.Polygon(ring))
    shapes = np.array(kept, object)
    for index, shape in enumerate(shapes):
        assert not shapely.intersects(shape, shapes[index + 1 :]).any()


def test_a_group_may_touch_itself_but_nothing_else():
    occupancy = Occupancy(20, 2)
    ring = np.array([(0, 0), (5, 0), (5, 5), (0, 5)], float)
    assert occupancy.claim([ring])
    assert occupancy.claim_group([ring + (6, 0), ring + (11, 0), ring + (3, 0)]) == [
        True,
        True,
        False,
    ]
    assert occupancy.at(8, 2) == BUILT
    assert not occupancy.claim([ring + (12, 3)])


def test_shadows_agree_with_a_march_towards_the_sun():
    rng = np.random.default_rng(1)
    height = np.zeros((60, 60), np.float32)
    for _ in range(5):
        row, col = rng.integers(10, 45, 2)
        height[row : row + 8, col : col + 6] = rng.uniform(3, 9)
    sun = Sun(0.0, -math.cos(0.8), math.sin(0.8), 0.4)
    share = shadow_share(height, 0.5, sun)
    expected = np.zeros(height.shape, bool)
    for row in range(60):
        for step in range(1, row + 1):
            drop = step * 0.5 * math.tan(0.8)
            expected[row] |= height[row - step] - drop > height[row] + 0.3
    # Straight up the rows no value is interpolated: what differs lies in the soft edge.
    assert (share[expected] > 0.3).all()
    assert (share > 0.9).sum() <= expected.sum()


def test_level_ground_has_the_sun_of_level_ground():
    sun = Sun(0.6, 0.0, 0.8, 0.4)
    assert sun.shade(0.0, 0.0) == pytest.approx(1.0)
    assert sun.shade(-0.5, 0.0) > 1 > sun.shade(0.5, 0.0)
    assert sun.shade(5.0, 0.0) == pytest.approx(0.4)


def test_noise_is_periodic_and_standard():
    bank = noise_bank(5)
    assert bank.mean() == pytest.approx(0, abs=1e-3)
    assert bank.std() == pytest.approx(1, abs=1e-3)
    inner = np.abs(np.diff(bank, axis=1)).mean()
    assert np.abs(bank[:, 0] - bank[:, -1]).mean() < 1.5 * inner
    patch = noise_patch(np.random.default_rng(0), (BANK_PX + 5, 30), 3)
    np.testing.assert_array_equal(patch[:5], patch[BANK_PX:])
    broad = broad_noise(np.random.default_rng(0), (400, 300), 20)
    assert broad.shape == (400, 300)
    assert 0.7 < broad.std() < 1.3
