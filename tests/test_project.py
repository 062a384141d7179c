"""What the project promises about itself: sizes, documents, configs, names."""

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from pipeline.cli.main import cli
from pipeline.config import load_config
from pipeline.evaluation_config import load_places

ROOT = Path(__file__).resolve().parents[1]


def load_training(path: Path) -> object:
    """Sources of training data, a training, a self-training or an ablation."""
    from model.noisy_student import SelfTrainConfig
    from model.train_config import TrainConfig
    from pipeline.ablation_config import load_ablation
    from pipeline.train_config_file import load_config as load_as
    from pipeline.train_config_file import load_dataset

    if path.stem == "sources":
        return load_dataset(path)
    if path.stem == "ablation":
        return load_ablation(path)
    return load_as(path, SelfTrainConfig if path.stem == "noisy_student" else TrainConfig)


PACKAGES = ("geo", "model", "pipeline")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
CONFIG_LOADERS = {"run": load_config, "evaluate": load_places, "train": load_training}
"""A loader for every folder of configs/."""

MAX_FUNCTION_LINES = 30
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _body_lines(function: Function) -> int:
    """Lines of a function's body, blank ones and comments included, the docstring left out."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def _public_nodes(
    node: ast.Module | ast.ClassDef, prefix: str
) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Public classes, functions and methods; what is private hides what is within."""
    for child in node.body:
        if isinstance(child, ast.ClassDef | Function) and not child.name.startswith("_"):
            yield f"{prefix}.{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from _public_nodes(child, f"{prefix}.{child.name}")


def _tracked_files() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there are no tracked files to look at")
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    names = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


# --- sources -------------------------------------------------------------------------------------


def test_nine_of_ten_functions_are_short():
    sizes = {
        f"{_name(path)}:{node.lineno} {node.name}": _body_lines(node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, Function)
    }
    assert len(sizes) > 300, "the sources were not found"
    longer = {name: lines for name, lines in sizes.items() if lines > MAX_FUNCTION_LINES}
    worst = sorted(longer.items(), key=lambda entry: -entry[1])
    assert len(longer) <= 0.1 * len(sizes), f"{len(longer)} of {len(sizes)} are longer: {worst}"


def test_function_bodies_are_counted_without_docstrings():
    source = 'def f():\n    """One.\n\n    Two.\n    """\n    x = 1\n\n    return x\n'
    (function,) = ast.parse(source).body
    assert _body_lines(function) == 3
    (bare,) = ast.parse('def f():\n    """One."""\n').body
    assert _body_lines(bare) == 0


def _overrides(node):
    """Whether a method is documented by the one that it overrides, and says so."""
    names = [getattr(one, "id", "") for one in getattr(node, "decorator_list", ())]
    return "override" in names


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_documented(package):
    missing = []
    for path in SOURCES:
        if _name(path).split("/")[0] != package:
            continue
        tree = ast.parse(path.read_text())
        nodes = [(_name(path), tree), *_public_nodes(tree, _name(path))]
        missing += [
            name for name, node in nodes if not ast.get_docstring(node) and not _overrides(node)
        ]
    assert missing == []


def test_no_module_is_a_collection_of_leftovers():
    folders = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    banned = {"utils", "util", "common", "helpers", "helper", "misc"}
    assert [_name(path) for path in folders if banned & {*path.parts[len(ROOT.parts) :]}] == []
    assert [_name(path) for path in folders if path.stem in banned] == []


def test_tests_are_no_packages():
    assert list((ROOT / "tests").rglob("__init__.py")) == []


# --- tracked files -------------------------------------------------------------------------------

# In pieces, so that this file does not find itself.
_FOREIGN = re.compile(
    "|".join(
        [
            r"/(?:ho" r"me|Us" r"ers)/[A-Za-z_]",
            r"(?<![\w.])/ro" r"ot/",
            r"(?<![\w.])/wo" r"rk/",
            r"C:\\\\?Us" r"ers",
            r"--(?:extra-)?index-u" r"rl",
            r"--find-l" r"inks",
        ]
    )
)


@pytest.mark.parametrize(
    ("text", "is_foreign"),
    [
        ("/".join(["", "home", "ann"]), True),
        ("see " + "/".join(["", "work", "main"]), True),
        ("../shared/data", False),
        ("frame" + "/".join(["", "work", "x"]), False),
        ("/tmp/x", False),
    ],
)
def test_foreign_paths_are_recognised(text, is_foreign):
    assert bool(_FOREIGN.search(text)) == is_foreign


def test_no_tracked_file_names_a_machine():
    found = []
    for path in _tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{_name(path)}: {match[0]}" for match in _FOREIGN.finditer(text)]
    assert found == []


def test_no_data_is_tracked():
    tracked = _tracked_files()
    assert [_name(p) for p in tracked if p.suffix in {".tif", ".jpg", ".jp2", ".sealed"}] == []
    assert [_name(p) for p in tracked if p.stat().st_size > 60_000_000] == []


# --- configs -------------------------------------------------------------------------------------


def test_there_are_configs():
    assert CONFIGS, "configs/ holds no YAML"


@pytest.mark.parametrize("path", CONFIGS, ids=_name)
def test_every_config_loads(path):
    folder = path.relative_to(ROOT / "configs").parts[0]
    assert folder in CONFIG_LOADERS, f"nothing loads configs/{folder}; name its loader in this file"
    CONFIG_LOADERS[folder](path)


@pytest.mark.parametrize("path", CONFIGS, ids=_name)
def test_every_config_is_commented(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("#"), "the first line says what the config is for"
    assert sum("#" in line for line in lines) >= 2


# --- documents -----------------------------------------------------------------------------------


def _readme_commands() -> list[str]:
    """Lines of the README's code blocks that call our own commands, continuation lines joined."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```(?:bash|sh|console|shell|text)?\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    # What follows a comment sign, a pipe or && is not looked at.
    commands = (re.split(r"\s#|\s\||&&", line.strip().removeprefix("$ "))[0] for line in lines)
    return [line.strip() for line in commands if re.match(r"(everyroof|make|\.ci/run)\b", line)]


def _check_everyroof_command(words: list[str]) -> None:
    """Raise where a subcommand or a flag does not exist; flags after -- are Beam's."""
    words = words[: words.index("--")] if "--" in words else words
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"there is no command {words[0]!r}"
        command, words = found, words[1:]
    parameters = command.get_params(click.Context(command))
    known = {flag for p in parameters for flag in (*p.opts, *p.secondary_opts)}
    flags = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert flags <= known, f"{command.name} does not know {sorted(flags - known)}"


def test_readme_commands_exist():
    commands = _readme_commands()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert any(command.startswith("everyroof run") for command in commands)
    assert any(command.startswith("make") for command in commands)
    for command in commands:
        words = shlex.split(command)
        if words[0] == "everyroof":
            _check_everyroof_command(words[1:])
        elif words[0] == "make":
            named = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            assert set(named) <= targets, command


def test_unknown_commands_and_flags_are_noticed():
    _check_everyroof_command(["run", "a.yaml", "--dry-run", "--", "--runner=FlinkRunner"])
    with pytest.raises(AssertionError, match="no command 'fly'"):
        _check_everyroof_command(["fly"])
    with pytest.raises(AssertionError, match="--wings"):
        _check_everyroof_command(["run", "--wings=2"])


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_paths_in_documents_exist(name):
    named = re.findall(
        r"`((?:geo|model|pipeline|configs|tests|benchmarks|docs|\.ci)/[\w./-]*)`",
        (ROOT / name).read_text(),
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_command_has_a_line_of_help():
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.get_short_help_str(), name


# --- the pinned versions -------------------------------------------------------------------------


def test_constraints_are_plain_pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 100
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.!+]+(\s*;.+)?", pin)] == []
    names = [re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins]
    assert "everyroof" not in names
    for python in ("3.11", "3.12", "3.13"):
        requirements = [Requirement(pin) for pin in pins]
        marks = [found.marker for found in requirements]
        holds = [mark is None or mark.evaluate({"python_version": python}) for mark in marks]
        held = [name for name, is_held in zip(names, holds, strict=True) if is_held]
        assert sorted(held) == sorted(set(names)), python


def test_constraints_name_every_dependency():
    text = (ROOT / "constraints.txt").read_text()
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"^(.+)==", text, re.M)}
    wanted = re.findall(r'^    "([\w.-]+)>=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(wanted) > 20
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in wanted} <= pinned


def test_every_dependency_has_a_reason_or_speaks_for_itself():
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("\ndependencies = [")[1].split("\n]")[0]
    lines = [line for line in block.splitlines() if line.strip().startswith('"')]
    assert [line for line in lines if "#" not in line] == []
