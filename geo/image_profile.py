"""What has to be known of a whole image before any tile of it is read: fill and value range."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geo.atomic_files import atomic_path
from geo.errors import RasterError
from geo.fill_areas import FillAreas, find_fill
from geo.image_levels import Level, coarse_level
from geo.image_reader import ImageReader
from geo.images import ImageInfo
from geo.pixel_window import PixelWindow
from geo.places import Place, as_place
from geo.raster_config import RasterConfig
from geo.source_pixels import level_windows, read_values
from geo.value_scaling import ValueScaling, percentile_scaling

Uint8Array = npt.NDArray[np.uint8]

MAX_CELLS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class ImageProfile:
    """Facts of a whole image, of one version and for one configuration.

    Attributes:
        version: version of the image that it was made from.
        fill: where the image may have fill; None if it has none.
        scaling: how values become 8 bit; None: they are.
    """

    version: str
    fill: FillAreas | None
    scaling: ValueScaling | None


def profile_image(
    info: ImageInfo, config: RasterConfig, reader: ImageReader | None = None
) -> ImageProfile:
    """Look at a whole image once, streamed in bounded memory.

    The image is read from its coarsest overview of more than four million pixels (three times if
    it is not 8 bit: fill, then two passes for the percentiles).

    Args:
        info: the image.
        config: fill colours, value range.
        reader: reads the file; None: one of its own.

    Raises:
        RasterError: if the image cannot be read, or changed meanwhile.
    """
    if reader is None:
        with ImageReader() as own_reader:
            return profile_image(info, config, own_reader)
    level = coarse_level(info, MAX_CELLS)
    fill = None
    if config.nodata_colours:
        fill = find_fill(info, level, _values_of_windows(reader, info, level), config)
        fill = fill if fill.packed.any() else None
    scaling = _scaling(reader, info, level, fill, config)
    if config.nodata_colours or info.dtype != "uint8":
        reader.check_unchanged(info)
    return ImageProfile(version=info.version, fill=fill, scaling=scaling)


def _values_of_windows(
    reader: ImageReader, info: ImageInfo, level: Level
) -> Iterator[tuple[PixelWindow, npt.NDArray[Any], Uint8Array | None]]:
    for window in level_windows(info, level):
        yield window, *read_values(reader, info, level, _base(level, window), None)


def _base(level: Level, window: PixelWindow) -> PixelWindow:
    return PixelWindow(
        window.col_off * level.box_cols,
        window.row_off * level.box_rows,
        window.width * level.box_cols,
        window.height * level.box_rows,
    )


def _scaling(
    reader: ImageReader,
    info: ImageInfo,
    level: Level,
    fill: FillAreas | None,
    config: RasterConfig,
) -> ValueScaling | None:
    num_bands = len(info.bands)
    if config.value_range is not None:
        low, high = config.value_range
        return ValueScaling(low=np.full(num_bands, low), high=np.full(num_bands, high))
    if info.dtype == "uint8":
        return None

    def samples() -> Iterator[tuple[npt.NDArray[Any], Uint8Array | None]]:
        for window in level_windows(info, level):
            yield read_values(reader, info, level, _base(level, window), fill)

    return percentile_scaling(samples, num_bands, config.value_percentiles)


def save_profile(profile: ImageProfile, path: str | Place) -> None:
    """Write a profile as .npz: whole or not at all.

    Args:
        profile: the profile.
        path: file or object to write; an existing one is replaced.
    """
    arrays: dict[str, Any] = {"version": profile.version}
    for name in ("fill", "scaling"):
        part = getattr(profile, name)
        if part is not None:
            arrays |= {f"{name}.{key}": value for key, value in vars(part).items()}
    with atomic_path(as_place(path)) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_profile(path: str | Place) -> ImageProfile:
    """Read a profile.

    Raises:
        RasterError: if the file is not a profile.
    """
    try:
        data = io.BytesIO(as_place(path).read_bytes())
        with np.load(data, allow_pickle=False) as arrays:
            parts: dict[str, dict[str, Any]] = {"fill": {}, "scaling": {}}
            for key in arrays.files:
                name, _, field = key.partition(".")
                if field:
                    value = arrays[key]
                    parts[name][field] = value if value.ndim else value.item()
            return ImageProfile(
                version=str(arrays["version"]),
                fill=FillAreas(**parts["fill"]) if parts["fill"] else None,
                scaling=ValueScaling(**parts["scaling"]) if parts["scaling"] else None,
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RasterError(f"{path} is no image profile ({error}); remove it") from error
