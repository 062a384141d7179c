"""One tile in a process of its own: for tiles that killed their worker before."""

import dataclasses
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from geo.grid import Tile
from pipeline.spec import JobSpec

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IsolatedOutcome:
    """How a tile's own process ended.

    Attributes:
        is_stored: the tile is finished and stored.
        reason: why it failed in good order; empty when the process died.
    """

    is_stored: bool
    reason: str = ""


def detect_isolated(spec: JobSpec, tile: Tile) -> IsolatedOutcome:
    """Detect a tile in a fresh process; its death harms nobody else."""
    with tempfile.TemporaryDirectory() as folder:
        # Our own object on its way to our own child, through a private folder.
        (Path(folder) / "spec").write_bytes(pickle.dumps(spec))
        run = subprocess.run(
            [sys.executable, "-P", "-c", "from pipeline.isolated import main; main()"],
            env={
                **os.environ,
                "PYTHONSAFEPATH": "1",
                "EVERYROOF_ISOLATED": folder,
                "EVERYROOF_TILE": tile.name,
            },
            check=False,
        )
        outcome = Path(folder) / "outcome"
        if outcome.exists():
            return IsolatedOutcome(**json.loads(outcome.read_text()))
    logger.warning("tile %s: its own process ended with status %d", tile.name, run.returncode)
    return IsolatedOutcome(is_stored=False)


def main() -> None:
    """Entry of the child process; the environment names the folder and the tile."""
    from pipeline.logs import configure_logging

    configure_logging()
    from pipeline.detect import TileDetector, load_segmenter
    from pipeline.orphan_guard import end_with_supervisor

    end_with_supervisor()
    folder = Path(os.environ["EVERYROOF_ISOLATED"])
    spec: JobSpec = pickle.loads((folder / "spec").read_bytes())
    tile = Tile.parse(os.environ["EVERYROOF_TILE"])
    detector = TileDetector(spec, load_segmenter(spec))
    ended = [*detector.start(tile, is_isolated=True), *detector.finish()]
    detector.close()
    record = ended[0].record
    failed = record.status == "failed"
    outcome = {"is_stored": not failed, "reason": record.reason if failed else ""}
    (folder / "outcome").write_text(json.dumps(outcome))
