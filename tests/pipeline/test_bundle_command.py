import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result

from model.bundle import load_bundle, read_meta, save_bundle
from model.unet import NetworkConfig, build_network
from pipeline.cli.bundle import bundle_group

OPTIONS = ["--encoder", "resnet18", "--gsd", "0.3", "--mean", "0.45", "--std", "0.25"]


def _bundle(*arguments: object) -> Result:
    return CliRunner().invoke(bundle_group, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain state dict of a U-Net, in float16."""
    state_dict = build_network(NetworkConfig(encoder="resnet18")).state_dict()
    half = {k: v.half() if v.is_floating_point() else v for k, v in state_dict.items()}
    path = tmp_path_factory.mktemp("weights") / "plain.safetensors"
    safetensors.torch.save_file(half, path)
    return path


def test_import_takes_weights_and_options_over(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "town.safetensors"
    result = _bundle(
        *("import", weights, out, *OPTIONS, "--erosion", 1, "--threshold", 0.4),
        *("--window", 512, "--margin", 64, "--licence", "CC BY 4.0", "--created", "2026-11"),
    )
    assert result.exit_code == 0, result.output
    bundle = load_bundle(out)
    meta = bundle.meta
    assert bundle.sha256 in result.output
    assert (meta.name, meta.network) == ("town", NetworkConfig(encoder="resnet18"))
    assert (meta.bands, meta.gsd_m) == (("red", "green", "blue"), 0.3)
    assert (meta.mean, meta.std) == ((0.45,) * 3, (0.25,) * 3)
    assert (meta.erosion_px, meta.threshold) == (1, 0.4)
    assert (meta.window_px, meta.margin_px) == (512, 64)
    assert meta.provenance == {
        "imported_from": "plain.safetensors",
        "licence": "CC BY 4.0",
        "created": "2026-11",
    }
    plain = safetensors.torch.load_file(weights)
    assert all(torch.equal(plain[name], tensor) for name, tensor in bundle.state_dict.items())


def test_change_leaves_the_rest_as_it_is(weights: Path, tmp_path: Path) -> None:
    plain, changed, renamed = (tmp_path / name for name in ("plain", "changed", "renamed"))
    assert _bundle("import", weights, plain, *OPTIONS, "--valley-depth", 0.1).exit_code == 0
    old = load_bundle(plain)
    assert old.meta.valley_depth == 0.1
    calibrated = dataclasses.replace(old.meta, calibration=((0.0, 0.1), (1.0, 0.9)))
    save_bundle(plain, calibrated, old.state_dict)
    result = _bundle("change", plain, changed, "--threshold", 0.2, "--valley-depth", 0.35)
    assert result.exit_code == 0, result.output
    assert "calibration is left out" in result.output
    new = load_bundle(changed)
    assert new.meta == dataclasses.replace(old.meta, threshold=0.2, valley_depth=0.35)
    assert all(torch.equal(tensor, new.state_dict[k]) for k, tensor in old.state_dict.items())
    both = ("--confidence", "contrast", "--border-exponent", 0.5, "--overwrite")
    assert _bundle("change", plain, changed, *both).exit_code == 0
    network = dataclasses.replace(old.meta.network, border_exponent=0.5)
    wanted = dataclasses.replace(old.meta, confidence="contrast", network=network)
    assert read_meta(changed) == wanted
    assert _bundle("change", plain, renamed, "--name", "mine").exit_code == 0
    assert read_meta(renamed) == dataclasses.replace(calibrated, name="mine")
    for options, message in (
        (["--name", "x"], "exists; choose another name"),
        (["--overwrite"], "nothing to change"),
        (["--overwrite", "--threshold", 2], "threshold = 2.0; expected between 0 and 1"),
    ):
        failed = _bundle("change", plain, changed, *options)
        assert failed.exit_code == 1
        assert message in failed.output


def test_import_of_other_bands_and_depths(tmp_path: Path) -> None:
    config = NetworkConfig(
        encoder="resnet18", encoder_depth=4, decoder_channels=(128, 64, 32, 16), in_channels=4
    )
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(build_network(config).state_dict(), weights)
    result = _bundle(
        *("import", weights, tmp_path / "out", "--encoder", "resnet18", "--encoder-depth", 4),
        *("--gsd", 0.5, "--bands", "red,green,blue,nir", "--name", "nir"),
        *("--mean", "0.1,0.2,0.3,0.4", "--std", "0.2"),
    )
    assert result.exit_code == 0, result.output
    meta = read_meta(tmp_path / "out")
    assert meta.network == config
    assert (meta.mean, meta.std) == ((0.1, 0.2, 0.3, 0.4), (0.2,) * 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--encoder", "resnet34"], "tensors are missing: encoder.layer1.2.bn1.bias"),
        (["--encoder", "resnet19"], "encoder 'resnet19'"),
        (["--window", "1000"], "window_px = 992 fits"),
        (["--mean", "0.4,0.5"], "mean = [0.4, 0.5]; expected one value for each of 3 bands"),
        (["--mean", "grey"], "'grey'; expected a number"),
        (["--std", "58"], "std = 58.0"),
        (["--gsd", "0"], "gsd_m = 0.0"),
        (["--threshold", "50"], "threshold = 50.0"),
        (["--encoder-depth", "7"], "encoder_depth = 7"),
        (["--bands", "red,green"], "wrong shape: encoder.conv1.weight"),
    ],
)
def test_import_refuses_what_does_not_fit(
    weights: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = _bundle("import", weights, tmp_path / "out", *OPTIONS, *options)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


def test_import_never_overwrites_unasked(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.write_text("precious")
    result = _bundle("import", weights, out, *OPTIONS)
    assert result.exit_code == 1
    assert "add --overwrite" in result.output
    assert out.read_text() == "precious"
    assert _bundle("import", weights, out, *OPTIONS, "--overwrite").exit_code == 0
    assert read_meta(out).name == "precious"


def test_import_of_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, path)
    result = _bundle("import", path, tmp_path / "out", *OPTIONS)
    assert result.exit_code == 1
    assert "PyTorch pickle" in result.output


def test_show_prints_every_field(colour_bundle: Path) -> None:
    rows = dict(
        line.split(maxsplit=1) for line in _bundle("show", colour_bundle).output.splitlines()
    )
    assert rows["name"] == "colour"
    assert rows["network.architecture"] == "colour"
    assert rows["bands"] == "red, green, blue"
    assert rows["calibration"] == "none"
    assert rows["provenance.licence"] == "Apache-2.0"
    assert int(rows["file_bytes"]) == colour_bundle.stat().st_size


def test_show_as_json_with_a_check(colour_bundle: Path) -> None:
    fields = json.loads(_bundle("show", colour_bundle, "--json", "--check").output)
    assert fields["sha256"] == load_bundle(colour_bundle).sha256
    assert fields["network"]["num_colours"] == 1


def test_show_names_a_bad_file(tmp_path: Path) -> None:
    result = _bundle("show", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "there is no bundle at" in result.output


def test_the_command_itself_imports_no_torch() -> None:
    program = "import sys, pipeline.cli.bundle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
