"""No command loses a file of the user's unasked."""

import geopandas
import pytest
import shapely
from click.testing import CliRunner
from drawn_footprints import draw_footprints
from small_datasets import write_dataset

from geo.errors import DatasetError
from pipeline.cli.main import cli
from pipeline.targets import check_targets


def run(*arguments):
    return CliRunner().invoke(cli, [*map(str, arguments)])


def test_files_that_exist_are_read_or_given_twice(tmp_path):
    there, new = tmp_path / "there.gpkg", tmp_path / "new.gpkg"
    there.touch()
    check_targets([new, None], overwrite=False, sources=[there])
    check_targets([there], overwrite=True)
    with pytest.raises(DatasetError, match=r"there.gpkg exists; choose another name or add"):
        check_targets([there], overwrite=False)
    with pytest.raises(DatasetError, match="is read by this command"):
        check_targets([tmp_path / "x" / ".." / "there.gpkg"], overwrite=True, sources=[there])
    with pytest.raises(DatasetError, match="is named for two files"):
        check_targets([new, new], overwrite=True)


@pytest.fixture
def out(tmp_path):
    return write_dataset(tmp_path / "out", draw_footprints(60))


def test_the_map_of_a_user_survives_conflate(out, tmp_path):
    cadastre = tmp_path / "cadastre.gpkg"
    geopandas.GeoSeries([shapely.box(32, 0, 33, 1)], crs="EPSG:4326").to_file(cadastre)
    before = cadastre.read_bytes()
    result = run("conflate", out, cadastre, "--out", cadastre, "--overwrite")
    assert "is read by this command" in str(result.exception)
    (tmp_path / "mine.parquet").write_text("mine")
    for option in ("--out", "--missing"):
        result = run("conflate", out, cadastre, option, tmp_path / "mine.parquet")
        assert "exists; choose another name" in str(result.exception)
    assert cadastre.read_bytes() == before
    assert (tmp_path / "mine.parquet").read_text() == "mine"


@pytest.mark.parametrize("name", ["a.tab", "a.mif", "a.csv", "a.shp"])
def test_formats_of_several_files_are_refused_before_any_work(out, tmp_path, name):
    result = run("conflate", out, tmp_path / "no.gpkg", "--out", tmp_path / name)
    assert "names no format that is written here; take .parquet, .gpkg" in str(result.exception)


def test_compare_and_a_page_replace_nothing_unasked(out, tmp_path):
    (tmp_path / "changes.html").write_text("mine")
    result = run("compare", out, out, "--out", tmp_path)
    assert "changes.html exists" in str(result.exception)
    result = run("view", out, "--export", tmp_path / "changes.html")
    assert "changes.html exists" in str(result.exception)
    assert (tmp_path / "changes.html").read_text() == "mine"


def test_an_export_folder_with_something_else_in_it_is_left_alone(out, tmp_path):
    folder = tmp_path / "ob"
    assert run("export", out, folder, "--format", "open-buildings").exit_code == 0
    assert run("export", out, folder, "--format", "open-buildings", "--overwrite").exit_code == 0
    (folder / "my_notes.txt").write_text("mine")
    result = run("export", out, folder, "--format", "open-buildings", "--overwrite")
    assert "it holds my_notes.txt" in str(result.exception)
    assert (folder / "my_notes.txt").read_text() == "mine"


def test_a_geopackage_without_confidence_has_no_style_that_draws_nothing(out, tmp_path):
    result = run("query", out, "--columns", "id,geometry", "--out", tmp_path / "plain.gpkg")
    assert result.exit_code == 0, result.output
    assert geopandas.list_layers(tmp_path / "plain.gpkg").name.tolist() == ["footprints"]
