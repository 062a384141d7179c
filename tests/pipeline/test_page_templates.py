"""Templates: compiled once, where they can be kept."""

import sys
import tempfile
from pathlib import Path

import jinja2
import pytest

from pipeline.page_templates import template_environment

NAME = "report.html"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Names of the templates that are compiled from here on."""
    names: list[str | None] = []
    compile_one = jinja2.Environment.compile

    def noted(self: jinja2.Environment, source: str, name: str | None = None, *rest: object):
        names.append(name)
        return compile_one(self, source, name, *rest)

    monkeypatch.setattr(jinja2.Environment, "compile", noted)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return names


def test_a_template_is_compiled_once(tmp_path: Path, compiled: list[str | None]) -> None:
    for _ in range(3):
        assert template_environment(tmp_path / "kept").get_template(NAME).name == NAME
    assert compiled == [NAME]


@pytest.mark.parametrize("reason", ["no folder", "not wanted"])
def test_where_nothing_can_be_kept_templates_are_compiled(
    tmp_path: Path, compiled: list[str | None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    if reason == "no folder":
        (tmp_path / "file").write_text("")
        kept = tmp_path / "file" / "kept"
    else:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for _ in range(2):
        template_environment(kept).get_template(NAME)
    assert compiled == [NAME, NAME]
    assert not kept.exists()


@pytest.mark.parametrize("num_bytes", [0, 5, 15, 25, 60, 2000])
def test_a_damaged_file_is_no_file(
    tmp_path: Path, compiled: list[str | None], num_bytes: int
) -> None:
    template_environment(tmp_path).get_template(NAME)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:num_bytes])
    template_environment(tmp_path).get_template(NAME)
    assert compiled == [NAME, NAME]
    assert path.read_bytes() == whole


def test_a_full_disk_is_no_reason_to_fail(
    tmp_path: Path, compiled: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    template_environment(tmp_path).get_template(NAME)
    assert compiled == [NAME]
    assert not list(tmp_path.iterdir())


def test_the_package_has_its_templates() -> None:
    assert NAME in template_environment().list_templates()
