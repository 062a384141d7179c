"""Faults inside a worker's process, ordered by a file: slow tiles, and a tile that kills.

Python imports this by itself where the folder is on PYTHONPATH; EVERYROOF_FAULTS names a JSON file
{"sleep_s": seconds a tile, "kill_at": name of a tile or null}, read anew at each tile.
"""

import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time

FAULTS = os.environ.get("EVERYROOF_FAULTS")
TARGET = "pipeline.tile_work"


class _Patcher(importlib.abc.MetaPathFinder):
    """Wraps the step of a tile that runs the network, as soon as its module is imported."""

    def find_spec(self, name, path=None, target=None):
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.begin_layers = _with_faults(module.begin_layers)

        spec.loader.exec_module = exec_module
        return spec


def _with_faults(begin_layers):
    def faulty(spec, segmenter, layers, **options):
        with open(FAULTS) as file:
            faults = json.load(file)
        time.sleep(faults["sleep_s"])
        if layers.task.tile.name == faults["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return begin_layers(spec, segmenter, layers, **options)

    return faulty


if FAULTS:
    sys.meta_path.insert(0, _Patcher())
