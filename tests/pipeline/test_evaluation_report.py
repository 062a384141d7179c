"""A bundle over places: the footprints are those of a run, the page says what was found."""

import csv
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
import yaml
from click.testing import CliRunner, Result
from running import footprints, make_bundle, make_config, run_here
from synthetic import Town, draw_town, write_town

from model.bundle import load_bundle, read_meta, save_bundle
from model.segment import Segmenter
from pipeline.calibrate_bundle import fit_to_places
from pipeline.cli.calibrate import calibrate_command
from pipeline.cli.evaluate import evaluate_command
from pipeline.config import ConfigError
from pipeline.evaluate_places import PlaceEvaluation, evaluate_places
from pipeline.evaluation_config import EvaluationConfig, load_places, parse_places
from pipeline.evaluation_report import (
    EvaluationSummary,
    evaluation_as_dict,
    render_evaluation,
    write_evaluation,
)
from pipeline.place_footprints import find_footprints
from pipeline.spec import resolve_config

ROOT = Path(__file__).resolve().parents[2]


def save_place(folder: Path, name: str, town: Town, keep: slice = slice(None)) -> dict[str, str]:
    """A town's image and some of its outlines as files; the place's entry in the YAML."""
    write_town(folder / f"{name}.tif", town)
    frame = geopandas.GeoDataFrame(geometry=list(town.polygons)[keep], crs=town.crs)
    frame.to_file(folder / f"{name}.geojson")
    return {"name": name, "image": f"{name}.tif", "labels": f"{name}.geojson", "aoi": "image"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two towns, the second with half of its labels only, a bundle, and places.yaml."""
    folder = tmp_path_factory.mktemp("places")
    make_bundle(folder / "colour.safetensors")
    whole = save_place(folder, "whole", draw_town(700, 700, seed=1))
    town = draw_town(700, 700, seed=2, lat_deg=-14.55, lon_deg=40.68)
    partly = save_place(folder, "part<b>ly", town, slice(0, None, 2))
    places = [{**whole, "category": "urban"}, {**partly, "category": "rural"}]
    (folder / "places.yaml").write_text(yaml.safe_dump({"places": places}))
    return folder


@pytest.fixture(scope="module")
def evaluations(data) -> list[PlaceEvaluation]:
    config = load_places(data / "places.yaml")
    return list(evaluate_places(data / "colour.safetensors", config, gsds_m=(0.3, 0.5)))


@pytest.fixture(scope="module")
def summary(data, evaluations) -> EvaluationSummary:
    meta = read_meta(data / "colour.safetensors")
    return EvaluationSummary(title="A <test>", evaluations=evaluations, meta=meta, sha256="5a")


@pytest.fixture(scope="module")
def page_text(summary) -> str:
    return render_evaluation(summary)


# --- the same as a run ---------------------------------------------------------------------------


def _same_footprints(config, tmp_path) -> None:
    """Rows of a run, by id, against those found in memory."""
    spec = run_here(config)
    found = find_footprints(
        resolve_config(config), Segmenter.load(spec.config.model, spec.config.segment)
    )
    frame = found.table.to_pandas().set_index("id").sort_index()
    wanted = footprints(spec.out_path)
    assert len(wanted) > 20
    assert wanted.index.equals(frame.index)
    for column in ("latitude", "longitude", "area_in_meters", "confidence", "full_plus_code"):
        assert wanted[column].tolist() == frame[column].tolist(), column
    assert list(shapely.to_wkb(wanted.geometry.values)) == frame["geometry"].tolist()


def test_footprints_are_those_of_a_run(tmp_path):
    """Many small tiles with seams on one side, one after the other in memory on the other."""
    image = write_town(tmp_path / "town.tif", draw_town(600, 600, seed=4))
    _same_footprints(make_config(tmp_path, [image], grid={"tile_px": 256}), tmp_path)


def test_footprints_are_those_of_a_run_across_two_zones(tmp_path):
    image = write_town(tmp_path / "town.tif", draw_town(400, 800, seed=4, lon_deg=35.999))
    _same_footprints(make_config(tmp_path, [image]), tmp_path)


def test_raw_confidence_is_that_before_calibration(tmp_path, data):
    """Calibrated rows still know what they came from."""
    bundle = load_bundle(data / "colour.safetensors")
    meta = bundle.meta
    curve = ((0.0, 0.0), (1.0, 0.5))
    path = tmp_path / "calibrated.safetensors"
    save_bundle(path, dataclasses.replace(meta, calibration=curve), bundle.state_dict)
    config = load_places(data / "places.yaml")
    config = dataclasses.replace(config, places=config.places[:1])
    (plain,) = evaluate_places(data / "colour.safetensors", config)
    (halved,) = evaluate_places(path, config)
    np.testing.assert_array_equal(plain.raw_confidence, halved.raw_confidence)
    np.testing.assert_allclose(halved.confidence, plain.raw_confidence / 2, atol=1e-4)
    np.testing.assert_allclose(plain.confidence, plain.raw_confidence, atol=1e-4)


# --- scores --------------------------------------------------------------------------------------


def test_scores_of_drawn_towns(evaluations):
    by_key = {(e.scores.name, e.scores.gsd_m): e.scores for e in evaluations}
    assert list(by_key) == [("whole", 0.3), ("whole", 0.5), ("part<b>ly", 0.3), ("part<b>ly", 0.5)]
    whole, partly = by_key["whole", 0.3], by_key["part<b>ly", 0.3]
    assert whole.scores.ap50 > 0.9
    assert whole.pixel_iou > 0.9
    assert whole.boundary_m < 0.3
    assert whole.category == "urban"
    # Half of the labels are missing there, so half of what is found counts as wrong.
    assert partly.scores.at_threshold.precision == pytest.approx(0.5, abs=0.1)
    assert partly.scores.at_threshold.recall > 0.9
    # Coarser pixels, less exact outlines.
    assert by_key["whole", 0.5].boundary_m > whole.boundary_m


def test_pixel_sizes_come_from_the_call_the_file_or_the_bundle(data, tmp_path):
    def sizes(config: EvaluationConfig, *given: float) -> list[float]:
        found = evaluate_places(data / "colour.safetensors", config, gsds_m=given)
        return [evaluation.scores.gsd_m for evaluation in found]

    text = (data / "places.yaml").read_text()
    plain = yaml.safe_load(text)
    plain = {"root": str(data), "places": plain["places"][:1]}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(plain))
    (tmp_path / "sized.yaml").write_text(yaml.safe_dump({**plain, "gsd_m": [0.6, 0.4]}))
    assert sizes(load_places(tmp_path / "one.yaml")) == [0.3]
    assert sizes(load_places(tmp_path / "sized.yaml")) == [0.6, 0.4]
    assert sizes(load_places(tmp_path / "sized.yaml"), 0.5) == [0.5]


def test_json_holds_everything(summary):
    plain = evaluation_as_dict(summary)
    json.dumps(plain, allow_nan=False)
    assert [place["name"] for place in plain["places"]] == ["whole"] * 2 + ["part<b>ly"] * 2
    means = plain["mean_over_places"]["0.3"]
    values = [place["ap50"] for place in plain["places"] if place["gsd_m"] == 0.3]
    assert means["all"]["ap50"] == pytest.approx(np.mean(values))
    assert means["by_category"]["urban"]["ap50"] == values[0]
    assert set(plain["reliability"]) == {"0.30 m", "0.50 m"}


def test_an_open_scene_with_the_seed(shared_data, seed_bundle):
    """The configured place is found, and scored as documented."""
    config = load_places(ROOT / "configs" / "evaluate" / "open_scenes.yaml")
    places = tuple(place for place in config.places if place.name == "nacala")
    config = dataclasses.replace(config, places=places)
    (found,) = evaluate_places(seed_bundle, config, gsds_m=(0.3,))
    # Number types and thread counts move single pixels, and with them the third decimal.
    assert found.scores.scores.ap50 == pytest.approx(0.511, abs=0.02)
    assert (found.scores.scores.num_references, len(found.references)) == (35, 44)


# --- the page ------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Tags, links and text of a page; tags must close in order."""

    VOID = ("meta", "br", "img", "input", "path", "use", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.text = " ".join(self.text.split())
        assert self.open == [], "tags left open"

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone_and_says_it_all(summary, page_text):
    text, page = page_text, _Page(page_text)
    assert "part<b>ly" not in text
    assert "part<b>ly" in page.text
    assert "A <test>" in page.text
    for link in page.links:
        assert link.startswith(("data:image/webp;base64,", "#")), link[:60]
    assert sum(link.startswith("data:") for link in page.links) == 4
    assert "<script" not in text
    for words in ("AP50", "Pixel IoU", "Boundary", "Is the confidence right?", "missed", "S2 cell"):
        assert words in page.text
    scores = summary.evaluations[0].scores
    assert f"{scores.scores.ap50:.3f}" in page.text
    assert "mean of 2 places" in page.text
    assert len(text) < 3_000_000


def test_charts_follow_the_pages_colour(page_text):
    text = page_text
    assert text.count("<svg") == 3
    assert "currentColor" in text
    assert "#010203" not in text
    assert len(re.findall(r'aria-label="[^"]+"', text)) >= 3


def test_files_of_a_report(summary, page_text, tmp_path):
    written = write_evaluation(tmp_path / "new" / "folder", summary)
    names = ["report.html", "scores.json", "thresholds_0.3m.csv", "thresholds_0.5m.csv"]
    assert [path.name for path in written] == names
    # Another time, the same bytes.
    assert written[0].read_text() == page_text
    rows = list(csv.DictReader(written[2].read_text().splitlines()))
    assert len(rows) == 2  # Kampala and Nacala lie in different cells
    kampala = next(row for row in rows if row["s2_token"] == "177")
    assert float(kampala["confidence_threshold_90%_precision"]) > 0.9


def test_a_place_without_footprints(data, tmp_path):
    """Nothing found at all is a score, not an error."""
    make_bundle(tmp_path / "blind.safetensors", roof_colours=((1, 255, 1),))
    config = load_places(data / "places.yaml")
    found = list(evaluate_places(tmp_path / "blind.safetensors", config))
    assert [one.scores.scores.ap50 for one in found] == [0, 0]
    meta = read_meta(tmp_path / "blind.safetensors")
    text = render_evaluation(
        EvaluationSummary(title="blind", evaluations=found, meta=meta, sha256="0")
    )
    assert "0 right, 0 wrong" in _Page(text).text


# --- places.yaml ---------------------------------------------------------------------------------

PLACE = {"name": "a", "image": "a.tif", "labels": "a.geojson", "aoi": "image"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected a mapping"),
        ({}, "places: missing"),
        ({"places": []}, "places is empty"),
        ({"places": [PLACE, PLACE]}, "a occurs twice"),
        ({"places": [{**PLACE, "aois": "x"}]}, "aois: unknown key"),
        ({"places": [{**PLACE, "images": ["b.tif"]}]}, "either `image` or `images`"),
        ({"places": [{"name": "a", "labels": "x", "aoi": "y"}]}, "either `image` or `images`"),
        ({"places": [{k: v for k, v in PLACE.items() if k != "labels"}]}, "labels: missing"),
        ({"places": [PLACE], "gsd_m": [0.30004]}, "whole number of millimetres"),
        ({"places": [PLACE], "filter": {"min_area_m2": -1}}, "min_area_m2"),
    ],
)
def test_places_that_cannot_be_used(data, message):
    with pytest.raises(ConfigError, match=message):
        parse_places(data, source="places.yaml")


def test_paths_start_from_the_root(tmp_path):
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "places.yaml"
    url = {**PLACE, "name": "b", "image": "https://example.org/b.tif", "aoi": "b.gpkg"}
    path.write_text(yaml.safe_dump({"root": "../data", "places": [PLACE, url]}))
    here, there = load_places(path), load_places(path, root=tmp_path / "other")
    data = tmp_path / "sub" / ".." / "data"
    assert here.places[0].image_paths == (str(data / "a.tif"),)
    assert here.places[0].aoi == "image"
    assert here.places[1].image_paths == ("https://example.org/b.tif",)
    assert here.places[1].aoi == str(data / "b.gpkg")
    assert there.places[0].labels == str(tmp_path / "other" / "a.geojson")
    with pytest.raises(ConfigError, match="cannot read the places"):
        load_places(tmp_path / "absent.yaml")
    path.write_text("places: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_places(path)


# --- commands ------------------------------------------------------------------------------------


def invoke(command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_evaluate_command(data, tmp_path):
    result = invoke(
        evaluate_command,
        *(data / "colour.safetensors", "--places", data / "places.yaml", "--gsd", 0.3),
        *("--report", tmp_path / "report", "--json", tmp_path / "scores.json"),
        *("--min-confidence", 0.5),
    )
    assert result.exit_code == 0, result.output
    assert "whole at 0.3 m: AP50 1.000" in result.output
    assert "mean of 2 places" in result.output
    assert (tmp_path / "report" / "report.html").exists()
    plain = json.loads((tmp_path / "scores.json").read_text())
    assert plain["min_confidence"] == 0.5
    assert len(plain["places"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["B", "labels.geojson", "--places", "p.yaml"], "come from the YAML file"),
        (["B", "--places", "p.yaml", "--aoi", "a.geojson"], "come from the YAML file"),
        (["B", "--gsd", "0.3"], "--gsd: only with --places"),
        (["B", "labels.geojson", "--report", "r"], "--report: only with --places"),
        (["B"], "a bundle --places"),
        (["absent.safetensors", "--places", "absent.yaml"], "cannot read the places"),
    ],
)
def test_uses_that_do_not_fit(arguments, message):
    result = invoke(evaluate_command, *arguments)
    assert result.exit_code != 0
    assert message in result.output


def test_errors_name_the_place(data, tmp_path):
    places = {"places": [{**PLACE, "name": "lost"}]}
    (tmp_path / "places.yaml").write_text(yaml.safe_dump(places))
    arguments = (data / "colour.safetensors", "--places", tmp_path / "places.yaml")
    result = invoke(evaluate_command, *arguments)
    assert result.exit_code == 1
    assert "place lost: there is no file" in result.output
    result = invoke(evaluate_command, *arguments, "--root", data)
    assert f"place lost: there is no file {data / 'a.geojson'}" in result.output


def test_calibrate_command(data, tmp_path):
    out = tmp_path / "calibrated.safetensors"
    arguments = (data / "colour.safetensors", "--places", data / "places.yaml", "--out", out)
    result = invoke(calibrate_command, *arguments, "--report", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert "expected calibration error" in result.output
    assert "curve fitted to the other places" in result.output
    old, new = read_meta(data / "colour.safetensors"), read_meta(out)
    assert new.calibration
    facts = new.provenance["calibration"]
    assert facts["places"] == ["whole", "part<b>ly"]
    assert facts["held_out"] is True
    assert new.network == old.network
    assert "held out" in (tmp_path / "report" / "report.html").read_text()
    # Drawn roofs are all nearly sure, while a quarter of them count as wrong.
    found = list(evaluate_places(out, load_places(data / "places.yaml")))
    confidence = np.concatenate([one.scored_confidence for one in found])
    raw, truth = (
        np.concatenate(parts) for parts in zip(*(e.samples() for e in found), strict=True)
    )
    assert raw.mean() - truth.mean() > 0.1
    assert confidence.mean() == pytest.approx(truth.mean(), abs=0.03)
    again = invoke(calibrate_command, *arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output


def test_one_place_cannot_be_held_out(evaluations):
    result = fit_to_places(evaluations[:2])
    assert not result.is_held_out
    assert "flattered" in result.note
