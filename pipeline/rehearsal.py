"""What a run needs for the first time at its end, made ready while the network works.

Loading a dozen compiled kernels and templates and looking for extensions of STAC takes a third of a
second, as much as all the rest of a small job after its last tile. The network leaves Python idle.
"""

import logging
import threading

import numpy as np
import pystac

from geo.components import find_instances
from geo.grid import Tile
from geo.pixel_window import PixelWindow
from geo.shards import count_cells
from pipeline import gis_style, report
from pipeline.finish import finish_instances
from pipeline.image_shelf import ImageShelf
from pipeline.spec import JobSpec
from pipeline.tile_store import TileStore

logger = logging.getLogger(__name__)

_SIDE_PX = 64
_HOUSE_PX = slice(16, 48)


class Rehearsal:
    """A thread that does the last steps once, on a house that nobody sees."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._thread: threading.Thread | None = None

    def start(self, tile: Tile) -> None:
        """Begin, unless that was done before.

        Args:
            tile: where the house stands.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(tile,), name="rehearsal")
            self._thread.start()

    def join(self) -> None:
        """Wait for its end."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, tile: Tile) -> None:
        try:
            self._finish_house(tile)
            gis_style.load_templates()
            report.load_templates()
            # Its first call imports every extension that is installed.
            pystac.EXTENSION_HOOKS.get_extended_object_links(pystac.Catalog("none", "none"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the run itself meets it and says so
            logger.debug("rehearsal: %s", error)

    def _finish_house(self, tile: Tile) -> None:
        spec = self._spec
        probability = np.zeros((_SIDE_PX, _SIDE_PX), np.uint8)
        probability[_HOUSE_PX, _HOUSE_PX] = 255
        window = PixelWindow(tile.window.col_off, tile.window.row_off, _SIDE_PX, _SIDE_PX)
        house = find_instances(probability, threshold=255, window=window)
        shelf = ImageShelf(spec, TileStore(spec.store_path))
        table, _ = finish_instances(spec, shelf, tile.zone, house)
        count_cells(table["s2_cell"].to_numpy())
