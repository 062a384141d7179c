import json

import cv2
import numpy as np
import pytest
import shapely
from click.testing import CliRunner
from running import run_command

from geo.errors import DatasetError
from geo.references import read_polygons
from model import shipped
from model.errors import BundleError
from pipeline.cli.main import cli
from pipeline.demo import draw_town, score_town, write_overlay


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return draw_town(tmp_path_factory.mktemp("demo"), side_m=150)


def predictions_file(folder, town, keep):
    """Footprints that are the truth, moved or left out as `keep` says."""
    truth = json.loads(town.truth_path.read_text())
    features = []
    for index, feature in enumerate(truth["features"]):
        verdict = keep(index)
        if verdict is None:
            continue
        shape = shapely.geometry.shape(feature["geometry"])
        moved = shapely.affinity.translate(shape, verdict, 0)
        properties = {"confidence": 0.9 if verdict == 0 else 0.6}
        features.append(
            {
                "type": "Feature",
                "properties": properties,
                "geometry": shapely.geometry.mapping(moved),
            }
        )
    path = folder / "predictions.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_the_truth_scores_one(town, tmp_path):
    result = score_town(town, predictions_file(tmp_path, town, lambda index: 0.0))
    assert result.scores.scores.ap50 == pytest.approx(1.0)
    assert result.scores.scores.num_references > 5
    assert result.scores.pixel_iou == pytest.approx(1.0, abs=1e-4)
    assert result.scores.boundary_m == pytest.approx(0.0, abs=1e-3)


def test_what_is_missing_or_moved_costs(town, tmp_path):
    # 0.0003 degrees are 33 m.
    path = predictions_file(tmp_path, town, lambda index: (0.0, None, 0.0003)[index % 3])
    result = score_town(town, path)
    best = result.scores.scores.at_best_f1
    assert 0.2 < result.scores.scores.ap50 < 0.6
    assert best.num_false_negatives > 0
    write_overlay(tmp_path / "overlay.png", town, result)
    picture = cv2.imread(str(tmp_path / "overlay.png"))
    plain = town.scene.image[:, :, ::-1]
    assert picture.shape == plain.shape
    assert 0.01 < (np.abs(picture.astype(int) - plain).max(axis=2) > 40).mean() < 0.6


def test_the_truth_lies_on_the_image(town):
    references = read_polygons(town.truth_path)
    assert references.crs.to_epsg() == town.place.epsg
    areas = sum(shapely.Polygon(rings[0], rings[1:]).area for rings in town.scene.polygons)
    expected = areas * town.scene.gsd_m**2
    assert shapely.area(references.polygons).sum() == pytest.approx(expected, rel=2e-3)


def test_an_unfinished_run_cannot_be_scored(town, tmp_path):
    with pytest.raises(DatasetError, match="not finished"):
        score_town(town, tmp_path)


def test_without_weights_the_command_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "SHIPPED_NAME", "weights/atlantis.safetensors")
    with pytest.raises(BundleError, match="atlantis"):
        shipped.shipped_bundle_path()
    for arguments in (["demo", "--out", str(tmp_path / "d")],
                      ["run", "--image", "x.tif", "--out", str(tmp_path / "r")]):  # fmt: skip
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 2
        assert "--model BUNDLE" in result.output
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_the_demonstration_runs(seed_bundle, tmp_path):
    out = tmp_path / "demo"
    done = run_command("demo", "--out", str(out), "--model", str(seed_bundle), "--side", "150")
    assert done.returncode == 0, done.stderr
    assert "AP50" in done.stdout
    assert (out / "overlay.png").exists()
    assert (out / "result" / "report.html").exists()
