"""The notebooks of docs/notebooks run from top to bottom and say what the dataset holds."""

import os
import re
import sys
from pathlib import Path

import geopandas
import nbformat
import pandas as pd
import pytest
from drawn_footprints import draw_footprints
from nbclient import NotebookClient
from small_datasets import write_dataset

from geo.query import read_footprints

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
NUM_ROWS = 2000
# What zmq and Jupyter do while they stop is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return write_dataset(
        tmp_path_factory.mktemp("notebooks") / "out",
        draw_footprints(NUM_ROWS, seed=5),
        max_rows=700,
    )


@pytest.fixture(scope="module")
def frame(out):
    return read_footprints(out)


@pytest.fixture
def run(tmp_path, tmp_path_factory, out, monkeypatch):
    """Run a notebook as a person would, in an empty folder; returns everything it said."""
    monkeypatch.setenv("EVERYROOF_OUT", str(out))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # Pictures go into the notebook.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    # The kernel of this environment, and nothing that the user of this machine set up.
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))

    def run(name: str) -> str:
        notebook = nbformat.read(ROOT / "docs" / "notebooks" / name, as_version=4)
        client = NotebookClient(
            notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
        return "\n".join(_said(cell) for cell in notebook.cells if cell.cell_type == "code")

    return run


def _said(cell) -> str:
    texts = []
    for output in cell.outputs:
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", f"{cell.source}\nwarns: {output.text}"
        texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
        texts += ["<picture>"] if "image/png" in output.get("data", {}) else []
    return "\n".join(texts)


def _sure(frame):
    return frame[frame["confidence"] >= 0.6]


def test_geopandas(run, frame, tmp_path):
    said = run("geopandas.ipynb")
    assert f"{NUM_ROWS:,} footprints, {frame['area_in_meters'].sum() / 1e4:,.1f} hectares" in said
    assert said.count("<picture>") == 1
    assert re.search(rf"\d of {len(_sure(frame)):,} buildings lie further", said)
    handed_over = geopandas.read_file(tmp_path / "sure.gpkg", layer="footprints")
    assert sorted(handed_over["id"]) == sorted(_sure(frame)["id"])


def test_duckdb(run, frame, tmp_path):
    said = run("duckdb.ipynb")
    assert re.search(rf"\b{NUM_ROWS} +{round(frame['area_in_meters'].sum())}\b", said)
    assert said.count("<picture>") == 1
    met, rows_met = _row_groups_met(said)
    assert 0 < met[1] < met[0]
    assert rows_met < NUM_ROWS
    handed_over = pd.read_csv(tmp_path / "sure.csv")
    assert sorted(handed_over["id"]) == sorted(_sure(frame)["id"])


def _row_groups_met(said: str) -> tuple[tuple[int, int], float]:
    header, row = re.search(r"(.*row_groups_met.*)\n(.*)", said).groups()
    values = dict(zip(header.split(), row.split()[1:], strict=True))
    met = int(values["row_groups"]), int(values["row_groups_met"])
    return met, float(values["rows_met"])


def test_lonboard(run, frame, tmp_path):
    said = run("lonboard.ipynb")
    assert f"{len(_sure(frame)):,} of {NUM_ROWS:,} are shown" in said
    page = (tmp_path / "footprints.html").read_text()
    assert "<title>Footprints</title>" in page
    # The rows are inside the page, as Parquet in base64: at least the corners of the outlines.
    assert len(page) > NUM_ROWS * 5 * 8


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_what_they_said(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
