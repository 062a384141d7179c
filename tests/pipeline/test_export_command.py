"""An exported bundle takes the bundle's place in a run."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from running import footprints, make_bundle, make_config, run_here
from synthetic import draw_town, write_town

from model.bundle import read_meta
from pipeline.cli.bundle import bundle_group
from pipeline.cli.export import export_command

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(export_command, [str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_a_run_with_an_exported_bundle(suffix, tmp_path):
    bundle, exported = make_bundle(tmp_path / "a.safetensors"), tmp_path / f"a.{suffix}"
    result = invoke(bundle, "--out", exported)
    assert result.exit_code == 0, result.output
    assert "0.0000% of" in result.output
    image = write_town(tmp_path / "town.tif", draw_town(500, 600, seed=5))
    outputs = []
    for model in (bundle, exported):
        config = make_config(
            tmp_path,
            [image],
            model=str(model),
            output=str(tmp_path / model.suffix),
            segment={"precision": "fp32"},
        )
        outputs.append(footprints(run_here(config).out_path))
    wanted, found = outputs
    assert len(wanted) > 10
    assert found.index.equals(wanted.index)
    assert (found.geometry == wanted.geometry).all()
    # The file is another model: the provenance tells which.
    assert set(found.model_id) != set(wanted.model_id)
    assert found.confidence.tolist() == pytest.approx(wanted.confidence.tolist(), abs=1e-3)


def test_windows_and_format_of_the_call(tmp_path):
    bundle, out = make_bundle(tmp_path / "a.safetensors"), tmp_path / "a.pt2"
    result = invoke(bundle, "--out", out, "--format", "pt2", "--window", 128, "--margin", 8)
    assert result.exit_code == 0, result.output
    assert (read_meta(out).window_px, read_meta(out).margin_px) == (128, 8)
    shown = CliRunner().invoke(bundle_group, ["show", str(out)])
    assert shown.exit_code == 0
    assert "window_px                    128" in shown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.safetensors", "--out", "a.bin"], "expected the suffix .onnx or .pt2"),
        (["a.safetensors", "--out", "a.pt2", "--format", "onnx"], "needs the suffix .onnx"),
        (["a.safetensors", "--out", "a.onnx", "--precision", "bf16"], "no such convolution"),
        (["absent.safetensors", "--out", "a.onnx"], "there is no bundle"),
        (["a.safetensors", "--out", "a.safetensors"], "--overwrite"),
    ],
)
def test_calls_that_make_no_sense(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_bundle(Path("a.safetensors"))
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert [path.name for path in Path().iterdir()] == ["a.safetensors"]
