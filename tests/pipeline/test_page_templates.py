"""Templates: compiled once, and never from a file that is not theirs."""

import sys

import jinja2
import pytest

from pipeline.page_templates import CompiledTemplates, template_environment


def _environment(folder, text):
    return jinja2.Environment(
        loader=jinja2.DictLoader({"page": text}), bytecode_cache=CompiledTemplates(folder)
    )


@pytest.fixture(autouse=True)
def _kept(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


def _compiled(monkeypatch):
    """Texts that are compiled from here on."""
    texts = []
    compile_one = jinja2.Environment.compile
    monkeypatch.setattr(
        jinja2.Environment,
        "compile",
        lambda self, source, *rest: texts.append(source) or compile_one(self, source, *rest),
    )
    return texts


def test_a_template_is_compiled_once(tmp_path, monkeypatch):
    texts = _compiled(monkeypatch)
    folder = tmp_path / "kept"
    for text in ("{{ a }}!", "{{ a }}!", "{{ a }}?", "{{ a }}?"):
        page = _environment(folder, text).get_template("page")
        assert page.render(a=1) == f"1{text[-1]}"
    assert texts == ["{{ a }}!", "{{ a }}?"]


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_no_file(tmp_path, damage):
    _environment(tmp_path, "{{ a }}!").get_template("page")
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert _environment(tmp_path, "{{ a }}!").get_template("page").render(a=2) == "2!"
    assert path.read_bytes() == whole


def test_where_nothing_can_be_kept_templates_are_compiled(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    page = _environment(tmp_path / "file" / "kept", "{{ a }}!").get_template("page")
    assert page.render(a=3) == "3!"
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    _environment(tmp_path / "other", "{{ a }}!").get_template("page")
    assert not (tmp_path / "other").exists()


def test_the_package_has_its_templates():
    assert "report.html" in template_environment().list_templates()
