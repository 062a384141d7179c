"""Where `make bench` puts what it measures: tables, and the facts of the machine beside them."""

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = ("torch", "numpy", "numba", "rasterio", "shapely", "pyarrow", "apache-beam")


def machine_facts() -> dict[str, Any]:
    """Processor, memory, load, system, versions and commit; what a figure is worth depends on."""
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit.stdout.strip() or "unknown",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_1_5_15_min": [round(load, 1) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def facts_as_text(facts: dict[str, Any]) -> str:
    """The facts in one paragraph of Markdown."""
    libraries = ", ".join(f"{name} {number}" for name, number in facts["libraries"].items())
    load = ", ".join(str(value) for value in facts["load_1_5_15_min"])
    return (
        f"{facts['date']}, commit {facts['commit']}. {facts['cores']} cores of "
        f"{facts['processor']}, {facts['memory_gb']} GB, {facts['system']}, Python "
        f"{facts['python']}; {libraries}. Load of the last 1, 5 and 15 minutes when it began: "
        f"{load}.\n"
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [header, ["--", *["--:"] * (len(header) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def write_part(folder: Path, name: str, text: str, data: object) -> None:
    """Leave a part's Markdown, and what it was made from as JSON, in the folder of results."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
