"""YAML files of training (data, training, ablation) become frozen dataclasses, or a clear error.

One loader for any config class of `model`: every key that is wrong is named, with its value and
what was expected, before any work starts.
"""

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from geo.errors import EveryroofError
from model.source_config import AnySource, DatasetConfig
from pipeline.config import ConfigError

ConfigT = TypeVar("ConfigT")


def load_config(path: str | Path, cls: type[ConfigT]) -> ConfigT:
    """Read a YAML file into a config class; paths in it are left as they are.

    Args:
        path: the file.
        cls: a dataclass that forbids unknown keys.

    Raises:
        ConfigError: missing file, broken YAML, or content that does not fit.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the config: {error}") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    return parse_config(data, cls, source=str(path))


def parse_config(data: Any, cls: type[ConfigT], *, source: str) -> ConfigT:
    """Check plain data (as YAML gives it) and turn it into a config.

    Args:
        data: a mapping.
        cls: a dataclass that forbids unknown keys.
        source: name used in errors.

    Raises:
        ConfigError: naming every key that is wrong, its value and what was expected.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: expected a mapping of keys, got {type(data).__name__}")
    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        entries = _of_meant_members(error.errors())
        lines = list(dict.fromkeys(_explain(entry, cls) for entry in entries))
        raise ConfigError("\n".join([f"{source}: the config cannot be used", *lines])) from None
    except EveryroofError as error:
        raise ConfigError(f"{source}: {error}") from error


def dump_config(config: Any) -> dict[str, Any]:
    """A config as plain data that YAML and JSON can hold.

    Args:
        config: an instance of a config class.
    """
    data = TypeAdapter(type(config)).dump_python(config, mode="json")
    assert isinstance(data, dict)
    return data


def load_dataset(path: str | Path) -> DatasetConfig:
    """Read the YAML of a data set; relative paths in it start from its `root`.

    Raises:
        ConfigError: missing file, broken YAML, or content that does not fit.
    """
    config = load_config(path, DatasetConfig)
    root = Path(path).parent / config.root
    sources = tuple(_anchored(source, root) for source in config.sources)
    return dataclasses.replace(config, sources=sources, root=".")


def _anchored(source: AnySource, root: Path) -> AnySource:
    changes: dict[str, Any] = {}
    if hasattr(source, "images"):
        changes["images"] = tuple(str(root / pattern) for pattern in source.images)
    if hasattr(source, "annotations"):
        changes["annotations"] = str(root / source.annotations)
    return dataclasses.replace(source, **changes)


def _of_meant_members(entries: list[Any]) -> list[Any]:
    """Errors of a union without those of the members that were not meant.

    A union of sources reports the errors of every member; the one whose `kind` fits was meant.
    Where none fits, the errors about `kind` are all that helps.
    """
    is_kind = [entry["type"] == "literal_error" and entry["loc"][-1] == "kind" for entry in entries]
    wrong = {entry["loc"][:-1] for entry, found in zip(entries, is_kind, strict=True) if found}
    by_union: dict[tuple[Any, ...], set[Any]] = {}
    for entry in entries:
        for depth, part in enumerate(entry["loc"]):
            if isinstance(part, str) and part[:1].isupper():
                by_union.setdefault(entry["loc"][:depth], set()).add(entry["loc"][: depth + 1])
    hopeless = {union for union, members in by_union.items() if members <= wrong}
    kept = []
    for entry, found in zip(entries, is_kind, strict=True):
        member = next((entry["loc"][: len(one)] for one in wrong if _starts(entry, one)), None)
        if member is None or (found and member[:-1] in hopeless):
            kept.append(entry)
    return kept


def _starts(entry: Any, prefix: tuple[Any, ...]) -> bool:
    return bool(entry["loc"][: len(prefix)] == prefix)


def _explain(entry: Any, cls: type) -> str:
    parts = [part for part in entry["loc"] if not (isinstance(part, str) and part[:1].isupper())]
    place = ".".join(str(part) for part in parts)
    if entry["type"] == "unexpected_keyword_argument":
        return f"  {place}: unknown key{_nearest(entry['loc'], cls)}"
    if entry["type"] == "missing":
        return f"  {place}: missing; this key is needed"
    if entry["type"] == "literal_error" and parts[-1] == "kind":
        return f"  {place}: {entry['input']!r} is no kind of source; expected one of {_kinds()}"
    value = "" if isinstance(entry["input"], dict) else f" (got {entry['input']!r})"
    prefix = f"  {place}: " if place else "  "
    return f"{prefix}{entry['msg'].removeprefix('Value error, ')}{value}"


def _kinds() -> str:
    members = typing.get_args(AnySource)
    kinds = [typing.get_args(typing.get_type_hints(member)["kind"]) for member in members]
    return ", ".join(kind for group in kinds for kind in group)


def _nearest(location: tuple[Any, ...], cls: type) -> str:
    """The key that was probably meant, from the class that owns it."""
    owner: Any = cls
    for part in location[:-1]:
        candidates = _config_classes(owner)
        named = [found for found in candidates if found.__name__ == part]
        if named:
            owner = named[0]
        elif dataclasses.is_dataclass(owner) and isinstance(part, str):
            owner = typing.get_type_hints(owner).get(part)
    owners = [owner] if dataclasses.is_dataclass(owner) else _config_classes(owner)
    known = [field.name for found in owners for field in dataclasses.fields(found)]
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known keys: {', '.join(dict.fromkeys(known))}" if known else ""


def _config_classes(hint: Any) -> list[Any]:
    """The dataclasses within a type such as tuple[A | B, ...] or dict[str, A]."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return [hint]
    if typing.get_origin(hint) in (tuple, list, dict, types.UnionType, typing.Union):
        return [cls for part in typing.get_args(hint) for cls in _config_classes(part)]
    return []
