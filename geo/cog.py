"""Writing of cloud-optimised GeoTIFFs on the world grid."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from geo.atomic_files import write_atomically
from geo.errors import RasterError
from geo.gdal import gdal_reason
from geo.grid import WorldGrid
from geo.object_path import ObjectPath
from geo.pixel_window import PixelWindow


def write_cog(
    path: str | os.PathLike[str] | ObjectPath,
    array: npt.NDArray[Any],
    grid: WorldGrid,
    window: PixelWindow,
    nodata: float | None = None,
) -> None:
    """Write pixels of the grid as a COG (tiled, with overviews): whole or not at all.

    Args:
        path: file or object to write; an existing one is replaced.
        array: shape (height, width) or (bands, height, width).
        grid: the zone's grid.
        window: the pixels' place in it, of the array's size.
        nodata: value that marks missing pixels.

    Raises:
        RasterError: if it cannot be written.
        ValueError: if array and window differ in size.
    """
    bands = array if array.ndim == 3 else array[np.newaxis]
    if bands.shape[1:] != (window.height, window.width):
        raise ValueError(f"array of shape {array.shape} does not fill the window {window}")
    profile = {
        "driver": "COG",
        "count": len(bands),
        "height": window.height,
        "width": window.width,
        "dtype": bands.dtype,
        "crs": f"EPSG:{grid.epsg}",
        "transform": grid.transform @ Affine.translation(window.col_off, window.row_off),
        "nodata": nodata,
        "blocksize": 512,
        "compress": "deflate",
        "predictor": "yes",
        "overview_resampling": "average",
        "bigtiff": "if_safer",
    }
    try:
        with MemoryFile() as memory:
            # In memory first: a full disk is then said by the system, and nothing is half there.
            with memory.open(**profile) as dataset:
                dataset.write(bands)
            write_atomically(path, memory.read())
    except (RasterioError, OSError) as error:
        raise RasterError(f"cannot write {path}: {gdal_reason(error)}") from error
