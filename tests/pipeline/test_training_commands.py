"""The commands around training, run as a user runs them, on networks that learn in seconds."""

import json
from pathlib import Path
from typing import Any

import geopandas
import pytest
import synthetic
import torch
import yaml
from click.testing import CliRunner, Result
from place_drawings import checkered_place
from small_trainings import LIGHTNING_WARNINGS

from model.bundle import load_bundle
from model.chip_pack import read_pack, write_pack
from pipeline.ablation_config import load_ablation, merge
from pipeline.cli.main import cli
from pipeline.config import ConfigError
from pipeline.evaluation_config import load_places

pytestmark = LIGHTNING_WARNINGS

TRAINING: dict[str, Any] = {
    "network": {"encoder": "resnet18", "encoder_depth": 3, "decoder_channels": [32, 16, 8]},
    "chips": {"size_px": 64, "gsd_m": [0.25, 0.4]},
    "schedule": {"steps": 2, "batch_size": 2, "validate_every": 1, "learning_rate": 1e-4},
    "validation_gsd_m": [0.3],
    "precision": "32-true",
    "num_loaders": 0,
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack, a town with its outlines, and a trained bundle."""
    folder = tmp_path_factory.mktemp("training")
    write_pack(
        folder / "train.pack.zip",
        [checkered_place("taught/one"), checkered_place("held_out/two", split="validation")],
    )
    town = synthetic.draw_town(300, 420, seed=1)
    synthetic.write_town(folder / "town.tif", town)
    geopandas.GeoSeries(town.polygons_in("EPSG:4326"), crs=4326).to_file(folder / "town.geojson")
    config = {**TRAINING, "pack": str(folder / "train.pack.zip"), "output": str(folder / "base")}
    (folder / "base.yaml").write_text(yaml.safe_dump(config))
    result = run("train", folder / "base.yaml")
    assert result.exit_code == 0, result.output
    assert "mean AP50" in result.output
    return folder


def bundle_of(folder: Path) -> Path:
    return folder / "base" / "everyroof.safetensors"


def test_a_pool_and_a_student(folder: Path) -> None:
    pool = folder / "pool.pack.zip"
    result = run("pool", folder / "town.tif", "--out", pool, "--place-px", 128, "--gsd", 0.3)
    assert result.exit_code == 0, result.output
    places = read_pack(pool)
    assert f"{len(places)} places" in result.output
    student = {**TRAINING, "pack": str(folder / "train.pack.zip"), "output": str(folder / "s")}
    config = {
        "teacher": str(bundle_of(folder)),
        "pool": str(pool),
        "student": {**student, "strength": "strong", "pool": {"batch_size": 1}},
        "filter": {"min_building_share": 0.0, "max_unsure_share": 1.0},
    }
    (folder / "student.yaml").write_text(yaml.safe_dump(config))
    result = run("self-train", folder / "student.yaml")
    assert result.exit_code == 0, result.output
    assert "round 1:" in result.output
    facts = load_bundle(folder / "s" / "round1" / "everyroof.safetensors").meta.provenance
    assert facts["pool"] == "pool.pack.zip"


def test_fine_tuning_on_a_town(folder: Path) -> None:
    out = folder / "tuned"
    options = ("--steps", 2, "--batch-size", 2, "--freeze", 1, "--validation-share", 0.3)
    result = run(
        "fine-tune", bundle_of(folder), "--images", folder / "town.tif", "--out", out, *options
    )
    assert result.exit_code == 0, result.output
    assert "held out" in result.output
    meta = load_bundle(out / "everyroof-tuned.safetensors").meta
    before = load_bundle(bundle_of(folder)).meta
    assert (meta.network, meta.erosion_px, meta.mean) == (
        before.network,
        before.erosion_px,
        before.mean,
    )
    assert meta.threshold == before.threshold
    assert meta.valley_depth == before.valley_depth == 0.35
    assert meta.provenance["init"] == "everyroof.safetensors"
    # Chosen on what is held out.
    assert meta.provenance["kept_share"] in (0.0, 0.25, 0.5, 0.75)


def test_fine_tuning_ends_between_old_and_fitted_weights(folder: Path, tmp_path: Path) -> None:
    states = {"old": load_bundle(bundle_of(folder)).state_dict}
    for keep in ("0", "0.75", None):
        out = tmp_path / f"keep-{keep}"
        options = ("--steps", 2, "--batch-size", 2, "--out", out)
        options += () if keep is None else ("--keep", keep)
        town = folder / "town.tif"
        result = run("fine-tune", bundle_of(folder), "--images", town, *options)
        assert result.exit_code == 0, result.output
        states[str(keep)] = load_bundle(out / "everyroof-tuned.safetensors").state_dict
    moved = 0.0
    for name, old in states["old"].items():
        if not old.is_floating_point():
            continue
        old, fitted = old.float(), states["0"][name].float()
        moved = max(moved, (fitted - old).abs().max().item())
        for keep, share in (("0.75", 0.75), ("None", 0.5)):
            wanted = share * old + (1 - share) * fitted
            torch.testing.assert_close(states[keep][name].float(), wanted, rtol=2e-3, atol=1e-4)
    assert moved > 1e-3
    result = run("fine-tune", bundle_of(folder), "--images", town, "--out", out, "--keep", 1)
    assert result.exit_code == 1
    assert "kept_share = 1.0; expected 0 to below 1" in result.output


def test_fine_tuning_with_nothing_to_score_keeps_half(folder: Path, tmp_path: Path) -> None:
    """The strip that is held out has no building."""
    labels = geopandas.read_file(folder / "town.geojson")
    west, _, east, _ = labels.total_bounds
    in_the_west = labels.geometry.bounds.maxx < west + 0.5 * (east - west)
    labels[in_the_west].to_file(tmp_path / "west.geojson")
    out = tmp_path / "out"
    options = ("--steps", 1, "--batch-size", 2, "--validation-share", 0.3, "--out", out)
    images = ("--images", folder / "town.tif", "--labels", tmp_path / "west.geojson")
    result = run("fine-tune", bundle_of(folder), *images, *options)
    assert result.exit_code == 0, result.output
    assert "50% of the old weights kept" in result.output
    facts = load_bundle(out / "everyroof-tuned.safetensors").meta.provenance
    assert (facts["kept_share"], facts["validation_ap50"]) == (0.5, None)


def test_averaging_chooses_the_threshold_on_held_out_places(folder: Path, tmp_path: Path) -> None:
    changed, out = tmp_path / "changed.safetensors", tmp_path / "mean.safetensors"
    assert run("bundle", "change", bundle_of(folder), changed, "--threshold", 0.49).exit_code == 0
    average = ("bundle", "average", changed, bundle_of(folder), "--out", out)
    result = run(*average, "--pack", folder / "train.pack.zip", "--shares", "0.25,0.75")
    assert result.exit_code == 0, result.output
    assert "on its validation places, threshold" in result.output
    assert load_bundle(out).meta.threshold in (0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
    for arguments, message in (
        (average, "exists; choose another name"),
        (("bundle", "average", changed, "--out", tmp_path / "x"), "takes at least two"),
        ((*average, "--overwrite", "--shares", "0.5"), "expected 2 numbers"),
    ):
        failed = run(*arguments)
        assert failed.exit_code == 1
        assert message in failed.output
    write_pack(tmp_path / "bare.pack.zip", [checkered_place("taught/one")])
    before = out.read_bytes()
    failed = run(*average, "--overwrite", "--pack", tmp_path / "bare.pack.zip")
    assert failed.exit_code == 1
    assert out.read_bytes() == before
    assert "holds no validation place" in failed.output


def test_fine_tuning_keeps_a_bundle_that_cuts_nothing(folder: Path, tmp_path: Path) -> None:
    plain, out = tmp_path / "plain.safetensors", tmp_path / "out"
    changes = ("--valley-depth", 0, "--threshold", 0.45)
    assert run("bundle", "change", bundle_of(folder), plain, *changes).exit_code == 0
    options = ("--steps", 1, "--batch-size", 2, "--out", out)
    result = run("fine-tune", plain, "--images", folder / "town.tif", *options)
    assert result.exit_code == 0, result.output
    meta = load_bundle(out / "everyroof-tuned.safetensors").meta
    assert (meta.threshold, meta.valley_depth) == (0.45, 0.0)


def test_fine_tuning_with_labels_elsewhere(folder: Path, tmp_path: Path) -> None:
    ring = [[10, 50], [10.001, 50], [10.001, 50.001], [10, 50]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    labels = tmp_path / "far.geojson"
    labels.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    result = run(
        "fine-tune", bundle_of(folder), "--images", folder / "town.tif", "--labels", labels,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code != 0
    assert "is the CRS of both right?" in result.output


def test_an_ablation_with_a_student(folder: Path, tmp_path: Path) -> None:
    run("pool", folder / "town.tif", "--out", tmp_path / "pool.zip", "--place-px", 128)
    config = {
        "base": str(folder / "base.yaml"),
        "output": str(tmp_path / "ablation"),
        "seeds": [0],
        "common": {"schedule": {"steps": 1}},
        "variants": {
            "baseline": {},
            "no mixup": {"mixup": {"alpha": 0.0}},
            "student": {
                "pool": {"batch_size": 1},
                "self_train": {
                    "teacher": f"{tmp_path}/ablation/baseline/seed{{seed}}/everyroof.safetensors",
                    "pool": str(tmp_path / "pool.zip"),
                    "filter": {"min_building_share": 0.0, "max_unsure_share": 1.0},
                },
            },
        },
    }
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump(config))
    result = run("ablate", tmp_path / "ablation.yaml")
    assert result.exit_code == 0, result.output
    table = (tmp_path / "ablation" / "table.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "baseline",
        "no mixup",
        "student",
    ]
    assert table in result.output


def test_a_wrong_variant_is_named_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    config = {
        "base": str(folder / "base.yaml"),
        "output": str(tmp_path / "out"),
        "variants": {"a": {}, "b": {"mixup": {"alfa": 0.0}}},
    }
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(
        ConfigError, match=r"variant b(.|\n)*mixup\.alfa: unknown key; did you mean"
    ):
        load_ablation(tmp_path / "ablation.yaml")
    assert not (tmp_path / "out").exists()
    config["variants"] = {"a": {}}
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="expected at least 2 to compare"):
        load_ablation(tmp_path / "ablation.yaml")


def test_changes_are_merged_into_mappings() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": [1, 2], "c": 3}
    assert merge(base, {"a": {"y": 5}, "b": [9]}) == {"a": {"x": 1, "y": 5}, "b": [9], "c": 3}
    assert base["a"] == {"x": 1, "y": 2}


def test_chip_losses_are_listed_and_drawn(folder: Path, tmp_path: Path) -> None:
    result = run(
        "chip-losses", bundle_of(folder), folder / "train.pack.zip", "--out", tmp_path,
        "--size-px", 64,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "losses.csv").read_text().splitlines()
    assert lines[0].startswith("loss,place,")
    losses = [float(line.split(",")[0]) for line in lines[1:]]
    assert len(losses) == 24
    assert losses == sorted(losses, reverse=True)
    assert (tmp_path / "worst.png").stat().st_size > 1000


def test_held_out_places_are_listed_for_evaluation(folder: Path, tmp_path: Path) -> None:
    result = run("places", folder / "train.pack.zip", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    config = load_places(tmp_path / "places.yaml")
    assert [place.name for place in config.places] == ["held_out/two"]


def test_a_learning_rate_is_suggested(folder: Path) -> None:
    result = run("train", folder / "base.yaml", "--find-learning-rate")
    assert result.exit_code == 0, result.output
    assert "suggestion: schedule.learning_rate:" in result.output
