"""`make bench`: every benchmark in turn, into one folder of tables, plots and machine facts.

    python benchmarks/bench.py [--parts NAME ...] [--small] [--list]

A part is a script with arguments; a new one is a line in `PARTS`. A part that leaves NAME.md in
benchmarks/results is quoted from there, of others the output is kept in NAME.txt. A part whose data
is missing is skipped and said to be; one that fails does not stop the others, but the exit status.
All of it takes hours, nearly all of them the peers at 16384 px; --small runs every part at a size
that shows that it works, not how fast it is.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from results import RESULTS, ROOT, facts_as_text, machine_facts

sys.path.insert(0, str(ROOT))

from model.shipped import shipped_bundle_path

BANEPA = ROOT.parent / "shared" / "data" / "scenes" / "banepa.tif"
SHIPPED = shipped_bundle_path()
KEPT = ROOT / ".peers"
LAND = KEPT / "scale" / "land" / "out"
"""The dataset of the part `scale`, which the parts after it ask, write and draw."""
Argument = str | Path


@dataclass(frozen=True)
class Part:
    """A script of this folder with its arguments.

    Attributes:
        name: of the part and of its results.
        title: for the table of contents.
        command: script and arguments; a `Path` is data that must be there.
        small: arguments added with --small; of an option given twice the last counts.
    """

    name: str
    title: str
    command: tuple[Argument, ...]
    small: tuple[str, ...] = ()


PARTS = (
    Part(
        "whole_job",
        "Whole job against the bare network",
        ("run.py", BANEPA, SHIPPED),
        ("--copies", "1", "--rounds", "1", "--bare-s", "0"),
    ),
    Part(
        "network",
        "The network, step by step",
        ("network.py", SHIPPED),
        ("--rounds", "1", "--window", "320"),
    ),
    Part(
        "segment",
        "Segmenting against bare passes",
        ("segment.py", SHIPPED),
        ("--rounds", "1", "--window", "256"),
    ),
    Part(
        "peers",
        "Against peers",
        ("peers.py",),
        ("--sizes", "1024", "--rounds", "1", "--shipped-sizes", "--only", "GeoDeep"),
    ),
    Part("growth", "From 10 to 10,000 tiles", ("growth.py",), ("--tiles", "10", "40")),
    Part(
        "memory",
        "Memory by image size",
        ("memory.py", SHIPPED, "--sizes", "2048", "4096"),
        ("--sizes", "512"),
    ),
    Part(
        "reading",
        "Reading by format and projection",
        ("reading.py",),
        ("--size", "2048", "--repeats", "1"),
    ),
    Part("warp", "Reading a real scene", ("warp.py", BANEPA), ("--repeats", "1")),
    Part(
        "feeding", "What feeds a fast network", ("feeding.py", BANEPA, SHIPPED), ("--rounds", "1")
    ),
    Part(
        "trace",
        "Labelling, growing, tracing",
        ("trace.py", "--repeats", "50"),
        ("--repeats", "2"),
    ),
    Part("finish", "Finishing", ("finish.py",), ("--repeats", "2")),
    Part("regularize", "Squaring against buildingregulariser", ("regularize.py",), ("--num", "20")),
    Part("chain", "From probabilities to Arrow", ("chain.py",), ("--repeats", "2")),
    Part("attributes", "Attributes and Plus Codes", ("attributes.py",), ("--runs", "3")),
    Part("overlap", "Resolving overlaps", ("overlap.py",), ("--rows", "1000", "--repeats", "1")),
    Part(
        "geoparquet",
        "Writing GeoParquet",
        ("geoparquet.py",),
        ("--rows", "20000", "--repeats", "1"),
    ),
    Part(
        "merge_and_write",
        "Seam merging and writing",
        ("merge_and_write.py",),
        ("--land", "city", "--repeats", "1"),
    ),
    Part(
        "scale",
        "Two million buildings",
        ("scale.py", "--towns", "1", "4", "--folder", str(KEPT / "scale")),
        ("--towns", "1"),
    ),
    Part(
        "query",
        "A district out of a large dataset",
        ("query.py", LAND, "--folder", str(KEPT / "query")),
        ("--rounds", "1"),
    ),
    Part(
        "export",
        "Exports",
        ("export.py", LAND),
        ("--formats", "parquet,fgb"),
    ),
    Part("view", "The page in a browser", ("view.py", LAND), ("--repeats", "1")),
    Part("compare", "Comparing two datasets", ("compare.py", LAND)),
)


@dataclass(frozen=True)
class Outcome:
    """How a part ended: `ok`, `skipped` or `failed`, its seconds, and why it did not run."""

    part: Part
    state: str
    seconds: float = 0.0
    reason: str = ""


def run_part(part: Part, folder: Path, *, is_small: bool = False) -> Outcome:
    """Run one part; its output goes to NAME.txt and to the terminal."""
    missing = [word for word in part.command if isinstance(word, Path) and not word.exists()]
    if missing:
        return Outcome(part, "skipped", reason=f"{missing[0].name} is not there")
    # What an earlier run left must not pass for this one's.
    for kind in ("md", "json", "txt"):
        (folder / f"{part.name}.{kind}").unlink(missing_ok=True)
    script, *rest = (str(word) for word in (*part.command, *(part.small if is_small else ())))
    command = [sys.executable, str(ROOT / "benchmarks" / script), *rest]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    print(f"== {part.title}: {script} {' '.join(rest)}", flush=True)
    begin = time.perf_counter()
    with (folder / f"{part.name}.txt").open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            file.write(line)
        status = process.wait()
    seconds = time.perf_counter() - begin
    if status:
        return Outcome(part, "failed", seconds, f"exit status {status}")
    return Outcome(part, "ok", seconds)


def write_summary(folder: Path, outcomes: Sequence[Outcome], facts: dict[str, object]) -> None:
    """One Markdown file with everything, and the machine's facts as JSON."""
    (folder / "machine.json").write_text(json.dumps(facts, indent=1) + "\n")
    text = f"# Benchmarks\n\n{facts_as_text(facts)}\n"
    for outcome in outcomes:
        note = f": {outcome.reason}" if outcome.reason else ""
        text += f"- {outcome.part.title}: {outcome.state}, {outcome.seconds:.0f} s{note}\n"
    for outcome in outcomes:
        table, output = (folder / f"{outcome.part.name}.{kind}" for kind in ("md", "txt"))
        if outcome.state == "skipped":
            continue
        text += f"\n<!-- {outcome.part.name} -->\n"
        if table.exists():
            text += table.read_text()
        elif output.exists():
            text += f"# {outcome.part.title}\n\n```\n{output.read_text()}```\n"
    (folder / "README.md").write_text(text)


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--small", action="store_true", help="see that every part works")
    parser.add_argument("--list", action="store_true", help="the parts, and what they run")
    args = parser.parse_args()
    if args.list:
        for part in PARTS:
            print(f"{part.name:16} {part.title} ({part.command[0]})")
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    facts, outcomes = machine_facts(), []
    for part in PARTS:
        if part.name in args.parts:
            outcomes.append(run_part(part, RESULTS, is_small=args.small))
            write_summary(RESULTS, outcomes, facts)
    print(f"written to {RESULTS}")
    if any(outcome.state == "failed" for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
