"""Ablation: a training without one thing at a time, at equal steps and over several seeds."""

import csv
import gc
import json
import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.errors import TrainingError

logger = logging.getLogger(__name__)

_SCORE_FILE = "final_scores.json"


@dataclass(frozen=True, kw_only=True)
class RunScore:
    """How one run ended: the last step, not the best, since choosing one would favour noisy runs.

    Attributes:
        ap50: mean instance AP50 by pixel size in metres, over the sources.
        num_splits: references found in several pieces, over all sources and pixel sizes.
        num_merges: components over several references.
        num_references: references, counted for each pixel size.
    """

    ap50: Mapping[float, float]
    num_splits: int
    num_merges: int
    num_references: int

    @property
    def mean_ap50(self) -> float:
        """Over the pixel sizes."""
        return statistics.fmean(self.ap50.values())


@dataclass(frozen=True, kw_only=True)
class VariantScore:
    """A variant over its seeds.

    Attributes:
        name: of the variant.
        runs: one a seed.
        deltas: mean AP50 less that of the first variant with the same seed.
    """

    name: str
    runs: tuple[RunScore, ...]
    deltas: tuple[float, ...]


def run_ablation(
    variants: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    train_variant: Callable[[str, int, Path], None],
) -> list[VariantScore]:
    """Train each variant with each seed, those that are done already left out, and compare.

    Args:
        variants: names; the first is what the others are compared with.
        seeds: at least one.
        folder: each run gets FOLDER/VARIANT/seedN.
        train_variant: trains a variant with a seed into a folder, which then holds `scores.csv`.

    Returns:
        One score a variant, in order.
    """
    scores: dict[str, list[RunScore]] = {name: [] for name in variants}
    total = len(variants) * len(seeds)
    # Seed by seed, so that a run that is cut short has compared something.
    for done, (seed, name) in enumerate((seed, name) for seed in seeds for name in variants):
        run_folder = folder / name / f"seed{seed}"
        stored = run_folder / _SCORE_FILE
        if not stored.exists():
            logger.info("%s, seed %d: run %d of %d", name, seed, done + 1, total)
            train_variant(name, seed, run_folder)
            # Trainer and module hold each other, and the whole pack: half a gigabyte a run.
            gc.collect()
            score = read_final_score(run_folder / "scores.csv")
            stored.write_text(json.dumps(_to_json(score)))
        scores[name].append(_from_json(json.loads(stored.read_text())))
    base = scores[variants[0]]
    return [
        VariantScore(
            name=name,
            runs=tuple(runs),
            deltas=tuple(
                run.mean_ap50 - other.mean_ap50 for run, other in zip(runs, base, strict=True)
            ),
        )
        for name, runs in scores.items()
    ]


def read_final_score(path: Path) -> RunScore:
    """The scores of a training's last step.

    Raises:
        TrainingError: if the file is missing or holds none.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise TrainingError(f"{path} holds no scores; the pack needs validation places")
    last = _at_best_threshold([row for row in rows if row["step"] == rows[-1]["step"]])
    by_gsd: dict[float, list[float]] = {}
    for row in last:
        by_gsd.setdefault(float(row["gsd_m"]), []).append(float(row["ap50"]))
    return RunScore(
        ap50={gsd_m: statistics.fmean(values) for gsd_m, values in by_gsd.items()},
        num_splits=sum(int(row["num_splits"]) for row in last),
        num_merges=sum(int(row["num_merges"]) for row in last),
        num_references=sum(int(row["num_references"]) for row in last),
    )


def _at_best_threshold(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Each variant at its own threshold, since schemes differ in how sure they are."""
    by_threshold: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_threshold.setdefault(row["threshold"], []).append(row)
    return max(
        by_threshold.values(), key=lambda part: statistics.fmean(float(r["ap50"]) for r in part)
    )


def format_table(scores: Sequence[VariantScore]) -> str:
    """A Markdown table: means over seeds, the difference to the first variant and its spread."""
    sizes = sorted(scores[0].runs[0].ap50)
    headings = ["variant", *(f"AP50 {size:g} m" for size in sizes), "mean", "difference", "spread"]
    headings += ["splits", "merges", "seeds"]
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    for score in scores:
        cells = [score.name]
        cells += [_mean(run.ap50[size] for run in score.runs) for size in sizes]
        cells += [_mean(run.mean_ap50 for run in score.runs), *_difference(score, scores[0])]
        cells += [_rate(score, "num_splits"), _rate(score, "num_merges"), str(len(score.runs))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean(values: object) -> str:
    return f"{statistics.fmean(values):.3f}"  # type: ignore[arg-type]


def _difference(score: VariantScore, base: VariantScore) -> tuple[str, str]:
    """Mean difference, and from the least to the largest over the seeds."""
    if score is base:
        return "", f"{min(r.mean_ap50 for r in score.runs):.3f} to " + (
            f"{max(r.mean_ap50 for r in score.runs):.3f}"
        )
    low, high = min(score.deltas), max(score.deltas)
    return f"{statistics.fmean(score.deltas):+.3f}", f"{low:+.3f} to {high:+.3f}"


def _rate(score: VariantScore, name: str) -> str:
    """Share of the references, in per cent."""
    shares = (getattr(run, name) / max(run.num_references, 1) for run in score.runs)
    return f"{100.0 * statistics.fmean(shares):.1f} %"


def _to_json(score: RunScore) -> dict[str, object]:
    return {
        "ap50": {str(size): value for size, value in score.ap50.items()},
        "num_splits": score.num_splits,
        "num_merges": score.num_merges,
        "num_references": score.num_references,
    }


def _from_json(data: Mapping[str, object]) -> RunScore:
    ap50 = data["ap50"]
    assert isinstance(ap50, dict)
    return RunScore(
        ap50={float(size): float(value) for size, value in ap50.items()},
        num_splits=int(str(data["num_splits"])),
        num_merges=int(str(data["num_merges"])),
        num_references=int(str(data["num_references"])),
    )
