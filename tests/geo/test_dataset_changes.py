"""Changes between datasets: against a slow oracle, whatever the files, blocks and sides are."""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from written_datasets import footprints_of, tiles_of, write_dataset

from geo.change import ChangeConfig
from geo.covered_ground import GROUND_WORDS, read_covered_ground
from geo.dataset import open_dataset
from geo.dataset_changes import (
    CHANGE_SCHEMA,
    compared_schema,
    find_changes,
)
from geo.query import Query, conditions_of
from geo.sorted_rows import SortedRows

KAMPALA = (32.58, 0.31)
MIRROR = {
    "added": "removed", "removed": "added", "split": "merged", "merged": "split",
    "not_covered_in_new": "not_covered_in_old", "not_covered_in_old": "not_covered_in_new",
}  # fmt: skip


def _box(x_m: float, y_m: float, width_m: float, height_m: float, centre=KAMPALA):
    """A rectangle, south-western corner first, in degrees."""
    west, south = centre[0] + x_m / 111_320, centre[1] + y_m / 111_320
    return shapely.box(west, south, west + width_m / 111_320, south + height_m / 111_320)


def _names(prefix: str, outlines) -> list[str]:
    return [f"z36_g300mm_r{prefix}_c{index}" for index in range(len(outlines))]


def _table(outlines, ids=None, prefix="1", confidence=None) -> pa.Table:
    return footprints_of(outlines, ids or _names(prefix, outlines), confidence)


def _open(out, query):
    dataset = open_dataset(out)
    conditions = conditions_of(dataset, query)
    sources = [dataset.place_of(shard) for shard in dataset.shards]
    rows = SortedRows(sources, compared_schema(conditions), conditions)
    return rows, read_covered_ground(out / "tiles.parquet"), conditions


def _changes(old, new, query=None, **options) -> pa.Table:
    rows, grounds, conditions = zip(
        *(_open(out, query or Query()) for out in (old, new)), strict=True
    )
    tables = find_changes(
        *rows, ground_old=grounds[0], ground_new=grounds[1], wanted=conditions, **options
    )
    return pa.concat_tables([CHANGE_SCHEMA.empty_table(), *tables])


def _told(log: pa.Table) -> list[tuple[str, str | None, str | None]]:
    rows = zip(*(log[n].to_pylist() for n in ("status", "id_old", "id_new")), strict=True)
    return sorted(rows, key=str)


def _compare(tmp_path, old, new, **options) -> list[tuple[str, str | None, str | None]]:
    """Write and compare two lists of outlines (with ids), or tables."""
    return _told(
        _changes(write_dataset(tmp_path / "a", old), write_dataset(tmp_path / "b", new), **options)
    )


# --- known answers -------------------------------------------------------------------------------


def test_each_kind_of_change_once(tmp_path):
    old = {
        "same": _box(0, 0, 20, 20),
        "grown": _box(100, 0, 20, 20),
        "gone": _box(200, 0, 20, 20),
        "whole": _box(300, 0, 40, 20),
        "left": _box(400, 0, 19, 20),
        "right": _box(421, 0, 19, 20),
    }
    new = {
        "same": _box(0, 0, 20, 20),
        "grown_otherwise": _box(100, 0, 20, 30),
        "built": _box(250, 0, 20, 20),
        "piece_1": _box(300, 0, 19, 20),
        "piece_2": _box(321, 0, 19, 20),
        "joined": _box(400, 0, 40, 20),
    }
    tables = [_table(list(side.values()), list(side)) for side in (old, new)]
    told = _compare(tmp_path, *tables, config=ChangeConfig(min_iou=0.5))
    assert told == sorted(
        [
            ("unchanged", "same", "same"),
            ("changed", "grown", "grown_otherwise"),
            ("removed", "gone", None),
            ("added", None, "built"),
            ("split", "whole", None),
            ("split", "whole", "piece_1"),
            ("split", "whole", "piece_2"),
            ("merged", "left", "joined"),
            ("merged", "right", "joined"),
            ("merged", None, "joined"),
        ],
        key=str,
    )


def test_the_columns_say_how_much_changed(tmp_path):
    old = _table([_box(0, 0, 20, 20)], ["a"], confidence=[0.9])
    new = _table([_box(0, 10, 20, 20)], ["a"], confidence=[0.6])
    log = _changes(write_dataset(tmp_path / "a", old), write_dataset(tmp_path / "b", new))
    (row,) = log.to_pylist()
    assert row["iou"] == pytest.approx(1 / 3, abs=1e-3)
    assert row["shift_m"] == pytest.approx(10, abs=0.02)
    assert row["area_old_m2"] == pytest.approx(400, rel=1e-2)
    assert (row["confidence_old"], row["confidence_new"]) == pytest.approx((0.9, 0.6), abs=1e-4)
    assert row["geometry"] == new["geometry"][0].as_py()
    assert (row["num_parts_old"], row["num_parts_new"], row["reason"]) == (1, 1, None)


def test_one_id_is_one_building_while_the_outlines_share_ground(tmp_path):
    old = _table([_box(0, 0, 10, 10), _box(100, 0, 10, 10)], ["near", "far"])
    new = _table([_box(9, 9, 10, 10), _box(150, 0, 10, 10)], ["near", "far"])
    assert _compare(tmp_path, old, new) == [
        ("added", None, "far"),
        ("changed", "near", "near"),
        ("removed", "far", None),
    ]


def test_an_id_outweighs_a_better_overlap(tmp_path):
    old = _table([_box(0, 0, 10, 10), _box(12, 0, 10, 10)], ["a", "b"])
    new = _table([_box(0, 0, 10, 10), _box(9, 0, 13, 10)], ["c", "a"])
    # What would be the better partners are pieces of the pair then.
    assert _compare(tmp_path, old, new) == [
        ("changed", "a", "a"),
        ("merged", "b", "a"),
        ("split", "a", "c"),
    ]


def test_pieces_beside_a_building_that_stays(tmp_path):
    old = _table([_box(0, 0, 30, 10)], ["a"])
    new = _table([_box(0, 0, 22, 10), _box(23, 0, 7, 10)], ["b", "c"])
    log = _changes(write_dataset(tmp_path / "a", old), write_dataset(tmp_path / "b", new))
    assert _told(log) == [("changed", "a", "b"), ("split", "a", "c")]
    by_status = dict(zip(log["status"].to_pylist(), log.to_pylist(), strict=True))
    assert by_status["changed"]["num_parts_new"] == 2
    assert by_status["split"]["area_old_m2"] is None


def test_ground_that_one_run_did_not_see_is_no_change(tmp_path):
    tiles = tiles_of((32.4, 0.1, 32.8, 0.5))
    place = next(
        i for i, t in enumerate(tiles) if _lies_in(t, KAMPALA[0] + 1e-4, KAMPALA[1] + 1e-4)
    )
    boxes = [_box(0, 0, 10, 10), _box(8000, 8000, 10, 10)]
    old, new = _table(boxes), _table([])
    failed = {place: "failed"}
    a = write_dataset(tmp_path / "a", old)
    b = write_dataset(tmp_path / "b", new, statuses=failed)
    log = _changes(a, b)
    assert sorted(log["status"].to_pylist()) == ["not_covered_in_new", "removed"]
    assert set(log["reason"].to_pylist()) == {None, "the tile failed"}
    # Without tiles there, and with tiles that hold no pixel.
    c = write_dataset(tmp_path / "c", new, bounds=(32.4, 0.1, 32.5, 0.2))
    assert Counter(_changes(a, c)["reason"].to_pylist()) == {"not planned": 2}
    d = write_dataset(tmp_path / "d", new, statuses={place: "nodata"})
    assert "the tile has no valid pixel" in _changes(a, d)["reason"].to_pylist()


def _lies_in(tile, lon: float, lat: float) -> bool:
    col, row = tile.grid.from_lonlat([lon], [lat])
    return (int(col[0] // tile.size_px), int(row[0] // tile.size_px)) == (tile.col, tile.row)


def test_images_and_the_area_of_interest_bound_what_was_seen(tmp_path):
    out = write_dataset(tmp_path / "a", _table([]))
    images = pa.table(
        {
            "status": ["opened", "failed"],
            "geometry": shapely.to_wkb(
                [shapely.box(32.5, 0.3, 32.6, 0.32), shapely.box(32.6, 0.3, 32.7, 0.32)]
            ),
        }
    )
    pa.parquet.write_table(images, tmp_path / "images.parquet")
    area = shapely.box(32.5, 0.3, 32.55, 0.5)
    ground = read_covered_ground(out / "tiles.parquet", tmp_path / "images.parquet", area)
    lon = np.array([32.52, 32.58, 32.65, 32.52, 12.0])
    codes = ground.look_up(lon, np.array([0.31, 0.31, 0.31, 0.4, 0.31]))
    assert [GROUND_WORDS[code] for code in codes] == [
        "seen", "beyond the area of interest", "beyond the images", "beyond the images",
        "not planned",
    ]  # fmt: skip


def test_limits_hold_for_either_building_of_a_pair(tmp_path):
    boxes = [_box(0, 0, 10, 10), _box(50, 0, 10, 10), _box(100, 0, 30, 30)]
    old = _table(boxes, confidence=[0.71, 0.5, 0.9])
    new = _table(boxes, confidence=[0.69, 0.5, 0.9])
    query = Query(min_confidence=0.7, max_area_m2=500)
    told = _compare(tmp_path, old, new, query=query)
    assert [row[0] for row in told] == ["unchanged"]
    west = KAMPALA[0] + 70 / 111_320
    a, b = tmp_path / "a", tmp_path / "b"
    assert len(_changes(a, b, Query(bbox=(west, 0.0, west + 1.0, 1.0)))) == 1
    assert len(_changes(a, b, Query(bbox=(west + 5.0, 0.0, west + 6.0, 1.0)))) == 0


# --- properties ----------------------------------------------------------------------------------

_steps = st.integers(0, 60)
_rectangles = st.lists(
    st.tuples(_steps, _steps, st.integers(1, 12), st.integers(1, 12)), max_size=14
)


@st.composite
def _sides(draw):
    """Outlines up to 1.8 km long in a square of 9 km, many of them in both lists, ids shared."""
    centre = draw(st.sampled_from([KAMPALA, (180.0 - 0.04, -17.0), (24.0 - 0.04, 60.0)]))
    common, first, second = draw(_rectangles), draw(_rectangles), draw(_rectangles)
    moved = [
        (x + dx, y, w, h) for (x, y, w, h), dx in zip(common, draw(_shifts(common)), strict=True)
    ]
    sides = []
    for number, rectangles in enumerate((common + first, moved + second)):
        rectangles = list(dict.fromkeys(rectangles))
        outlines = [_box(*(150.0 * value for value in r), centre=centre) for r in rectangles]
        ids = [
            f"z36_g300mm_r0_c{i}"
            if draw(st.integers(0, 3)) == 0
            else f"z36_g300mm_r{number + 1}_c{i}"
            for i in range(len(outlines))
        ]
        sides.append(_table(outlines, ids))
    return centre, *sides


def _shifts(rectangles):
    return st.lists(st.integers(0, 2), min_size=len(rectangles), max_size=len(rectangles))


def _slow_oracle(old: pa.Table, new: pa.Table, config: ChangeConfig) -> list:
    """The rules of geo.change, read aloud: every pair is looked at, all ground was seen."""
    rows = [sorted(t.to_pylist(), key=lambda r: (r["s2_cell"], r["id"])) for t in (old, new)]
    shapes = [[_east(shapely.from_wkb(row["geometry"])) for row in side] for side in rows]
    shared = {}
    for i, a in enumerate(shapes[0]):
        for j, b in enumerate(shapes[1]):
            area = a.intersection(b).area
            iou = round(area / (a.area + b.area - area), 9)
            if iou > 0:
                shared[i, j] = (iou, round(area / a.area, 9), round(area / b.area, 9))
    ids = [[row["id"] for row in side] for side in rows]
    partner = {(i, j) for i, j in shared if ids[0][i] == ids[1][j]}
    free = {
        (i, j): values[0]
        for (i, j), values in shared.items()
        if values[0] >= config.min_iou and all(i != a and j != b for a, b in partner)
    }
    best_old = {i: min((-v, j) for (a, j), v in free.items() if a == i)[1] for i, _ in free}
    best_new = {j: min((-v, i) for (i, b), v in free.items() if b == j)[1] for _, j in free}
    partner |= {(i, j) for i, j in best_old.items() if best_new[j] == i}
    parts_old = [
        {
            j
            for (a, j), s in shared.items()
            if a == i and ((s[2] >= 0.5 and s[1] >= 0.05) or (i, j) in partner)
        }
        for i in range(len(ids[0]))
    ]
    parts_new = [
        {
            i
            for (i, b), s in shared.items()
            if b == j and ((s[1] >= 0.5 and s[2] >= 0.05) or (i, j) in partner)
        }
        for j in range(len(ids[1]))
    ]
    told = []
    for i, j in partner:
        word = "unchanged" if shared[i, j][0] >= config.unchanged_iou else "changed"
        told.append((word, ids[0][i], ids[1][j]))
    for i in set(range(len(ids[0]))) - {i for i, _ in partner}:
        wholes = [
            (-s[1], j)
            for (a, j), s in shared.items()
            if a == i and i in parts_new[j] and len(parts_new[j]) > 1
        ]
        if wholes:
            told.append(("merged", ids[0][i], ids[1][min(wholes)[1]]))
        else:
            told.append(("split" if len(parts_old[i]) > 1 else "removed", ids[0][i], None))
    for j in set(range(len(ids[1]))) - {j for _, j in partner}:
        wholes = [
            (-s[2], i)
            for (i, b), s in shared.items()
            if b == j and j in parts_old[i] and len(parts_old[i]) > 1
        ]
        if wholes:
            told.append(("split", ids[0][min(wholes)[1]], ids[1][j]))
        else:
            told.append(("merged" if len(parts_new[j]) > 1 else "added", None, ids[1][j]))
    return sorted(told, key=str)


def _east(shape):
    """East of Greenwich, so that both sides of the antimeridian meet."""
    turn = 360.0 if shape.bounds[0] < 0 else 0.0
    return shapely.transform(shape, lambda c: c + np.array([turn, 0.0]))


def _bounds(centre):
    west, east = centre[0] - 0.02, centre[0] + 0.16
    return (west, centre[1] - 0.02, east - 360.0 * (east > 180), centre[1] + 0.12)


@settings(max_examples=60, deadline=None)
@given(_sides(), st.sampled_from([0.1, 0.3, 0.6]), st.integers(1, 40))
def test_finds_what_the_slow_oracle_finds_however_it_is_cut(tmp_path_factory, sides, min_iou, cut):
    centre, old, new = sides
    folder = tmp_path_factory.mktemp("sides")
    config = ChangeConfig(min_iou=min_iou)
    expected = _slow_oracle(old, new, config)
    a = write_dataset(folder / "a", old, bounds=_bounds(centre))
    b = write_dataset(folder / "b", new, bounds=_bounds(centre))
    log = _changes(a, b, config=config, max_block_rows=1_000_000)
    assert _told(log) == expected
    # Other files, other row groups and small blocks: the same rows. Other sides: the mirror image.
    c = write_dataset(folder / "c", old, max_rows=cut, row_group_rows=3, bounds=_bounds(centre))
    d = write_dataset(folder / "d", new, max_rows=cut + 2, row_group_rows=2, bounds=_bounds(centre))
    assert _told(_changes(c, d, config=config, max_block_rows=5)) == expected
    first, second = (_changes(x, y, config=config, max_block_rows=7) for x, y in ((a, b), (c, d)))
    assert first.equals(second)
    mirrored = sorted(((MIRROR.get(w, w), j, i) for w, i, j in expected), key=str)
    assert _told(_changes(d, a, config=config, max_block_rows=9)) == mirrored
    _check_books(log, old, new)


def _check_books(log: pa.Table, old: pa.Table, new: pa.Table) -> None:
    """Every building is accounted for once."""
    for table, suffix in ((old, "old"), (new, "new")):
        areas = log[f"area_{suffix}_m2"].drop_null().to_pylist()
        assert sorted(areas) == sorted(table["area_in_meters"].to_pylist())
    pairs = log.filter(pa.compute.is_valid(log["shift_m"]))
    assert set(pairs["status"].to_pylist()) <= {"changed", "unchanged"}
    assert not any(math.isnan(iou) for iou in log["iou"].drop_null().to_pylist())


@settings(max_examples=20, deadline=None)
@given(_sides())
def test_a_dataset_has_not_changed_against_itself(tmp_path_factory, sides):
    centre, old, _ = sides
    folder = tmp_path_factory.mktemp("same")
    a = write_dataset(folder / "a", old, bounds=_bounds(centre))
    log = _changes(a, a, max_block_rows=5)
    assert set(log["status"].to_pylist()) <= {"unchanged"}
    assert len(log) == len(old)
    assert log["id_old"].equals(log["id_new"])


@pytest.mark.parametrize("options", [{"min_iou": 0.0}, {"min_iou": 0.5, "unchanged_iou": 0.4}])
def test_limits_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match="expected a number"):
        ChangeConfig(**options)
