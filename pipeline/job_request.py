"""What supervisor and job process say to each other: the request, and the exit status."""

import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

EXIT_OK = 0
EXIT_FAILED_TILES = 1
EXIT_USAGE = 2
EXIT_RUN_FAILED = 3
EXIT_WORKER_DIED = 70
EXIT_REMOTE_FAILED = 71
EXIT_INTERRUPTED = 130

LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner", "BundleBasedDirectRunner")
"""Names of runners that leave a job on this machine, as it is without a name."""
_REQUEST_NAME = "request.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What the command line asks of the job process.

    Attributes:
        config_path: YAML file, or None for `config`.
        config: config as plain data, where no YAML was given.
        fresh: forget the tile store.
        workers: worker processes on this machine.
        beam_flags: flags for Beam, untouched.
        begin: when the command was started, or was at its latest try; seconds since the epoch.
    """

    config_path: str | None
    config: dict[str, Any] | None
    fresh: bool
    workers: int
    beam_flags: tuple[str, ...]
    begin: float = dataclasses.field(default_factory=time.time)

    def write(self, folder: Path) -> None:
        """Leave the request in a folder, for the job process."""
        (folder / _REQUEST_NAME).write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> "JobRequest":
        """The request that was left in a folder."""
        data = json.loads((folder / _REQUEST_NAME).read_text())
        return cls(**{**data, "beam_flags": tuple(data["beam_flags"])})

    @property
    def is_remote(self) -> bool:
        """Whether the flags send the job to another engine."""
        words = [word for flag in self.beam_flags for word in flag.split("=", 1)]
        return any(
            word == "--runner" and value not in LOCAL_RUNNERS
            for word, value in itertools.pairwise(words)
        )
