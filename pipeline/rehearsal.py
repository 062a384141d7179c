"""What a run needs for the first time at its end, made ready while the network works.

Loading a dozen compiled kernels and templates and looking for extensions of STAC takes a third of a
second, as much as all the rest of a small job after its last tile. The network leaves Python idle.
"""

import logging
import threading

import numpy as np
import pystac

from geo.components import find_instances
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
_EASTING_M = 500_000.0
"""Of the middle of a zone, and of the house, on the equator."""


class Rehearsal:
    """The last steps done once, in a thread, for a house that nobody sees.

    Args:
        spec: the job.
        zone: UTM zone that the house stands in.
    """

    def __init__(self, spec: JobSpec, zone: int) -> None:
        self._spec, self._zone = spec, zone
        self._thread = threading.Thread(target=self.run, name="rehearsal")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def run(self) -> None:
        """Do it, in the calling thread."""
        try:
            self._finish_house()
            gis_style.load_templates()
            report.load_templates()
            # Its first call imports every extension that is installed.
            pystac.EXTENSION_HOOKS.get_extended_object_links(pystac.Catalog("none", "none"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the run itself meets it and says so
            logger.debug("rehearsal: %s", error)

    def _finish_house(self) -> None:
        spec = self._spec
        probability = np.zeros((_SIDE_PX, _SIDE_PX), np.uint8)
        probability[_HOUSE_PX, _HOUSE_PX] = 255
        window = PixelWindow(round(_EASTING_M / spec.gsd_m), 0, _SIDE_PX, _SIDE_PX)
        house = find_instances(probability, threshold=255, window=window)
        shelf = ImageShelf(spec, TileStore(spec.store_path))
        table, _ = finish_instances(spec, shelf, self._zone, house)
        count_cells(table["s2_cell"].to_numpy())
