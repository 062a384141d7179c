"""Writing of cloud-optimised GeoTIFFs on the world grid."""

import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

from geo.errors import RasterError
from geo.grid import PixelWindow, WorldGrid


def write_cog(
    path: str,
    array: npt.NDArray[Any],
    grid: WorldGrid,
    window: PixelWindow,
    nodata: float | None = None,
) -> None:
    """Write pixels of the grid as a COG (tiled, with overviews): whole or not at all.

    Args:
        path: file to write, on a disk; an existing one is replaced.
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
    handle, temporary = tempfile.mkstemp(suffix=".part.tif", dir=os.path.dirname(path) or ".")
    os.close(handle)
    try:
        with rasterio.open(temporary, "w", **profile) as dataset:
            dataset.write(bands)
        os.replace(temporary, path)
    except (rasterio.errors.RasterioError, OSError) as error:
        raise RasterError(f"cannot write {path}: {error}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
