"""Places of a pack, written as files and read again, are the same places."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from place_drawings import checkered_place

from model.errors import SourceError
from model.source_config import DatasetConfig, PolygonSource
from model.sources import read_places
from model.write_places import write_places


def test_what_is_written_reads_as_the_same_place(tmp_path: Path) -> None:
    drawn = checkered_place("a/one", split="validation")
    valid = drawn.valid.copy()
    valid[:20] = False
    known = valid.copy()
    known[:, :40] = False
    one = dataclasses.replace(
        drawn, known=known, valid=valid, image=np.where(valid[:, :, None], drawn.image, np.uint8(0))
    )
    two = checkered_place("a/two", split="validation", gsd_m=0.2)
    entries = write_places([one, checkered_place("b/three"), two], tmp_path, split="validation")
    assert [entry["name"] for entry in entries] == ["a/one", "a/two"]
    source = PolygonSource(
        name="again",
        images=tuple(str(tmp_path / entry["image"]) for entry in entries),
        area="{stem}.area.geojson",
        context_m=1000.0,
        fill_colours=(),
    )
    first, second = read_places(DatasetConfig(sources=(source,), store_gsd_m=0.1))[0]
    assert np.array_equal(first.image, one.image)
    assert np.array_equal(first.valid, one.valid)
    # Buildings that the labelled area's edge cuts become unknown; elsewhere known ground is equal.
    assert not (first.known & ~one.known).any()
    assert first.known.sum() > 0.8 * one.known.sum()
    assert np.array_equal(second.ids > 0, two.ids > 0)
    assert second.num_instances == 10 * 14 // 2  # those at the area's edge count as cut
    assert second.gsd_m == pytest.approx(0.2, rel=1e-3)


def test_nothing_held_out_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="which regions are held out"):
        write_places([checkered_place()], tmp_path, split="validation")
