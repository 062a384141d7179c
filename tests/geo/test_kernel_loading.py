"""Kernels out of numba's cache: they compute the same, and others compiled later may call them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import pytest

FIRST = """
import numba
import geo.kernels

@numba.njit(cache=True)
def doubled(values):
    total = 0.0
    for value in values:
        total += 2.0 * value
    return total
"""
SECOND = """
import numba
from first_kernel import doubled

@numba.njit(cache=True)
def twice(values):
    return doubled(values) + doubled(values[1:])
"""
CALL = """
import json, sys
import numpy as np
from first_kernel import doubled
from geo.kernel_loading import CachedLibrary
values, found = np.arange(4.0), {}
found["doubled"] = doubled(values)
library = doubled.overloads[doubled.signatures[0]].library
found["is_ours"] = type(library) is CachedLibrary
found["waits"] = library._unparsed is not None
found["other name"] = library.get_pointer_to_function("no_such_function")
if len(sys.argv) > 1:
    from second_kernel import twice
    found["twice"] = twice(values)
found["hits"] = sum(doubled.stats.cache_hits.values())
print(json.dumps(found))
"""


def _call(folder: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-c", CALL, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    (tmp_path / "first_kernel.py").write_text(FIRST)
    (tmp_path / "second_kernel.py").write_text(SECOND)
    return tmp_path


def test_a_cached_kernel_computes_the_same_while_its_llvm_code_waits(kernels: Path) -> None:
    compiled, cached = _call(kernels), _call(kernels)
    assert (compiled["hits"], compiled["waits"]) == (0, False)
    assert (cached["hits"], cached["waits"]) == (1, True)
    assert compiled["doubled"] == cached["doubled"] == 12.0
    assert compiled["is_ours"]
    assert cached["is_ours"]
    assert compiled["other name"] == cached["other name"] == 0


def test_a_kernel_compiled_later_may_call_a_cached_one(kernels: Path) -> None:
    _call(kernels)
    mixed, cached = _call(kernels, "both"), _call(kernels, "both")
    assert mixed["hits"] == cached["hits"] == 1
    assert mixed["twice"] == cached["twice"] == 24.0


@pytest.mark.parametrize("other", ["version", "library"])
def test_another_numba_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    from geo import kernel_loading

    codegen = kernel_loading.cpu_target.target_context.codegen()
    theirs = object if other == "library" else kernel_loading.JITCodeLibrary
    monkeypatch.setattr(codegen, "_library_class", theirs)
    if other == "version":
        monkeypatch.setattr(kernel_loading, "KNOWN_NUMBA", ((0, 1),))
    assert not kernel_loading.load_kernels_without_llvm()
    assert codegen._library_class is theirs


def test_the_numba_of_the_constraints_is_known() -> None:
    """Or kernels are read slowly, and nobody notices."""
    from geo.kernel_loading import KNOWN_NUMBA

    assert numba.version_info[:2] in KNOWN_NUMBA
