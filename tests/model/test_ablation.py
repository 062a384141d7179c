"""The bookkeeping of ablations: what is run, what is kept, what the table says."""

from pathlib import Path

import pytest

from model.ablation import format_table, read_final_score, run_ablation
from model.errors import TrainingError

HEAD = "step,threshold,source,gsd_m,ap50,num_splits,num_merges,num_references\n"
AP50 = {("base", 0): 0.5, ("base", 1): 0.6, ("less", 0): 0.4, ("less", 1): 0.58}


def scores_text(ap50: float) -> str:
    return (
        HEAD + "10,0.5,a,0.3,0.99,9,9,50\n"
        "20,0.4,a,0.3,0.0,9,9,50\n20,0.4,a,0.5,0.0,9,9,50\n"
        f"20,0.5,a,0.3,{ap50 + 0.1},1,2,50\n20,0.5,b,0.3,{ap50 - 0.1},2,3,50\n"
        f"20,0.5,a,0.5,{ap50 - 0.2},4,5,50\n20,0.5,b,0.5,{ap50 - 0.2},0,0,50\n"
    )


def test_the_last_step_counts_at_its_best_threshold(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(scores_text(0.5))
    score = read_final_score(tmp_path / "scores.csv")
    assert score.ap50 == pytest.approx({0.3: 0.5, 0.5: 0.3})
    assert score.mean_ap50 == pytest.approx(0.4)
    assert (score.num_splits, score.num_merges, score.num_references) == (7, 10, 200)


def test_each_run_is_done_once_and_compared_by_seed(tmp_path: Path) -> None:
    done: list[tuple[str, int]] = []

    def train_variant(name: str, seed: int, folder: Path) -> None:
        done.append((name, seed))
        folder.mkdir(parents=True)
        (folder / "scores.csv").write_text(scores_text(AP50[name, seed]))

    base, less = run_ablation(["base", "less"], [0, 1], tmp_path, train_variant)
    assert done == [("base", 0), ("less", 0), ("base", 1), ("less", 1)]
    assert base.deltas == (0.0, 0.0)
    assert less.deltas == pytest.approx((-0.1, -0.02))
    again = run_ablation(["base", "less"], [0, 1], tmp_path, train_variant)
    assert len(done) == 4
    assert again == [base, less]
    table = format_table([base, less]).splitlines()
    assert table[0].startswith("| variant | AP50 0.3 m | AP50 0.5 m | mean | difference | spread")
    assert table[2] == "| base | 0.550 | 0.350 | 0.450 |  | 0.400 to 0.500 | 3.5 % | 5.0 % | 2 |"
    assert "| -0.060 | -0.100 to -0.020 |" in table[3]


def test_a_run_without_scores(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        read_final_score(tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text(HEAD)
    with pytest.raises(TrainingError, match="needs validation places"):
        read_final_score(tmp_path / "scores.csv")
