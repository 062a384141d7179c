"""Levels of MergeSeams, and what its stages hand on through the store."""

from collections import defaultdict

import numpy as np
import pytest
import shapely
from mask_drawings import THRESHOLD, assert_same_arrays, draw_blobs, probability_of
from simulated_runs import make_simulated_spec, prepare_simulated

from geo.components import find_instances
from geo.instances import concat_instances
from geo.pixel_window import PixelWindow
from geo.seams import split_cell
from pipeline.detect import TileRef
from pipeline.finish import collect_instances, merged_by_block
from pipeline.merge import (
    TILES_PER_BLOCK,
    PiecesRef,
    _KeyByCell,
    _MergeDoFn,
    _tile_pieces,
    level_sizes,
    load_merged,
)
from pipeline.tile_store import TileResult, TileStore

TILE_PX = 64
ZONE = 36


def test_levels_grow_by_four_until_one_cell_holds_all():
    assert level_sizes([(0, 0, 0, 0)]) == [None]
    assert level_sizes([(0, 3, -2, 1)]) == [None]
    assert level_sizes([(0, 4, 0, 0)]) == [4, None]
    assert level_sizes([(0, 15, 0, 3), (-20, 10, 0, 0)]) == [4, 16, None]
    assert level_sizes([]) == [None]


class Job:
    """A drawn mosaic of 11 x 11 tiles around the corner of four blocks, each with images of its
    own; what its stages make of it, without a runner."""

    def __init__(self, folder, seed):
        self.spec = make_simulated_spec(
            folder, shapely.box(30.1, 0.1, 30.11, 0.11), core_px=TILE_PX, grid={"tile_px": TILE_PX}
        )
        prepare_simulated(self.spec)
        self.store = TileStore(self.spec.store_path)
        self.rng = np.random.default_rng(seed)
        side = 11 * TILE_PX
        self.window = PixelWindow(-5 * TILE_PX, -6 * TILE_PX, side, side)
        self.probability = probability_of(draw_blobs(self.rng, (side, side), 0.4), self.rng)
        self.job_images = np.zeros((side, side), np.uint16)

    def save_tiles(self):
        """Cut the mosaic into tiles; references to them in any order."""
        refs = []
        for row in range(-6, 5):
            for col in range(-5, 6):
                refs.append(self._save_tile(row, col))
        return [refs[index] for index in self.rng.permutation(len(refs))]

    def _save_tile(self, row, col):
        tile = PixelWindow(col * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX)
        place = tile.within(self.window)
        local = self.rng.integers(0, 3, (TILE_PX, TILE_PX)).astype(np.uint16)
        images = tuple(np.sort(self.rng.choice(50, 3, replace=False)).tolist())
        self.job_images[place] = np.array(images, np.uint16)[local]
        found = find_instances(
            self.probability[place], threshold=THRESHOLD, window=tile, image_index=local
        )
        level = split_cell(found, tile, self.spec.max_extent_px)
        tile_hash = f"{row + 6:02x}{col + 5:02x}"
        self.store.save_tile(
            tile_hash, TileResult(status="ok", whole=level.whole, pieces=level.open)
        )
        return TileRef(
            key=(ZONE, row, col),
            tile_hash=tile_hash,
            num_pieces=len(level.open),
            num_whole=len(level.whole),
            images=images,
        )

    def merge(self, refs, sizes):
        """All levels; packed parts by block."""
        merged = defaultdict(list)
        pieces = [piece for ref in refs for piece in _tile_pieces(ref)]
        for level, size in enumerate(sizes, start=1):
            cells = defaultdict(list)
            for ref in pieces:
                cell, source = _KeyByCell(size)(ref)
                cells[cell].append(source)
            do_merge, pieces = _MergeDoFn(self.spec, level, size), []
            do_merge.setup()
            for output in (output for item in cells.items() for output in do_merge.process(item)):
                if isinstance(output, PiecesRef):
                    pieces.append(output)
                else:
                    assert output.tag == "merged"
                    block, part = merged_by_block(output.value)
                    merged[block].append(part)
        assert not pieces
        return merged


@pytest.mark.parametrize("sizes", [[None], [4, None], [4, 16, None]])
@pytest.mark.parametrize("seed", range(3))
def test_tiles_get_what_one_pass_over_the_mosaic_finds(tmp_path, seed, sizes):
    job = Job(tmp_path, seed)
    refs = job.save_tiles()
    merged = job.merge(refs, sizes)
    joined = {}
    for block, parts in merged.items():
        assert len(set(parts)) == len(parts)
        tiles = load_merged(job.spec, job.store, block[0], [*parts, parts[0]])
        assert {(z, r // TILES_PER_BLOCK, c // TILES_PER_BLOCK) for z, r, c in tiles} == {block}
        joined.update(tiles)
    expected = find_instances(
        job.probability, threshold=THRESHOLD, window=job.window, image_index=job.job_images
    )
    owner = expected.first_pixels() // TILE_PX
    found = []
    for ref in refs:
        stored = [(ref.tile_hash, ref.images)] if ref.num_whole else []
        mine = collect_instances(job.store, stored, joined.get(ref.key))
        _, row, col = ref.key
        assert_same_arrays(mine, expected.take((owner == [row, col]).all(axis=1)))
        found.append(mine)
    assert_same_arrays(concat_instances(found), expected)
    assert sum(map(len, joined.values())) > 20


def test_a_block_without_joined_instances(tmp_path):
    job = Job(tmp_path, 0)
    assert load_merged(job.spec, job.store, ZONE, []) == {}
    assert len(collect_instances(job.store, [], None)) == 0
