"""Plain window reads of images: open datasets kept for a while, errors with a reason."""

import os
import threading
from collections import OrderedDict
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from geo.errors import RasterError
from geo.gdal import gdal_env, gdal_reason
from geo.image_levels import Level
from geo.image_names import shown_path
from geo.images import ImageInfo
from geo.pixel_window import PixelWindow

Uint8Array = npt.NDArray[np.uint8]

_MAX_OPEN = 16
# Alpha and masks that were compressed with loss, or averaged in an overview, lie in between.
_MASK_VALID = 128


class ImageReader:
    """Reads windows of images; keeps the datasets last used open, for each thread its own.

    GDAL's datasets are not for several threads, nor for the children of a fork: both get their own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], OrderedDict[tuple[str, int | None], Any]] = {}

    def __enter__(self) -> "ImageReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def close(self) -> None:
        """Close every dataset of this process."""
        with self._lock:
            pools = [pool for (pid, _), pool in self._open.items() if pid == os.getpid()]
            self._open.clear()
        for pool in pools:
            for dataset in pool.values():
                dataset.close()

    def read(
        self, info: ImageInfo, level: Level, window: PixelWindow
    ) -> tuple[npt.NDArray[Any], Uint8Array | None]:
        """Values and validity of a window of what a level is made from, before any boxes.

        Args:
            info: the image.
            level: its overview is read.
            window: pixels of the overview (or image), inside it.

        Returns:
            Values of the image's dtype, shape (height, width, bands); and 1 where the image says
            that they are valid, uint8, shape (height, width), or None if it says nothing.

        Raises:
            RasterError: if the image cannot be read, or is not the one that was looked at.
        """
        try:
            with gdal_env(info.path):
                dataset = self._dataset(info, level)
                part = Window(window.col_off, window.row_off, window.width, window.height)
                shape = (window.height, window.width, len(info.bands))
                values = np.empty(shape, info.dtype)
                dataset.read(list(info.bands), window=part, out=values.transpose(2, 0, 1))
                return values, _read_valid(info, dataset, part, values)
        except (RasterioError, OSError) as error:
            raise RasterError(
                f"cannot read image {shown_path(info.path)}, "
                f"columns {window.col_off} to {window.col_end}, "
                f"rows {window.row_off} to {window.row_end} of {_level_name(level)}: "
                f"{gdal_reason(error)}"
            ) from error

    def _dataset(self, info: ImageInfo, level: Level) -> rasterio.DatasetReader:
        with self._lock:
            pool = self._open.setdefault((os.getpid(), threading.get_ident()), OrderedDict())
        key = (info.path, level.overview)
        if key in pool:
            pool.move_to_end(key)
            return pool[key]
        options = {} if level.overview is None else {"overview_level": level.overview}
        dataset = rasterio.open(info.path, **options)
        if (dataset.width, dataset.height) != (level.base_width, level.base_height):
            dataset.close()
            raise RasterError(f"image {info.path} changed since the run was planned; run again")
        pool[key] = dataset
        while len(pool) > _MAX_OPEN:
            pool.popitem(last=False)[1].close()
        return dataset


def _level_name(level: Level) -> str:
    return "the image" if level.overview is None else f"overview {level.overview + 1}"


def _read_valid(
    info: ImageInfo, dataset: rasterio.DatasetReader, part: Window, values: npt.NDArray[Any]
) -> Uint8Array | None:
    """1 where valid. A pixel is nodata when all bands are: a blue of 0 alone is a colour."""
    if info.mask == "all_valid":
        return None
    if info.mask == "nodata":
        if info.nodata is None or not _can_hold(values.dtype, info.nodata):
            return None
        nodata = np.asarray(info.nodata).astype(values.dtype)
        return np.asarray((values != nodata).any(axis=2)).view(np.uint8)
    if info.mask.startswith("band"):
        mask = dataset.read(int(info.mask.removeprefix("band")), window=part)
    else:
        mask = dataset.read_masks(info.bands[0], window=part)
    return np.asarray(mask >= _MASK_VALID).view(np.uint8)


def _can_hold(dtype: np.dtype[Any], value: float) -> bool:
    """Whether a pixel can have the value; NaN is left to those who look at the values."""
    if dtype.kind == "f":
        return not np.isnan(value)
    limits = np.iinfo(dtype)
    return bool(limits.min <= value <= limits.max and float(value).is_integer())
