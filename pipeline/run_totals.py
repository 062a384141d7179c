"""What a run did, added up from its journal line by line; of a tile it keeps one number.

An engine that begins a job anew finds the tiles of its first try in the store: a tile counts once.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any


class RunTotals:
    """Sums over the events of a journal.

    Attributes:
        begin: when the run started, seconds since the epoch; None if the journal does not say.
        first_tile_time: when the first tile was begun, likewise; None without a segmented tile.
        num_segmented: tiles segmented in this run.
        num_windows: windows that went through the network.
        num_left_out: windows that a first look found empty.
        num_pixels: valid pixels of all tiles.
        num_reads: windows read from images.
        source_bytes: bytes of their values, decoded.
        num_requests: requests to the images' servers, those of profiles included.
        network_bytes: bytes that came from them.
        stage_s: busy seconds by stage, summed over all workers.
        num_models: networks loaded, which is the number of workers that segmented.
        fingerprint: what the first of them ran on; empty without one.
    """

    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        self.begin: float | None = None
        self.first_tile_time: float | None = None
        self.num_segmented = self.num_windows = self.num_left_out = self.num_pixels = 0
        self.num_reads = self.source_bytes = self.num_requests = self.network_bytes = 0
        self.stage_s: dict[str, float] = defaultdict(float)
        self.num_models = 0
        self.fingerprint: dict[str, Any] = {}
        self._fingerprints: set[str] = set()
        self._segmented: set[int] = set()
        self._stored: set[int] = set()
        for step in _STEPS:
            self.stage_s[f"Detect.{step}"] = 0
        for event in events:
            self._add(event)

    @property
    def num_stored(self) -> int:
        """Tiles that an earlier run had finished."""
        return len(self._stored - self._segmented)

    @property
    def fingerprints(self) -> list[dict[str, Any]]:
        """What the networks ran on, each kind once, in a fixed order."""
        return [json.loads(text) for text in sorted(self._fingerprints)]

    def _add(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        self.num_requests += event.get("requests", 0)
        self.network_bytes += event.get("network_bytes", 0)
        if kind == "tile":
            self._add_tile(event)
        elif kind == "stage":
            self.stage_s[event["name"]] += event["seconds"]
        elif kind == "model":
            self.num_models += 1
            self.fingerprint = self.fingerprint or event["fingerprint"]
            self._fingerprints.add(json.dumps(event["fingerprint"], sort_keys=True))
        elif kind == "started" and self.begin is None:
            self.begin = event["begin"]

    def _add_tile(self, event: dict[str, Any]) -> None:
        self.num_windows += event.get("windows", 0)
        self.num_left_out += event.get("left_out", 0)
        tile = hash(event["tile"])
        if tile not in self._segmented and tile not in self._stored:
            self.num_pixels += event.get("pixels", 0)
        if event.get("stored"):
            self._stored.add(tile)
        if "segment_s" not in event:
            return
        self._segmented.add(tile)
        self.num_segmented += 1
        self.num_reads += event.get("reads", 0)
        self.source_bytes += event.get("source_bytes", 0)
        for step in _STEPS:
            self.stage_s[f"Detect.{step}"] += event[f"{step}_s"]
        # Between its steps a tile waits for others.
        spent_s = event["read_s"] + event["segment_s"] + event["trace_s"]
        begun = event.get("begun_at") or event["time"] - spent_s
        if self.first_tile_time is None or begun < self.first_tile_time:
            self.first_tile_time = begun


_STEPS = ("read", "segment", "trace", "wait_read", "wait_trace")
