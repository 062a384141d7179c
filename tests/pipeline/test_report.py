"""The report says what the run found, stands alone, and lets nothing in that is not text."""

import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import charts
from pipeline.footprint_stats import AREA_EDGES_M2, FootprintStats
from pipeline.report import (
    MAX_THRESHOLD_ROWS,
    FailureRow,
    ImageRow,
    RunSummary,
    StageTime,
    ThresholdRow,
    area_text,
    bytes_text,
    duration_text,
    render_report,
    write_report,
)

BOUNDS = (32.60, 0.30, 32.70, 0.40)


def _stats(num: int = 1000) -> FootprintStats:
    rng = np.random.default_rng(3)
    stats = FootprintStats(BOUNDS)
    stats.add(
        rng.uniform(32.60, 32.70, num),
        rng.uniform(0.30, 0.40, num),
        np.full(num, 50.0),
        rng.uniform(0.5, 1.0, num),
    )
    return stats


def _summary(**changes) -> RunSummary:
    steps = np.linspace(32.60, 32.70, 5)
    bounds = np.array([[w, 0.30, e, 0.40] for w, e in itertools.pairwise(steps)])
    facts = {
        "title": "kampala",
        "stats": _stats(),
        "tile_bounds": bounds,
        "tile_status": ["ok", "ok", "empty", "nodata"],
        "seconds": 110.0,
        "startup_seconds": 10.0,
        "num_pixels": 4 * 4096**2,
        "gsd_m": 0.3,
    }
    return RunSummary(**(facts | changes))


class _Page(HTMLParser):
    """Collects the tags and the text of a page, and checks that tags close in order."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == [], "tags left open"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def _text(summary: RunSummary) -> str:
    return re.sub(r"\s+", " ", _Page(render_report(summary)).text)


def test_the_headline_has_the_numbers():
    text = _text(_summary(num_bytes=65_000, peak_memory_bytes=2_100_000_000, num_stored_tiles=1))
    assert "1,000building footprints" in text
    assert "5.0 habuilt area" in text
    assert "4tiles, 1 from the tile store" in text
    assert "1 min 50 sin all, 0.03 tiles/s" in text
    assert "65 kBon disk, 65 bytes a building" in text
    assert "2.1 GB" in text
    assert "2 buildings found" in text
    assert "Complete:" in text


def test_the_page_stands_alone(tmp_path):
    write_report(tmp_path / "report.html", _summary())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=|@import|url\(|<script|<link|<iframe", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert render_report(_summary()) == page


def test_what_comes_from_outside_is_text():
    evil = "<script>alert('x')</script>&\"'"
    summary = _summary(
        title=evil,
        failures=[FailureRow(name=evil, reason=evil, action=evil)],
        left_out=[FailureRow(name=evil, reason=evil)],
        images=[ImageRow(image_id=evil, path=evil, date=evil, detail=evil, is_failed=True)],
        stages=[StageTime(name=evil, seconds=1.0, num_items=2, unit=evil)],
        model=[(evil, evil)],
        machine=[(evil, evil)],
        config_text=evil,
    )
    page = _Page(render_report(summary))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) >= 12


def test_failures_are_grouped_by_reason_and_say_what_to_do():
    failures = [
        FailureRow(name=f"z36_r{i:02d}", reason="block cannot be decoded", action="Fetch it again.")
        for i in range(9)
    ]
    failures.append(FailureRow(name="s3://b/x.tif", reason="HTTP 503"))
    images = [ImageRow(image_id="x", path="s3://b/x.tif", is_failed=True)]
    status = ["failed", "ok", "ok", "ok"]
    text = _text(_summary(failures=failures, images=images, tile_status=status))
    assert "Incomplete: 1 of 4 tiles and 1 image failed" in text
    assert text.count("block cannot be decoded") == 1
    assert "Fetch it again." in text
    assert "z36_r05 and 3 more" in text
    assert "See the reason; then run the same command again." in text
    assert text.index("block cannot be decoded") < text.index("HTTP 503")


@pytest.mark.parametrize(("share", "word"), [(0.0, "Incomplete:"), (0.5, "Complete, with")])
def test_the_share_that_may_fail_decides_the_word(share, word):
    assert word in _text(_summary(tile_status=["failed", "ok", "ok", "ok"], max_failed_share=share))


def test_the_page_says_where_the_time_went():
    stages = [
        StageTime(name="read", seconds=10, num_items=300, unit="Mpx"),
        StageTime(name="segment", seconds=90, num_items=300, unit="Mpx"),
    ]
    summary = _summary(stages=stages, time_shares={"network": 0.9, "reading": 0.1})
    assert summary.busiest is stages[1]
    text = _text(summary)
    assert "The bottleneck is network: 90% of the workers' time (reading 10%): a GPU" in text
    idle = [StageTime(name="read", seconds=0.0, num_items=0, unit="Mpx")]
    assert _summary(stages=idle).busiest is None


def test_a_run_without_buildings_or_tiles_has_a_page_too():
    text = _text(_summary(stats=FootprintStats(BOUNDS), tile_status=["empty"] * 4))
    assert "No building found" in text
    assert "nan" not in text.lower()
    nothing = _summary(stats=FootprintStats(BOUNDS), tile_bounds=np.zeros((0, 4)), tile_status=[])
    assert "0tiles" in _text(nothing)


def test_a_summary_that_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="one status per tile"):
        _summary(tile_status=["ok"])
    with pytest.raises(ValueError, match="'fine'"):
        _summary(tile_status=["ok", "ok", "ok", "fine"])


def test_thresholds_say_what_they_rest_on():
    assert "Confidence thresholds" not in _text(_summary())
    rows = [
        ThresholdRow(
            token="19d",
            thresholds={80: 0.6118, 90: None},
            num_above={80: 860_128},
            num_buildings=1_002_871,
        ),
        ThresholdRow(
            token="177",
            thresholds={80: 0.25, 90: 0.75},
            num_above={80: 900, 90: 70},
            num_buildings=1000,
            num_samples=412,
        ),
    ]
    text = _text(_summary(thresholds=rows))
    assert "80 % right from of them90 % right from of them" in text
    first = text[text.index("19d") : text.index("177")]
    assert "0.6118 860,128 not reached expected, from calibrated confidence" in first
    assert "0.2500 900 0.7500 70 412 labelled footprints" in text
    # Of very many regions those with most footprints are listed, and the others are told of.
    many = [
        ThresholdRow(token=f"{i:x}", thresholds={80: 0.5}, num_above={80: i}, num_buildings=i)
        for i in range(250)
    ]
    page = render_report(_summary(thresholds=many))
    assert "and 150 regions of" in re.sub(r"\s+", " ", _Page(page).text)
    assert page.count("expected, from") == MAX_THRESHOLD_ROWS


def test_a_large_job_has_a_light_page():
    rng = np.random.default_rng(5)
    num = 40_000
    cols, rows = np.arange(num) % 200, np.arange(num) // 200
    bounds = np.stack([cols, rows, cols + 1, rows + 1], axis=1) * 0.01
    status = rng.choice(["ok", "empty", "nodata", "failed"], num).tolist()
    stats = FootprintStats((0.0, 0.0, 2.0, 2.0))
    size = 300_000
    stats.add(
        rng.uniform(0, 2, size),
        rng.uniform(0, 2, size),
        rng.lognormal(4, 1.5, size),
        rng.uniform(0, 1, size),
    )
    images = [ImageRow(image_id=f"i{i}", path=f"s3://bucket/{i}.tif") for i in range(5000)]
    page = render_report(
        _summary(tile_bounds=bounds, tile_status=status, stats=stats, images=images)
    )
    # Every cell of every map differs from its neighbours here: nothing real is heavier.
    assert len(page.encode()) < 300_000
    assert "Each cell holds several tiles" in page
    _Page(page)


def test_every_picture_says_what_it_shows():
    page = _Page(render_report(_summary(stats=_stats(30_000))))
    labels = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert len(labels) == 6
    assert "Map of tiles by status: 2 buildings found, 1 no building, 1 no valid pixel" in labels
    assert any(label.startswith("Map of the median footprint area") for label in labels)
    (by_size,) = [label for label in labels if label.startswith("Confidence against")]
    assert re.search(r"40 to 57 m²: 0\.7\d", by_size)


# --- numbers -------------------------------------------------------------------------------------


def test_stats_do_not_depend_on_how_the_table_is_cut():
    rng = np.random.default_rng(1)
    columns = (
        rng.uniform(32.59, 32.71, 5000),
        rng.uniform(0.29, 0.41, 5000),
        rng.lognormal(4, 1.5, 5000),
        rng.uniform(0, 1, 5000),
    )
    whole, parts = FootprintStats(BOUNDS), FootprintStats(BOUNDS)
    whole.add(*columns)
    for start in range(0, 5000, 777):
        parts.add(*(column[start : start + 777] for column in columns))
    assert np.array_equal(whole.density, parts.density)
    assert np.array_equal(whole.num_by_size, parts.num_by_size)
    assert np.array_equal(whole.num_by_cell, parts.num_by_cell)
    assert whole.area_m2 == pytest.approx(parts.area_m2, rel=1e-12)
    for counts in (whole.density, whole.num_by_area, whole.num_by_confidence):
        assert counts.sum() == 5000
    expected, _ = np.histogram(columns[2], AREA_EDGES_M2)
    assert np.array_equal(whole.num_by_area, expected)
    assert whole.median_area_m2() == pytest.approx(np.median(columns[2]), rel=0.05)
    assert whole.median_confidence() == pytest.approx(np.median(columns[3]), abs=0.01)


def test_medians_by_cell_and_by_size():
    stats = FootprintStats((0.0, 0.0, 2.0, 0.9), max_cells=2)
    rng = np.random.default_rng(2)
    small, large = rng.uniform(20, 60, 500), rng.uniform(200, 900, 500)
    stats.add(np.full(500, 0.5), np.full(500, 0.5), small, np.full(500, 0.31))
    stats.add(np.full(500, 1.5), np.full(500, 0.5), large, np.full(500, 0.86))
    medians = stats.median_area_by_cell_m2(min_footprints=5)
    assert medians.shape == (1, 2)
    assert medians[0] == pytest.approx([np.median(small), np.median(large)], rel=0.1)
    assert np.isnan(stats.median_area_by_cell_m2(min_footprints=501)).all()
    by_size = stats.median_confidence_by_area(min_footprints=10)
    assert np.nanmin(by_size) == pytest.approx(0.31, abs=0.0125)
    assert np.nanmax(by_size) == pytest.approx(0.86, abs=0.0125)
    assert np.isnan(by_size[0])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_a_median_has_half_of_them_on_either_side(counts):
    stats = FootprintStats(BOUNDS)
    areas = np.concatenate([np.full(n, AREA_EDGES_M2[i + 1] * 1.2) for i, n in enumerate(counts)])
    num = len(areas)
    stats.add(np.full(num, 32.65), np.full(num, 0.35), areas, np.full(num, 0.5))
    median = stats.median_area_m2()
    if num == 0:
        assert np.isnan(median)
        return
    below = sum(n for i, n in enumerate(counts) if AREA_EDGES_M2[i + 2] <= median)
    above = sum(n for i, n in enumerate(counts) if AREA_EDGES_M2[i + 1] >= median)
    assert below <= num / 2
    assert above <= num / 2


def test_density_counts_buildings_where_they_are():
    stats = FootprintStats((179.9, -17.1, 180.1, -16.9), max_cells=2)
    # North-west, and south-east beyond the antimeridian, written the other way round.
    stats.add(
        np.array([179.95, -179.95]), np.array([-16.95, -17.05]), np.ones(2), np.array([0.0, 1.0])
    )
    assert stats.density.tolist() == [[1, 0], [0, 1]]
    assert stats.cell_area_km2 == pytest.approx((0.1 * 111.32) ** 2, rel=0.1)
    assert stats.num_by_confidence[0] == stats.num_by_confidence[-1] == 1


def test_stats_need_a_place():
    with pytest.raises(ValueError, match="west < east"):
        FootprintStats((1.0, 0.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.96, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_read_well(seconds, text):
    assert duration_text(seconds) == text


def test_sizes_and_areas_read_well():
    assert bytes_text(512) == "512 B"
    assert bytes_text(45_200_000) == "45.2 MB"
    assert area_text(9_999) == "9,999 m²"
    assert area_text(18_440_000) == "18.44 km²"
    assert area_text(14_948_500_000) == "14,948 km²"


@given(st.floats(0, 1e12))
def test_short_numbers_are_short_and_near(value):
    text = charts.short_number(value)
    number = float(text.rstrip("kMG")) * {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1)
    assert number == pytest.approx(value, rel=0.006)
