import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from place_drawings import checkered_place

from model.chip_pack import read_pack
from pipeline.cli.pack import pack_command
from pipeline.contact_sheet import draw_contact_sheet, draw_place


@pytest.fixture
def folder(tmp_path):
    """Six chips of three areas with masks, and the YAML that lists them."""
    rng = np.random.default_rng(0)
    for stem in ("a_1", "a_2", "b_1", "b_2", "c_1", "c_2"):
        mask = np.zeros((64, 64), np.uint16)
        mask[10:20, 10:30], mask[40:50, 10:30] = 1, 2
        image = rng.integers(60, 190, (64, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{stem}.jpg"), image)
        cv2.imwrite(str(tmp_path / f"{stem}.png"), mask)
    source = {
        "kind": "instance_masks",
        "name": "chips",
        "images": ["*.jpg"],
        "gsd_m": 0.3,
        "region": "^(.)_",
        "validation": ["c"],
    }
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"sources": [source]}))
    return tmp_path


def _run(*arguments):
    return CliRunner().invoke(pack_command, [str(argument) for argument in arguments])


def test_pack_says_what_it_read_and_draws_it(folder):
    (folder / "a_1.png").unlink()
    text = (folder / "sources.yaml").read_text()
    (folder / "sources.yaml").write_text(text + "max_skipped_share: 0.2\n")
    result = _run(folder / "sources.yaml", folder / "out" / "train.pack.zip")
    assert result.exit_code == 0, result.output
    places = read_pack(folder / "out" / "train.pack.zip")
    assert [place.name for place in places] == [f"chips/{n}" for n in ("a_2", "b_1", "b_2", "c_1",
                                                                       "c_2")]  # fmt: skip
    words = " ".join(result.output.split())
    assert "│ chips │ 6 │ 5 │ 10 │" in words
    assert "chips: 1 images skipped" in words
    assert "skipped a_1: there is no mask" in words
    assert "regions for validation: chips/c" in words
    assert "5 places" in words
    for name in ("chips_train.png", "chips_validation.png"):
        sheet = cv2.imread(str(folder / "out" / "train_sheets" / name))
        assert sheet is not None
        assert (sheet[:, :, ::-1] == (255, 255, 0)).all(axis=2).sum() > 100


def test_no_sheets(folder):
    result = _run(folder / "sources.yaml", folder / "train.pack.zip", "--no-sheets")
    assert result.exit_code == 0, result.output
    assert not (folder / "train_sheets").exists()


def test_a_source_is_held_out(folder):
    data = yaml.safe_load((folder / "sources.yaml").read_text())
    cut = {"kind": "instance_masks", "name": "cut", "images": ["a_1.jpg"], "gsd_m": 0.3,
           "cut": {"a_1": {"axis": "y", "at": 0.5, "gap_m": 1.0}}}  # fmt: skip
    (folder / "sources.yaml").write_text(yaml.safe_dump({"sources": [*data["sources"], cut]}))
    pack = folder / "train.pack.zip"
    splits = {}
    for name in (None, "chips", "cut"):
        options = () if name is None else ("--hold-out", name)
        result = _run(folder / "sources.yaml", pack, "--no-sheets", *options)
        assert result.exit_code == 0, result.output
        splits[name] = {place.name: place.split for place in read_pack(pack)}
    halves = {"cut/a_1_train": "train", "cut/a_1_validation": "validation"}
    chips = {f"chips/{stem}": "train" for stem in ("a_1", "a_2", "b_1", "b_2")}
    last = {"chips/c_1": "validation", "chips/c_2": "validation"}
    assert splits[None] == {**chips, **last, **halves}
    assert splits["chips"] == {**dict.fromkeys(chips, "validation"), **last, **halves}
    assert splits["cut"] == {**chips, **last, "cut/a_1": "validation"}


def test_a_source_without_instances_is_not_held_out(folder):
    data = yaml.safe_load((folder / "sources.yaml").read_text())
    joined = {**data["sources"][0], "name": "joined", "has_instances": False}
    (folder / "sources.yaml").write_text(yaml.safe_dump({"sources": [*data["sources"], joined]}))
    result = _run(folder / "sources.yaml", folder / "train.pack.zip", "--hold-out", "joined")
    assert result.exit_code == 1
    assert "joined does not tell neighbours apart" in result.output


@pytest.mark.parametrize(
    ("names", "message"),
    [(["chip"], "no source 'chip' to hold out among chips"), (["chips"], "leave at least one")],
)
def test_what_cannot_be_held_out(folder, names, message):
    options = [part for name in names for part in ("--hold-out", name)]
    result = _run(folder / "sources.yaml", folder / "train.pack.zip", *options)
    assert result.exit_code == 1
    assert message in result.output
    assert not (folder / "train.pack.zip").exists()


def test_nothing_is_written_when_data_cannot_be_used(folder):
    (folder / "a_1.png").unlink()
    result = _run(folder / "sources.yaml", folder / "train.pack.zip")
    assert result.exit_code == 1
    assert "1 of 6 images cannot be used" in result.output
    assert not (folder / "train.pack.zip").exists()
    result = _run(folder / "missing.yaml", folder / "train.pack.zip")
    assert result.exit_code == 1
    assert "cannot read the config" in result.output


def test_a_picture_of_a_place_shows_outlines_and_unknown_ground():
    known = np.ones((192, 256), np.bool_)
    known[:, 128:] = False
    place = checkered_place(known=known, image=np.full((192, 256, 3), 200, np.uint8))
    picture = draw_place(place, 256)
    assert picture.shape == (192, 256, 3)
    np.testing.assert_array_equal(picture[8, 8], (200, 200, 200))
    np.testing.assert_array_equal(picture[8, 16], (255, 255, 0))
    np.testing.assert_array_equal(picture[8, 200], (160, 100, 160))


@pytest.mark.parametrize("num_places", [1, 3, 20])
def test_a_sheet_has_room_for_every_place(num_places):
    sheet = draw_contact_sheet([checkered_place(f"a/{n}") for n in range(num_places)])
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] <= 1800
    is_edge = (sheet == (255, 255, 0)).all(axis=2)
    assert is_edge.sum() > 200 * num_places
