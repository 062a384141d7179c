"""What a plan says, with and without images."""

import json

import pytest
import shapely
from click.testing import CliRunner
from running import make_bundle, make_config, write_config
from synthetic import draw_town, write_town

from model.bundle import read_meta
from model.unet import NetworkConfig
from model.window_flops import window_flops
from pipeline.cli.main import cli
from pipeline.cover import Cover
from pipeline.estimate import Estimate, Machines, Prices, WindowRate, measure_rate
from pipeline.spec import resolve_config
from pipeline.work import BITS_PER_PX, Work, count_area, count_job


def _call(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def _work(**options):
    facts = {
        "num_tiles": 100,
        "num_windows": 1600,
        "gsd_m": 0.5,
        "tile_px": 4096,
        "core_px": 1024,
        "margin_px": 128,
        "overlap_m": 1000.0,
        "num_source_px": 1600 * 1024.0**2,
        "bits_per_px": 2.0,
        "bits_from": "test",
        "images_per_tile": 1.0,
        "source_px_per_px": 1.0,
    }
    return Work(**{**facts, **options})


def test_numbers_follow_from_each_other():
    estimate = Estimate(
        work=_work(),
        rate=WindowRate(per_s=4.0, source="test"),
        num_buildings=1e6,
        prices=Prices(gpu_hour=2.0, storage_gb_month=1.0, egress_gb=10.0, million_requests=1e6),
        machines=Machines(num_workers=2, cores=4),
    )
    work = estimate.work
    assert work.ground_km2 == pytest.approx(1600 * 0.512**2)
    assert work.read_px_per_px == pytest.approx(((4096 + 256 + 512) / 4096) ** 2)
    assert work.read_bytes == pytest.approx(1600 * 1024**2 * work.read_px_per_px * 2 / 8)
    assert work.num_requests == pytest.approx(100 * (3 + 4352 / 512))
    assert estimate.gpu_hours == pytest.approx(400 / 3600)
    behind = estimate.behind_core_hours / 4
    assert estimate.wall_hours == pytest.approx((estimate.gpu_hours + behind) / 2)
    costs = estimate.costs
    assert costs["gpu"] == pytest.approx(2 * estimate.wall_hours * 2.0, abs=0.01)
    assert costs["egress"] == pytest.approx(work.read_bytes / 1e8, abs=0.01)
    assert costs["requests"] == pytest.approx(work.num_requests, abs=0.01)
    assert estimate.to_dict()["total_cost"] == pytest.approx(sum(costs.values()), abs=0.01)


def test_slow_reading_keeps_the_network_waiting():
    rate = WindowRate(per_s=1e6, source="test")
    one, two = (
        Estimate(work=_work(), rate=rate, machines=Machines(cores=cores)) for cores in (1, 2)
    )
    assert one.wall_hours > one.read_core_hours
    assert one.wall_hours == pytest.approx(2 * two.wall_hours)


def test_finer_imagery_is_more_to_read(tmp_path):
    bundle = read_meta(make_bundle(tmp_path / "colour.safetensors", gsd_m=0.5))
    area = shapely.box(32.5, 0.2, 32.6, 0.3)
    plain = count_area(area, bundle)
    fine = count_area(area, bundle, source_gsd_m=0.25)
    assert fine.num_windows == plain.num_windows
    assert fine.num_source_px == pytest.approx(4 * plain.num_source_px)
    assert fine.num_requests > plain.num_requests
    raw = count_area(area, bundle, compression="raw")
    assert raw.read_bytes / plain.read_bytes == pytest.approx(24.0 / BITS_PER_PX["jpeg"])
    with pytest.raises(ValueError, match="whole number"):
        count_area(area, bundle, tile_px=1000)


def test_window_flops_are_those_of_the_layers():
    config = NetworkConfig(architecture="colour", in_channels=3, num_colours=1, kernel_px=1)
    small, large = window_flops(config, 64), window_flops(config, 128)
    assert large == 4 * small > 0


def test_an_area_is_planned_without_images(tmp_path):
    area = shapely.box(29.95, -0.1, 30.1, 0.05)
    path = tmp_path / "area.geojson"
    path.write_text(
        json.dumps({"type": "Feature", "properties": {}, "geometry": area.__geo_interface__})
    )
    model = make_bundle(tmp_path / "colour.safetensors", gsd_m=0.5)
    options = ["plan", "--area", path, "--model", model, "--density", "100", "--workers", "3"]
    outcome = _call(*options, "--json", "--price-gpu-hour", "1.5", "--windows-per-s", "50")
    assert outcome.exit_code == 0, outcome.output
    plan = json.loads(outcome.output)
    assert [zone["zone"] for zone in plan["zones"]] == [35, 36]
    assert plan["num_tiles"] == sum(zone["num_tiles"] for zone in plan["zones"]) > 60
    assert plan["num_buildings"] == pytest.approx(100 * plan["area_km2"], rel=1e-3)
    assert plan["gpu_hours"] == pytest.approx(plan["num_windows"] / 50 / 3600, abs=0.01)
    assert plan["windows_per_s"] == {"value": 50.0, "source": "given"}
    assert plan["costs"]["gpu"] == pytest.approx(plan["wall_hours"] * 3 * 1.5, abs=0.01)
    outcome = _call(*options, "--picture", tmp_path / "cover.png")
    assert outcome.exit_code == 0, outcome.output
    assert "assumed" in outcome.output
    assert (tmp_path / "cover.png").read_bytes()[:4] == b"\x89PNG"


def test_an_area_of_a_size_needs_no_file(tmp_path):
    model = make_bundle(tmp_path / "colour.safetensors", gsd_m=0.5)
    outcome = _call("plan", "--area-km2", "5000", "--model", model, "--json")
    assert outcome.exit_code == 0, outcome.output
    plan = json.loads(outcome.output)
    assert plan["area_km2"] == pytest.approx(5000, rel=1e-3)
    assert 5000 < plan["ground_km2"] < 5500
    assert plan["num_buildings"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--area", "a.geojson", "--area-km2", "5"], "not both"),
        (["city.yaml", "--area-km2", "5"], "without images"),
        (["--area", "nowhere.geojson"], "nowhere.geojson"),
        ([], "name a CONFIG"),
    ],
)
def test_what_cannot_be_planned_is_said(tmp_path, options, words):
    model = make_bundle(tmp_path / "colour.safetensors")
    outcome = _call("plan", *options, *(["--model", model] if options else []))
    assert outcome.exit_code != 0
    assert words in outcome.output + str(outcome.exception)


def test_a_job_with_images_reads_what_its_files_hold(tmp_path):
    image = write_town(tmp_path / "town.tif", draw_town(900, 700, seed=1))
    write_config(make_config(tmp_path, [image]), tmp_path / "run.yaml")
    outcome = _call("plan", tmp_path / "run.yaml", "--no-measure", "--json")
    assert outcome.exit_code == 0, outcome.output
    plan = json.loads(outcome.output)
    assert plan["num_images"] == 1
    assert plan["read"]["bits_from"] == "the files' size"
    size = image.stat().st_size
    assert plan["read"]["bytes"] == pytest.approx(size * plan["read"]["px_per_px"], rel=0.01)
    assert plan["seconds_here"] is None


def test_a_large_job_is_extrapolated_from_a_part_of_its_ground(tmp_path, monkeypatch):
    image = write_town(tmp_path / "town.tif", draw_town(1500, 1400, seed=3))
    config = make_config(tmp_path, [image], grid={"tile_px": 64}, segment={"window_px": 64})
    spec = resolve_config(config)
    whole = count_job(spec)
    assert whole.counted_share == 1
    assert whole.num_tiles == len(list(_all_tiles(spec)))
    cells = Cover(spec).plan_cells()
    assert len(cells) >= 4
    monkeypatch.setattr("pipeline.work.MAX_CELLS_COUNTED", 3)
    part = count_job(spec)
    assert part.counted_share == 3 / len(cells)
    counted = [len(list(Cover(spec).tiles_in(cell))) for cell in cells]
    low, high = min(counted) * len(cells), max(counted) * len(cells)
    assert low <= part.num_tiles <= high
    assert part.images_per_tile == 1


def _all_tiles(spec):
    cover = Cover(spec)
    return (tile for cell in cover.plan_cells() for tile in cover.tiles_in(cell))


def test_the_rate_here_is_that_of_windows_in_streams_and_in_full(tmp_path, monkeypatch):
    """As many windows as go through at once, none of them left out at a first look."""
    from model.segment import Segmenter

    shapes, segment = [], Segmenter.segment

    def noting(self, pixels, valid, **options):
        shapes.append((pixels.shape[1:], self.config.first_look))
        return segment(self, pixels, valid, **options)

    monkeypatch.setattr(Segmenter, "segment", noting)
    image = write_town(tmp_path / "town.tif", draw_town(300, 300))
    settings = {"first_look": 0.2, "num_threads": 2, "precision": "bf16", "device": "cpu"}
    rate = measure_rate(resolve_config(make_config(tmp_path, [image], segment=settings)))
    assert set(shapes) == {((256 + 32, 2 * 256 + 32), None)}
    assert rate.per_s > 0
    assert not rate.is_gpu
