"""Pictures show what they are given, where it is."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import shapely
import synthetic

from geo.grid import Tile, window_bounds_lonlat
from geo.pixel_window import PixelWindow
from geo.polygons import PolygonArray
from pipeline.palette import STATUS_COLOURS, STATUS_ORDER, STATUS_WORDS
from pipeline.pictures import (
    CoverTile,
    StagePicture,
    draw_cover,
    draw_overlay,
    draw_stages,
    local_rings,
    round_down,
)

WINDOW = PixelWindow(5000, -7000, 60, 40)


def _read(path: Path) -> np.ndarray:
    return np.round(matplotlib.image.imread(path)[..., :3] * 255).astype(int)


def _outlines(*polygons_px: shapely.Polygon) -> PolygonArray:
    """Outlines given in the window's own pixels (y down), as grid outlines."""
    shift = [1, 0, 0, -1, WINDOW.col_off, -WINDOW.row_off]
    placed = [shapely.affinity.affine_transform(polygon, shift) for polygon in polygons_px]
    return PolygonArray.from_shapely(shapely.orient_polygons(np.array(placed, object)))


def _share(picture: np.ndarray, colour: str, tolerance: int = 30) -> float:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return float((np.abs(picture - rgb) <= tolerance).all(axis=2).mean())


def test_every_status_has_a_colour_a_word_and_a_rank():
    assert set(STATUS_COLOURS) == set(STATUS_WORDS) == set(STATUS_ORDER)


def test_outlines_land_in_the_windows_own_pixels():
    ring = synthetic.box_px(10, 5, 20, 30).difference(synthetic.box_px(15, 10, 5, 5))
    rings, owner = local_rings(_outlines(ring, synthetic.box_px(40, 0, 20, 40)), WINDOW)
    assert owner.tolist() == [0, 0, 1]
    assert rings[0].min(axis=0).tolist() == [10, 5]
    assert rings[0].max(axis=0).tolist() == [30, 35]
    assert rings[1].min(axis=0).tolist() == [15, 10]
    assert rings[2].max(axis=0).tolist() == [60, 40]
    assert local_rings(PolygonArray.empty(), WINDOW)[0] == []


@pytest.mark.parametrize("scale", [1, 4])
def test_an_overlay_keeps_every_pixel_and_draws_on_pixel_edges(tmp_path, scale):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 60)).astype(np.uint8)
    draw_overlay(tmp_path / "a.png", pixels, PolygonArray.empty(), [], window=WINDOW, scale=scale)
    plain = _read(tmp_path / "a.png")
    expected = pixels.transpose(1, 2, 0).repeat(scale, axis=0).repeat(scale, axis=1)
    assert np.abs(plain - expected).max() <= 1
    outline = _outlines(synthetic.box_px(20, 10, 20, 20))
    draw_overlay(tmp_path / "b.png", pixels, outline, [1.0], window=WINDOW, scale=scale)
    rows, cols = np.nonzero(np.abs(_read(tmp_path / "b.png") - plain).max(axis=2) > 40)
    # The line lies around the edges at columns 20 and 40, rows 10 and 30, symmetrically.
    assert cols.min() + cols.max() == pytest.approx(60 * scale - 1, abs=1)
    assert rows.min() + rows.max() == pytest.approx(40 * scale - 1, abs=1)
    assert 20 * scale - 3 <= cols.min() <= 20 * scale


def test_a_sure_footprint_is_yellow_and_an_unsure_one_blue(tmp_path):
    pixels = np.zeros((3, 40, 60), np.uint8)
    outline = _outlines(synthetic.box_px(20, 10, 20, 20))
    for name, confidence, rgb in [("sure", 1.0, (255, 224, 26)), ("unsure", 0.5, (51, 184, 255))]:
        path = tmp_path / f"{name}.png"
        draw_overlay(path, pixels, outline, [confidence], window=WINDOW, scale=4, line_px=4)
        assert (np.abs(_read(path) - rgb).max(axis=2) < 4).sum() > 100


def test_an_overlay_too_large_to_draw_is_refused(tmp_path):
    window = PixelWindow(0, 0, 20_000, 20_000)
    with pytest.raises(ValueError, match="draw a part of the image"):
        draw_overlay(
            tmp_path / "a.png",
            np.zeros((3, 1, 1), np.uint8),
            PolygonArray.empty(),
            [],
            window=window,
        )


def test_stages_show_images_masks_probability_and_instances(tmp_path):
    town = synthetic.draw_town(200, 200, seed=1, kinds=("rectangle", "courtyard"))
    window = PixelWindow(-1000, 3000, 200, 200)
    probability = np.where(town.mask, 240, 10).astype(np.uint8)
    stages = [
        StagePicture(title="Image", layer=town.pixels),
        StagePicture(title="Valid", layer=town.valid),
        StagePicture(title="Probability", layer=probability, note="threshold 0.5"),
        StagePicture(title="Instances", layer=town.instances),
        StagePicture(title="Pieces", layer=town.instances, highlighted=np.array([1])),
    ]
    for name in ("a.png", "b.png"):
        draw_stages(tmp_path / name, stages, window=window, gsd_m=0.3, title="Tile")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = _read(tmp_path / "a.png")
    assert _share(picture, "#C83C32") > 0.01, "no roof in the image panel"
    assert 0.0005 < _share(picture, "#E69F00", 4) < _share(picture, "#606060", 4)


def test_stages_refuse_a_layer_of_another_shape(tmp_path):
    stage = StagePicture(title="Valid", layer=np.ones((3, 4), bool))
    with pytest.raises(ValueError, match="'Valid' has the shape"):
        draw_stages(tmp_path / "a.png", [stage], window=WINDOW, gsd_m=0.3, title="Tile")
    with pytest.raises(ValueError, match="no stages"):
        draw_stages(tmp_path / "a.png", [], window=WINDOW, gsd_m=0.3, title="Tile")


def test_a_cover_shows_tiles_by_status(tmp_path):
    statuses = ["ok", "empty", "nodata", "planned"]
    tiles = []
    for index, status in enumerate(statuses):
        tile = Tile(36, 300, 4096, -2, 300 + index)
        tiles.append(CoverTile(outline=window_bounds_lonlat(tile.grid, tile.window), status=status))
    middle = tiles[1].outline.mean(axis=0)
    ring = middle + 0.003 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
    draw_cover(
        tmp_path / "cover.png",
        tiles,
        images=[("town", ring)],
        aoi=shapely.Point(*middle).buffer(0.01),
        title="Four tiles",
    )
    picture = _read(tmp_path / "cover.png")
    for status in statuses:
        # Drawn at 80 % over the map's ground.
        rgb = [int(STATUS_COLOURS[status][i : i + 2], 16) for i in (1, 3, 5)]
        shown = "#" + "".join(f"{round(0.8 * v + 0.2 * 244):02X}" for v in rgb)
        assert _share(picture, shown, 6) > 0.02, status


def test_a_cover_of_one_image_and_no_tile_is_drawn_and_of_nothing_is_not(tmp_path):
    ring = np.array([[179.9, 0.0], [180.1, 0.0], [180.1, 0.1], [179.9, 0.1], [179.9, 0.0]])
    draw_cover(tmp_path / "cover.png", [], images=[("fiji", ring)])
    assert (tmp_path / "cover.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="neither tiles nor images"):
        draw_cover(tmp_path / "none.png", [])


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, 1), (1.9, 1), (2.0, 2), (49, 20), (999, 500), (0.07, 0.05)]
)
def test_scale_bars_have_round_lengths(value, expected):
    assert round_down(value) == pytest.approx(expected)


def test_a_cover_across_the_antimeridian_is_in_one_piece(tmp_path):
    east = np.array([[-179.99, 0.0], [-179.9, 0.0], [-179.9, 0.1], [-179.99, 0.1], [-179.99, 0.0]])
    west = east * (-1, 1)
    draw_cover(tmp_path / "cover.png", [CoverTile(outline=west), CoverTile(outline=east)])
    colour = [
        round(0.8 * v + 0.2 * w) for v, w in zip((86, 180, 233), (244, 244, 241), strict=True)
    ]
    shown = "#" + "".join(f"{v:02X}" for v in colour)
    assert _share(_read(tmp_path / "cover.png"), shown, 6) > 0.3
