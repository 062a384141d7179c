"""What a training's folder says about it, so that going on goes on with the same training."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geo.atomic_files import write_atomically
from model.errors import TrainingError
from model.train_config import TrainConfig

STATE_FILE = "training.json"
CHECKPOINT_FILE = "last.ckpt"
BEST_FILE = "best.pt"
SCORES_FILE = "scores.csv"
# These change nothing of what is learned.
_FREE_KEYS = ("output", "num_loaders", "name")


def clear_training(folder: Path) -> None:
    """Remove what an earlier training in a folder would be resumed from."""
    for name in (STATE_FILE, CHECKPOINT_FILE, BEST_FILE, SCORES_FILE):
        (folder / name).unlink(missing_ok=True)


def open_training(
    folder: Path, config: TrainConfig, facts: Mapping[str, Any], *, resume: bool
) -> int:
    """Start a training in a folder, or find that it is the same as the one to go on with.

    Args:
        folder: made if there is none.
        config: the training.
        facts: further things that make it another training when they differ.
        resume: whether to go on; a folder without a checkpoint starts afresh all the same.

    Returns:
        The batch size to go on with: the config's, or less where memory ran out before.

    Raises:
        TrainingError: if the folder's checkpoint is of another training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = _describe(config, facts)
    path = folder / STATE_FILE
    if resume and (folder / CHECKPOINT_FILE).exists():
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        batch_size = stored.pop("batch_size", config.schedule.batch_size)
        different = _differences(stored, state)
        if different:
            raise TrainingError(
                f"{folder} holds a checkpoint of another training: {', '.join(different[:5])} "
                "differ; train without --resume, or into another folder"
            )
        return int(batch_size)
    clear_training(folder)
    note_batch_size(folder, config, facts, config.schedule.batch_size)
    return config.schedule.batch_size


def note_batch_size(
    folder: Path, config: TrainConfig, facts: Mapping[str, Any], batch_size: int
) -> None:
    """Write the training's description with the batch size that memory holds."""
    state = _describe(config, facts) | {"batch_size": batch_size}
    write_atomically(folder / STATE_FILE, json.dumps(state, indent=2).encode())


def _describe(config: TrainConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: value for key, value in asdict(config).items() if key not in _FREE_KEYS}
    files = {"pack": config.pack, "init": config.init}
    hashes = {f"{key}_sha256": _sha256(path) for key, path in files.items() if path}
    # Through JSON, so that tuples compare equal to the lists that are read back.
    described = json.loads(json.dumps({"config": values, **hashes, "facts": dict(facts)}))
    assert isinstance(described, dict)
    return described


def _sha256(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        # Whoever reads the file says what is wrong with it.
        return ""


def _differences(stored: Any, wanted: Any, prefix: str = "") -> list[str]:
    """Names of the entries that differ, with dots."""
    if not isinstance(stored, dict) or not isinstance(wanted, dict):
        return [] if stored == wanted else [prefix.removesuffix(".").removeprefix("config.")]
    return [
        name
        for key in dict.fromkeys([*stored, *wanted])
        for name in _differences(stored.get(key), wanted.get(key), f"{prefix}{key}.")
    ]
