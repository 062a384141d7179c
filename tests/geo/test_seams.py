import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_drawings import (
    THRESHOLD,
    assert_invariants,
    assert_same_arrays,
    draw_blobs,
    draw_checkerboard,
    draw_comb,
    draw_lattice,
    draw_noise,
    draw_rings,
    draw_spiral,
    masks,
    probability_of,
)

from geo.components import find_instances, split_oversize
from geo.errors import GeometryError
from geo.instance_tables import pieces_from_table, pieces_to_table
from geo.instances import Instances, concat_instances
from geo.pixel_window import PixelWindow
from geo.rim import Rim, find_rim
from geo.seams import (
    OversizeReport,
    Pieces,
    concat_oversize,
    concat_pieces,
    is_open,
    merge_level,
    merge_touching,
    parent_cell,
    split_cell,
)
from geo.trace import trace_outlines

NO_LIMIT = 1 << 30


class Mosaic:
    """A drawn mosaic at some place of the grid; everything beyond it is empty."""

    def __init__(self, mask, seed=0, row_off=0, col_off=0):
        rng = np.random.default_rng(seed)
        self.probability = probability_of(mask, rng)
        self.images = rng.integers(0, 3, mask.shape).astype(np.uint16)
        self.rim = find_rim(self.probability, self.probability >= THRESHOLD)
        self.window = PixelWindow(col_off, row_off, mask.shape[1], mask.shape[0])

    def find(self, window=None):
        """Instances of a window, which may reach beyond the mosaic."""
        window = self.window if window is None else window
        pad = (window.height, window.height), (window.width, window.width)
        outer = PixelWindow(
            self.window.col_off - window.width,
            self.window.row_off - window.height,
            self.window.width + 2 * window.width,
            self.window.height + 2 * window.height,
        )
        place = window.within(outer)
        return find_instances(
            np.pad(self.probability, pad)[place],
            threshold=THRESHOLD,
            window=window,
            image_index=np.pad(self.images, pad)[place],
            rim=Rim(np.pad(self.rim.total, pad)[place], np.pad(self.rim.count, pad)[place]),
        )

    def tiles(self, tile_px):
        """Windows of all tiles that meet the mosaic, anchored to the grid's origin."""
        window = self.window
        rows = range(window.row_off // tile_px, -(-window.row_end // tile_px))
        cols = range(window.col_off // tile_px, -(-window.col_end // tile_px))
        return [PixelWindow(c * tile_px, r * tile_px, tile_px, tile_px) for r in rows for c in cols]


def merge_tiles(mosaic, tile_px, *, max_extent_px=NO_LIMIT, rng=None, factor=4):
    """Everything a pipeline does, in any order: (whole instances, report, most open runs)."""
    rng = np.random.default_rng(0) if rng is None else rng
    whole, reports, most_runs = [], [], 0
    cells = {}

    def collect(result, cell):
        whole.append(result.whole)
        reports.append(result.oversize)
        shuffled = result.open.take(rng.permutation(len(result.open)))
        stored = pieces_from_table(pieces_to_table(shuffled))
        cells.setdefault(parent_cell(cell, factor), []).append(stored)
        return len(result.open.instances.run_row)

    tiles = mosaic.tiles(tile_px)
    for index in rng.permutation(len(tiles)):
        tile = tiles[index]
        collect(split_cell(mosaic.find(tile), tile, max_extent_px), tile)
    while len(cells) > 1 and any(cell.width < 4096 for cell in cells):
        level, cells = cells, {}
        keys = list(level)
        for index in rng.permutation(len(keys)):
            parts = level[keys[index]]
            rng.shuffle(parts)
            result = merge_level(parts, keys[index], max_extent_px)
            most_runs = max(most_runs, collect(result, keys[index]))
    result = merge_level([part for parts in cells.values() for part in parts], None, max_extent_px)
    assert len(result.open) == 0
    whole, reports = [*whole, result.whole], [*reports, result.oversize]
    return concat_instances(whole), concat_oversize(reports), most_runs


def assert_equals_whole(mosaic, tile_px, *, max_extent_px=NO_LIMIT, rng=None, factor=4):
    """The law: merged = traced at once, to the byte."""
    merged, report, _ = merge_tiles(
        mosaic, tile_px, max_extent_px=max_extent_px, rng=rng, factor=factor
    )
    assert_invariants(merged)
    fitting, oversize = split_oversize(mosaic.find(), max_extent_px)
    assert_same_arrays(merged, fitting)
    assert_same_arrays(trace_outlines(merged), trace_outlines(fitting))
    assert_same_arrays(report, OversizeReport.from_pieces(Pieces.from_instances(oversize)))


places = st.sampled_from([(0, 0), (-7, -13), (-40, 3), (-1_000_003, 999_999), (5, -64)])


@settings(deadline=None, max_examples=80)
@given(
    mask=masks(max_side=40),
    tile_px=st.integers(3, 20),
    place=places,
    factor=st.sampled_from([2, 3, 4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_merged_equals_the_whole_for_any_tiles_and_order(mask, tile_px, place, factor, seed):
    mosaic = Mosaic(mask, seed, *place)
    assert_equals_whole(mosaic, tile_px, rng=np.random.default_rng(seed), factor=factor)


@settings(deadline=None, max_examples=80)
@given(
    mask=masks(max_side=40),
    tile_px=st.integers(3, 20),
    place=places,
    max_extent_px=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_oversize_does_not_depend_on_tiles(mask, tile_px, place, max_extent_px, seed):
    mosaic = Mosaic(mask, seed, *place)
    rng = np.random.default_rng(seed)
    assert_equals_whole(mosaic, tile_px, max_extent_px=max_extent_px, rng=rng)


def _drawn(draw):
    return draw((70, 90))


def _ring_over_four_tiles():
    mask = np.zeros((32, 32), bool)
    mask[6:26, 6:26] = True
    mask[8:24, 8:24] = False
    mask[12:20, 12:20] = True
    return mask


def _hall_over_five_tiles():
    mask = np.zeros((32, 96), bool)
    mask[5:12, 3:79] = True
    mask[7:9, 14:18] = False  # a hole across a seam
    mask[8, 30:34] = False
    return mask


def _diagonal_touch_on_a_tile_corner():
    mask = np.zeros((32, 32), bool)
    mask[10:16, 10:16] = mask[16:20, 16:20] = True
    return mask


def _full_and_empty_tiles():
    mask = np.zeros((48, 48), bool)
    mask[16:32, 16:32] = mask[0:16, 32:48] = True
    return mask


DRAWINGS = {
    "spiral": _drawn(draw_spiral),
    "rings": _drawn(draw_rings),
    "checkers": _drawn(draw_checkerboard),
    "comb": _drawn(draw_comb),
    "lattice": _drawn(draw_lattice),
    "full": np.ones((70, 90), bool),
    "empty": np.zeros((70, 90), bool),
    "ring over four tiles": _ring_over_four_tiles(),
    "hall over five tiles": _hall_over_five_tiles(),
    "diagonal touch on a tile's corner": _diagonal_touch_on_a_tile_corner(),
    "full and empty tiles": _full_and_empty_tiles(),
    "noise": draw_noise(np.random.default_rng(1), (90, 70), 0.59),
    "blobs": draw_blobs(np.random.default_rng(2), (90, 70), 0.5),
}


@pytest.mark.parametrize("tile_px", [1, 2, 5, 16, 33])
@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings(name, tile_px):
    side = 12 * tile_px if tile_px < 5 else 96  # tiny tiles are slow: fewer of them
    mosaic = Mosaic(DRAWINGS[name][:side, :side], row_off=-32, col_off=-16)
    assert_equals_whole(mosaic, tile_px)
    assert_equals_whole(mosaic, tile_px, max_extent_px=21)


def test_hall_over_five_tiles_is_one_instance_with_two_holes():
    merged, _, _ = merge_tiles(Mosaic(_hall_over_five_tiles()), 16)
    (polygon,) = trace_outlines(merged).to_shapely()
    assert len(polygon.interiors) == 2
    assert polygon.area == 7 * 76 - 12


def test_diagonal_neighbours_are_two_instances():
    assert len(merge_tiles(Mosaic(_diagonal_touch_on_a_tile_corner()), 16)[0]) == 2


@pytest.mark.parametrize("tile_px", [16, 64])
def test_an_oversize_instance_keeps_memory_bounded(tile_px):
    """A spiral through everything travels as border pixels, not as a spiral."""
    mosaic = Mosaic(draw_spiral((256, 256)))
    merged, report, most_runs = merge_tiles(mosaic, tile_px, max_extent_px=8)
    assert len(merged) == 0
    assert report.num_pixels.tolist() == [(mosaic.probability >= THRESHOLD).sum()]
    assert report.bounds.tolist() == [[0, 0, 256, 256]]
    assert report.first_pixels.tolist() == [[0, 0]]
    assert most_runs < 4 * 256 < len(mosaic.find().run_row) / 16


def test_oversize_spreads_to_what_touches_it_only():
    mask = np.zeros((8, 24), bool)
    mask[2, 0:20] = True  # 20 px long, over three tiles
    mask[4, 6:10] = True  # a neighbour that does not touch
    merged, report, _ = merge_tiles(Mosaic(mask), 8, max_extent_px=19)
    assert merged.first_pixels().tolist() == [[4, 6]]
    assert report.first_pixels.tolist() == [[2, 0]]
    assert report.num_pixels.tolist() == [20]
    merged, report, _ = merge_tiles(Mosaic(mask), 8, max_extent_px=20)
    assert len(merged) == 2
    assert len(report) == 0


def test_what_has_lost_its_runs_stays_oversize_under_a_larger_limit():
    mask = np.zeros((8, 16), bool)
    mask[2, 2:12] = True
    mosaic = Mosaic(mask)
    left, right = mosaic.tiles(8)
    pieces = [
        split_cell(mosaic.find(left), left, 5).open,  # 6 px: only its last pixel is kept
        split_cell(mosaic.find(right), right, 5).open,
    ]
    assert [part.is_oversize.tolist() for part in pieces] == [[True], [False]]
    for parts in (pieces, pieces[::-1]):
        result = merge_level(parts, None, 1000)
        assert len(result.whole) == 0
        assert result.oversize.bounds.tolist() == [[2, 2, 3, 12]]
        assert result.oversize.num_pixels.tolist() == [10]


def test_is_open_looks_at_all_four_sides():
    mask = np.zeros((9, 9), bool)
    mask[0, 4] = mask[8, 4] = mask[4, 0] = mask[4, 8] = mask[4, 4] = mask[1, 1:8] = True
    found = Mosaic(mask, row_off=-100, col_off=50).find()
    # The one in the middle and nothing else is closed; row 1 touches the pixel of row 0.
    flags = is_open(found, PixelWindow(50, -100, 9, 9))
    assert found.first_pixels()[~flags].tolist() == [[-96, 54]]
    assert is_open(Instances.empty(), PixelWindow(0, 0, 9, 9)).tolist() == []
    assert not is_open(found, PixelWindow(49, -101, 11, 11)).any()


def test_split_cell_at_one_tile():
    mask = np.zeros((16, 16), bool)
    mask[3:6, 3:6] = mask[0:4, 10:12] = mask[8, 1:15] = mask[12:16, 0:14] = True
    mosaic = Mosaic(mask, row_off=-16)
    result = split_cell(mosaic.find(), mosaic.window, 10)
    assert result.whole.first_pixels().tolist() == [[-13, 3]]
    assert result.oversize.bounds.tolist() == [[-8, 1, -7, 15]]
    assert result.open.first_pixels.tolist() == [[-16, 10], [-4, 0]]
    assert result.open.is_oversize.tolist() == [False, True]
    assert result.open.instances.num_pixels.tolist() == [8, 56]
    # The oversize piece keeps its left column and its last row.
    kept = result.open.instances.take(np.array([1]))
    assert kept.run_row.tolist() == [-4, -3, -2, -1]
    assert kept.run_end.tolist() == [1, 1, 1, 14]
    everything = split_cell(mosaic.find(), None, 100)
    assert_same_arrays(everything.whole, mosaic.find())


@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_cells_keep_both_columns_of_an_oversize_piece(width):
    mosaic = Mosaic(np.ones((5, width), bool))
    kept = split_cell(mosaic.find(), mosaic.window, 1).open.instances
    full = [0, *([0] * 3 if width < 3 else [0, 2] * 3), 0]
    assert kept.run_start.tolist() == full
    ends = [width, *([width] * 3 if width < 3 else [1, 3] * 3), width]
    assert kept.run_end.tolist() == ends


def test_merge_touching_ignores_the_order_and_what_is_apart():
    rng = np.random.default_rng(3)
    mosaic = Mosaic(draw_noise(rng, (60, 60), 0.5), seed=4)
    parts = concat_instances([mosaic.find(tile) for tile in mosaic.tiles(7)])
    merged = merge_touching(parts)
    assert_same_arrays(merged, mosaic.find())
    assert_same_arrays(merge_touching(parts.take(rng.permutation(len(parts)))), merged)
    assert_same_arrays(merge_touching(merged), merged)
    assert len(merge_touching(Instances.empty())) == 0


def test_a_tile_given_twice_is_refused():
    mosaic = Mosaic(np.ones((8, 8), bool), row_off=-8)
    pieces = split_cell(mosaic.find(), mosaic.window, 100).open
    with pytest.raises(GeometryError, match=r"row -8, col 0\) belongs to two runs"):
        merge_level([pieces, pieces], PixelWindow(0, -32, 32, 32), 100)


def test_pieces_outside_their_cell_are_refused():
    mosaic = Mosaic(np.ones((8, 8), bool), row_off=-8)
    with pytest.raises(ValueError, match="reaches out of its cell"):
        split_cell(mosaic.find(), PixelWindow(0, 0, 8, 8), 100)
    with pytest.raises(ValueError, match="max_extent_px = 0"):
        merge_level([], None, 0)


def test_no_pieces():
    result = merge_level([Pieces.empty(), Pieces.empty()], PixelWindow(0, 0, 8, 8), 10)
    assert len(result.whole) == len(result.open) == len(result.oversize) == 0
    assert len(concat_pieces([])) == 0
    assert len(concat_oversize([])) == 0


def test_parent_cells_are_anchored_to_the_origin():
    assert parent_cell(PixelWindow(-8, -40, 8, 8)) == PixelWindow(-32, -64, 32, 32)
    assert parent_cell(PixelWindow(24, 32, 8, 8)) == PixelWindow(0, 32, 32, 32)
    assert parent_cell(PixelWindow(24, 32, 8, 8), factor=2) == PixelWindow(16, 32, 16, 16)


def test_pieces_survive_arrow_files(tmp_path):
    rng = np.random.default_rng(6)
    mosaic = Mosaic(draw_blobs(rng, (64, 64), 0.5), row_off=-64, col_off=700_000)
    pieces = split_cell(mosaic.find(), mosaic.window, 12).open
    assert 0 < pieces.is_oversize.sum() < len(pieces)
    path = tmp_path / "pieces.arrow"
    table = pieces_to_table(pieces)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    with pa.memory_map(str(path)) as source:
        assert_same_arrays(pieces_from_table(pa.ipc.open_file(source).read_all()), pieces)
