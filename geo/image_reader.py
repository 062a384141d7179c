"""Plain window reads of images: open datasets kept for a while, errors with a reason.

What servers do is met here: a failed read is tried again with a fresh connection, within limits,
and an image that changed under the job is found.
"""

import os
import random
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from geo.errors import RasterError, StorageError
from geo.gdal import gdal_env, gdal_reason, is_remote
from geo.image_levels import Level
from geo.image_names import shown_path
from geo.images import ImageInfo
from geo.large_arrays import blank_array
from geo.pixel_window import PixelWindow
from geo.remote_names import redact, to_gdal
from geo.remote_state import UNKNOWN, remote_states

Uint8Array = npt.NDArray[np.uint8]

_MAX_OPEN = 16
REMOTE_TRIES = 3
"""How often a window of a remote image is tried; each request in it is retried by GDAL, too."""
# Answers that waiting does not change, as GDAL words them.
_FINAL = re.compile(r"\b(400|401|403|404|405|410|412|416)\b|does not exist")
# Alpha and masks that were compressed with loss, or averaged in an overview, lie in between.
_MASK_VALID = 128


class ImageReader:
    """Reads windows of images; keeps the datasets last used open, for each thread its own.

    GDAL's datasets are not for several threads, nor for the children of a fork: both get their own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], OrderedDict[tuple[str, int | None], Any]] = {}
        self._changed: set[str] = set()
        self._down: set[str] = set()

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
        self._refuse_changed(info)
        try:
            with gdal_env(info.path, is_alone=info.is_alone):
                return self._with_retries(info, lambda: self._read_once(info, level, window))
        except (RasterioError, OSError) as error:
            # One that is not there any more, or answers otherwise, may well have been replaced.
            says = self._what_server_says(info)
            raise RasterError(
                f"cannot read image {redact(shown_path(info.path))}, columns {window.col_off} to "
                f"{window.col_end}, rows {window.row_off} to {window.row_end} of "
                f"{_level_name(level)}: {gdal_reason(error)}{says}"
            ) from error

    def check_unchanged(self, info: ImageInfo) -> None:
        """Ask the server whether a remote image is still the one that the job began with.

        What was read before is then of that version, whatever GDAL had kept: one small request for
        each of the image's remote files. Local images are taken as they are.

        Raises:
            RasterError: if it changed, or its server does not answer.
        """
        try:
            self._compare_states(info)
        except StorageError as error:
            raise RasterError(
                f"cannot tell whether image {redact(info.path)} is unchanged: {error}. Run again "
                "when its server answers"
            ) from error

    def _compare_states(self, info: ImageInfo) -> None:
        self._refuse_changed(info)
        states = [state for _, state in info.remote]
        now = remote_states([path for path, _ in info.remote])
        if any(new not in (old, UNKNOWN) for old, new in zip(states, now, strict=True)):
            self._changed.add(info.path)
            self._drop(info.path)
        self._refuse_changed(info)

    def _what_server_says(self, info: ImageInfo) -> str:
        if not is_remote(info.path):
            return ""
        try:
            self._compare_states(info)
        except StorageError as error:
            return f"; its server says: {error}. Run again when it answers"
        return f"; {REMOTE_TRIES} tries were made. Run again, or look at the image there"

    def _refuse_changed(self, info: ImageInfo) -> None:
        if info.path in self._changed:
            raise RasterError(
                f"image {redact(info.path)} changed on its server under the job; run again to use "
                "the new one"
            )

    def _with_retries(self, info: ImageInfo, read: Callable[[], Any]) -> Any:
        """Try again with fresh datasets: those of a failed read may believe what is not so.

        An image whose tries were used up gets one try a tile until it answers again, so that a dead
        server does not cost every tile the full wait.
        """
        is_patient = is_remote(info.path) and info.path not in self._down
        for last in range(REMOTE_TRIES if is_patient else 1, 0, -1):
            try:
                result = read()
            except (RasterioError, OSError) as error:
                if is_remote(info.path):
                    self._drop(info.path)
                if last > 1 and not _FINAL.search(gdal_reason(error)):
                    time.sleep(_pause_s(REMOTE_TRIES - last))
                    continue
                self._down.add(info.path)
                raise
            self._down.discard(info.path)
            return result
        raise AssertionError("the last try returns or raises")

    def _read_once(
        self, info: ImageInfo, level: Level, window: PixelWindow
    ) -> tuple[npt.NDArray[Any], Uint8Array | None]:
        dataset = self._dataset(info, level)
        part = Window(window.col_off, window.row_off, window.width, window.height)
        values = blank_array((window.height, window.width, len(info.bands)), info.dtype)
        dataset.read(list(info.bands), window=part, out=values.transpose(2, 0, 1))
        return values, _read_valid(info, dataset, part, values)

    def _drop(self, path: str) -> None:
        """Close this thread's datasets of an image, and with them what GDAL kept of it."""
        with self._lock:
            pool = self._open.get((os.getpid(), threading.get_ident()), OrderedDict())
        for key in [key for key in pool if key[0] == path]:
            pool.pop(key).close()

    def _dataset(self, info: ImageInfo, level: Level) -> rasterio.DatasetReader:
        with self._lock:
            pool = self._open.setdefault((os.getpid(), threading.get_ident()), OrderedDict())
        key = (info.path, level.overview)
        if key in pool:
            pool.move_to_end(key)
            return pool[key]
        options = {} if level.overview is None else {"overview_level": level.overview}
        dataset = rasterio.open(to_gdal(info.path), **options)
        if (dataset.width, dataset.height) != (level.base_width, level.base_height):
            dataset.close()
            raise RasterError(
                f"image {redact(info.path)} changed since the run was planned; run again"
            )
        pool[key] = dataset
        while len(pool) > _MAX_OPEN:
            pool.popitem(last=False)[1].close()
        return dataset


def _pause_s(num_failures: int) -> float:
    """A growing pause, not the same for all workers, from GDAL's own setting."""
    first = float(os.environ.get("GDAL_HTTP_RETRY_DELAY", "0.5"))
    return 2.0 * first * 2.0**num_failures * random.uniform(0.75, 1.25)


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
