"""The YAML of an ablation: a training, and what each variant changes in it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from model.noisy_student import SelfTrainConfig
from model.train_config import TrainConfig
from pipeline.config import ConfigError
from pipeline.train_config_file import load_config, parse_config

_SELF_TRAIN = "self_train"


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """An ablation."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    base: str
    """YAML of the training that all variants start from, from the folder of this file."""
    output: str
    """Folder of all runs, and of table.md."""
    variants: dict[str, dict[str, Any]]
    """By name, what each changes in the training; the first is what the others are compared with.
    A variant with `self_train` (the keys of `everyroof self-train` but `student`) is a student.
    `{seed}` in its `teacher`, and in any variant's `init`, is the seed, so that a run may go on
    from that of an earlier variant: OUTPUT/NAME/seed{seed}/everyroof.safetensors."""
    common: dict[str, Any] = field(default_factory=dict)
    """What all variants change: mostly fewer steps."""
    seeds: tuple[int, ...] = (0, 1)
    """Each variant is trained once with each."""

    def __post_init__(self) -> None:
        """Check what concerns several fields."""
        if len(self.variants) < 2:
            raise ValueError(f"{len(self.variants)} variants; expected at least 2 to compare")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds = {list(self.seeds)}; expected different ones, at least one")


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """An ablation, ready to run: every variant is checked before the first one starts.

    Attributes:
        config: as read.
        variants: training, or self-training, by name.
    """

    config: AblationConfig
    variants: Mapping[str, TrainConfig | SelfTrainConfig]

    def of(self, name: str, seed: int, output: Path) -> TrainConfig | SelfTrainConfig:
        """A variant with its seed and output folder."""
        variant = self.variants[name]
        changes: dict[str, Any] = {"seed": seed, "output": str(output)}
        if isinstance(variant, TrainConfig):
            init = None if variant.init is None else variant.init.replace("{seed}", str(seed))
            return dataclasses.replace(variant, **changes, init=init)
        init = variant.student.init
        init = None if init is None else init.replace("{seed}", str(seed))
        return dataclasses.replace(
            variant,
            teacher=variant.teacher.replace("{seed}", str(seed)),
            student=dataclasses.replace(variant.student, **changes, init=init),
        )


def load_ablation(path: Path) -> Ablation:
    """Read an ablation and check all of its variants.

    Raises:
        ConfigError: missing file, broken YAML, or a variant that does not fit.
    """
    config = load_config(path, AblationConfig)
    base_path = path.parent / config.base
    load_config(base_path, TrainConfig)
    base = yaml.safe_load(base_path.read_text(encoding="utf-8"))
    variants: dict[str, TrainConfig | SelfTrainConfig] = {}
    for name, changes in config.variants.items():
        own = {key: value for key, value in changes.items() if key != _SELF_TRAIN}
        data = merge(merge(base, config.common), own)
        source = f"{path}: variant {name}"
        if _SELF_TRAIN in changes:
            extra = changes[_SELF_TRAIN]
            if not isinstance(extra, dict):
                raise ConfigError(f"{source}: self_train = {extra!r}; expected a mapping of keys")
            variants[name] = parse_config(
                {**extra, "student": data}, SelfTrainConfig, source=source
            )
        else:
            variants[name] = parse_config(data, TrainConfig, source=source)
    ablation = Ablation(config=config, variants=variants)
    _check_comparable(path, ablation)
    return ablation


def _check_comparable(path: Path, ablation: Ablation) -> None:
    """Refuse variants that are scored at different pixel sizes."""
    sizes = {
        name: (one if isinstance(one, TrainConfig) else one.student).validation_gsd_m
        for name, one in ablation.variants.items()
    }
    first = next(iter(sizes.values()))
    for name, own in sizes.items():
        if own != first:
            raise ConfigError(
                f"{path}: variant {name}: validation_gsd_m = {list(own)}; expected {list(first)} "
                "as in the first variant, or the scores cannot be compared"
            )


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with some keys changed; mappings are merged, anything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = (
            merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged
