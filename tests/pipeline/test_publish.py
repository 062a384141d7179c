"""What is left of a run's work when it is published."""

import shapely
from drawn_land import Land
from simulated_runs import make_simulated_spec, run_simulated

from pipeline import run
from pipeline.tile_store import TileStore


def test_tables_of_later_stages_are_gone_whoever_removes_them(tmp_path, monkeypatch):
    area = shapely.box(30.14, 0.14, 30.155, 0.15)
    kept = {}
    for name, limit in (("small", 100), ("large", 1)):
        monkeypatch.setattr(run, "CELLS_OF_A_LARGE_JOB", limit)
        spec = make_simulated_spec(tmp_path / name, area, grid={"tile_px": 1024})
        run_simulated(spec, land=Land(seed=1))
        kept[name] = {path.name for path in spec.store_path.iterdir()}
        assert (spec.out_path / "manifest.json").exists()
    assert kept["small"] == kept["large"]
    assert "work" not in kept["small"]


def test_every_table_lies_in_a_folder_that_is_removed(tmp_path):
    store = TileStore(tmp_path)
    folders = set(store.work_folders("run"))
    for stage in ("open", "merged", "finished", "resolved", "ledger"):
        paths = [store.work_path("run", stage, f"z36_r{n}_c{-n}") for n in range(3000)]
        assert {path.parent for path in paths} <= folders
        assert len({path.parent for path in paths}) == 256
