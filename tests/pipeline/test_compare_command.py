"""`everyroof compare`, as a user calls it: table, change log, page, and what is refused."""

import json
import re
import shutil

import duckdb
import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from click.testing import CliRunner
from written_datasets import footprints_of, write_dataset

from geo.dataset_changes import CHANGE_SCHEMA, CHANGE_STATUSES
from pipeline.change_page import STATUS_COLOURS
from pipeline.change_stats import MAX_OUTLINES
from pipeline.cli.main import cli

BOUNDS = (32.57, 0.30, 32.70, 0.40)


def _town(num: int, seed: int = 0) -> list[shapely.Polygon]:
    """Houses on a lattice, so that none overlaps another."""
    side = int(np.ceil(np.sqrt(num)))
    rng = np.random.default_rng(seed)
    cols, rows = np.divmod(np.arange(num), side)
    west, south = 32.58 + cols * 3e-4, 0.31 + rows * 3e-4
    width, height = rng.uniform(0.5e-4, 1.5e-4, (2, num))
    return list(shapely.box(west, south, west + width, south + height))


def _ids(num: int, row: int = 1) -> list[str]:
    return [f"z36_g500mm_r{row}_c{index}" for index in range(num)]


def _pair(tmp_path, num: int = 40):
    """OLD, and NEW without its first three houses, with one wider and four more."""
    houses = _town(num + 4)
    old = footprints_of(houses[:num], _ids(num))
    wider = shapely.box(*(np.array(houses[5].bounds) + [0, 0, 1e-4, 0]))
    new = [*houses[3:5], wider, *houses[6:]]
    table = footprints_of(new, [*_ids(num)[3:], *_ids(4, row=2)])
    return (
        write_dataset(tmp_path / "old", old, bounds=BOUNDS),
        write_dataset(tmp_path / "new", table, bounds=BOUNDS),
    )


def _run(*arguments):
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


def _lines(text: str) -> dict[str, list[str]]:
    return {
        line.split()[0]: line.split()[1:]
        for line in text.splitlines()
        if line.split() and line.split()[0] in CHANGE_STATUSES
    }


def test_says_what_changed_and_writes_the_log_and_the_page(tmp_path):
    old, new = _pair(tmp_path)
    result = _run(old, new, "--out", tmp_path / "changes")
    assert result.exit_code == 0, result.output
    lines = _lines(result.output)
    assert lines["unchanged"][:2] == ["36", "36"]
    assert lines["changed"][:2] == ["1", "1"]
    assert lines["added"][0] == "4"
    assert lines["removed"][0] == "3"
    log = tmp_path / "changes" / "changes.parquet"
    assert pq.read_schema(log).names == CHANGE_SCHEMA.names
    frame = geopandas.read_parquet(log)
    assert frame.crs == "OGC:CRS84"
    assert frame.status.value_counts().to_dict() == {
        "unchanged": 36, "added": 4, "removed": 3, "changed": 1
    }  # fmt: skip
    # Every old and every new building once.
    assert frame.area_old_m2.notna().sum() == 40
    assert frame.area_new_m2.notna().sum() == 41
    sql = f"select sum(area_new_m2) from '{log}' where status = 'added'"
    (area,) = duckdb.sql(sql).fetchone()
    assert area == pytest.approx(frame[frame.status == "added"].area_new_m2.sum())


def test_the_page_stands_alone_and_draws_each_building(tmp_path):
    old, new = _pair(tmp_path)
    _run(old, new, "--out", tmp_path / "log.parquet")
    page = (tmp_path / "log.html").read_text()
    assert not re.search(r"(src|href)\s*=|@import|url\(|<script|<link|<iframe", page)
    drawn = dict(
        re.findall(r'<path d="([^"]*)" fill="[^"]*" stroke="[^"]*"[^>]*><title>([^<]*)', page)
    )
    counts = {title: path.count("M") for path, title in drawn.items()}
    assert counts == {"unchanged": 36, "changed": 1, "added": 4, "removed": 3}
    assert STATUS_COLOURS["added"] in page
    assert "What changed from old to new" in page


def test_of_many_buildings_only_changes_are_drawn(tmp_path):
    old, new = _pair(tmp_path, MAX_OUTLINES + 100)
    result = _run(old, new, "--out", tmp_path, "--without-unchanged")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "changes.html").read_text()
    assert "Unchanged buildings are not drawn." in page
    titles = re.findall(r'stroke-width="[^"]*"><title>([^<]*)', page)
    assert titles == ["changed", "removed", "added"]
    statuses = set(pq.read_table(tmp_path / "changes.parquet")["status"].to_pylist())
    assert statuses == {"changed", "added", "removed"}
    assert _lines(result.output)["unchanged"][0] == f"{MAX_OUTLINES + 96:,}"


def test_many_changes_are_drawn_as_cells(tmp_path):
    num = MAX_OUTLINES + 100
    old, _ = _pair(tmp_path, num)
    new = write_dataset(tmp_path / "few", footprints_of(_town(3), _ids(3)), bounds=BOUNDS)
    _run(old, new, "--out", tmp_path)
    page = (tmp_path / "changes.html").read_text()
    assert f"<b>{num - 3:,}</b>" in page
    assert "<h2>Removed per km²</h2>" in page
    assert re.search(r'class="heat-hot" fill-opacity="[\d.]+"><title>[\d.k]+ to ', page)
    assert len(page.encode()) < 100_000


def test_json_has_the_same_numbers_and_nothing_is_written(tmp_path):
    old, new = _pair(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = _run(old, new, "--json")
    told = json.loads(result.stdout)
    by_status = {row["status"]: row for row in told["statuses"]}
    assert by_status["removed"]["num_old"] == 3
    assert by_status["added"]["num_new"] == 4
    assert told["config"] == {"min_iou": 0.3, "unchanged_iou": 0.95}
    assert sorted(tmp_path.iterdir()) == before


def test_ground_that_failed_is_told_apart(tmp_path):
    old, _ = _pair(tmp_path)
    statuses = dict.fromkeys(range(1000), "failed")
    table = footprints_of([], [])
    new = write_dataset(tmp_path / "n2", table, bounds=BOUNDS, statuses=statuses)
    result = _run(old, new)
    assert "not covered in new: 40 (the tile failed)" in result.output
    assert "no building lies on ground that both runs have seen" in result.output
    assert "note: NEW holds no building" in result.output


def test_what_a_reader_must_know_is_said(tmp_path):
    old, _ = _pair(tmp_path)
    result = _run(old, old)
    assert "OLD and NEW are the same dataset" in result.output
    houses = _town(40)
    other = write_dataset(
        tmp_path / "other", footprints_of(houses, _ids(40)), bounds=BOUNDS, model_id="b"
    )
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["config"]["area_of_interest"] = str(tmp_path / "gone.geojson")
    (other / "manifest.json").write_text(json.dumps(manifest | {"gsd_m": 0.3}))
    output = " ".join(_run(old, other).output.split())
    assert "different models: drawn-00000000 and b" in output
    assert "different pixel sizes: 0.5 m and 0.3 m" in output
    assert "gone.geojson, which cannot be read here" in output


def test_limits_ask_for_buildings_as_a_query_does(tmp_path):
    old, new = _pair(tmp_path)
    bounds = _town(44)[0].bounds
    box = ",".join(f"{side:.6f}" for side in bounds)
    assert _lines(_run(old, new, "--bbox", box).output) == {"removed": _one_removed(old, new, box)}
    nothing = _run(old, new, "--min-area", 1e6)
    assert _lines(nothing.output) == {}
    assert "no building of either fits" in nothing.output
    assert _run(old, new, "--bbox", "1,1,2,2").exit_code == 0


def _one_removed(old, new, box) -> list[str]:
    (line,) = _lines(_run(old, new, "--bbox", box).output).values()
    assert line[0] == "1"
    return line


def test_places_apart_and_broken_datasets_are_refused(tmp_path):
    old, new = _pair(tmp_path)
    far = [shapely.transform(house, lambda c: c + [5.0, 0.0]) for house in _town(5)]
    apart = write_dataset(
        tmp_path / "far", footprints_of(far, _ids(5)), bounds=(37.57, 0.3, 37.7, 0.4)
    )
    cases = [
        ((old, apart), "lie apart"),
        ((old, tmp_path / "nowhere"), "does not exist"),
        ((old, old / "manifest.json"), "is a file"),
        ((old, new, "--out", tmp_path / "x.gpkg"), "ends in .parquet"),
        ((old, new, "--min-iou", "0.9", "--unchanged-iou", "0.5"), "unchanged_iou = 0.5"),
        ((old, new, "--bbox", "1,2"), "WEST,SOUTH,EAST,NORTH"),
    ]
    unfinished = shutil.copytree(new, tmp_path / "unfinished")
    (unfinished / "manifest.json").unlink()
    cases.append(((old, unfinished), "has not finished"))
    damaged = shutil.copytree(new, tmp_path / "damaged")
    (shard,) = (damaged / "footprints").glob("*")
    shard.write_bytes(shard.read_bytes()[:-100])
    cases.append(((damaged, new), "cannot be read as Parquet"))
    lacking = shutil.copytree(new, tmp_path / "lacking")
    next((lacking / "footprints").glob("*")).unlink()
    cases.append(((old, lacking), "is missing"))
    no_ledger = shutil.copytree(new, tmp_path / "no_ledger")
    (no_ledger / "tiles.parquet").unlink()
    cases.append(((old, no_ledger), "tiles.parquet is missing"))
    for arguments, words in cases:
        result = _run(*arguments)
        assert result.exit_code != 0
        assert words in f"{result.output} {result.exception}", arguments
