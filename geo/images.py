"""Images: what a file says about itself, checked once, small enough to send anywhere."""

import dataclasses
import datetime
import logging
import math
import os
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geo.errors import GridError, RasterError, StateError, StorageError
from geo.gdal import gdal_env, gdal_reason, is_remote
from geo.grid import check_latitudes, unwrap_longitude, zone_of_longitude, zone_to_lonlat
from geo.image_checks import check_file, check_georeference, choose_bands
from geo.image_names import shown_path
from geo.image_version import RemoteFiles, content_version, remote_files
from geo.remote_names import redact, to_gdal
from geo.remote_state import UNKNOWN, remote_state

Float64Array = npt.NDArray[np.float64]

logger = logging.getLogger(__name__)

_STEPS_PER_EDGE = 16
_DATE_TAGS = (
    ("IMAGERY", "ACQUISITIONDATETIME"),
    (None, "ACQUISITIONDATETIME"),
    (None, "ACQUISITION_DATE"),
    (None, "ACQUISITIONDATE"),
    (None, "TIFFTAG_DATETIME"),
)
_DATE = re.compile(r"\s*(\d{4})[-:/]?(\d{2})[-:/]?(\d{2})(?!\d)|\s*(\d{4})(\d{2})(\d{2})\d{6}")


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What is known of an image without reading its pixels.

    Attributes:
        path: anything GDAL opens.
        image_id: name of the image in the output.
        date: day it was taken, None where unknown.
        version: identity of the content (`geo.image_version`).
        crs: its CRS as WKT.
        transform: (a, b, c, d, e, f): (col, row) of a pixel corner to x = a col + b row + c,
            y = d col + e row + f in the CRS, x being easting or longitude.
        width: columns.
        height: rows.
        num_bands: bands in the file.
        bands: bands to read, from 1, in the model's order.
        dtype: name of the values' type.
        nodata: value that marks missing pixels, None if there is none.
        mask: where validity is told: "all_valid", "nodata", "alpha", "mask" (internal or .msk), or
            "band4", a band by its number.
        block_size: (width, height) in which the file stores its pixels.
        overview_sizes: (width, height) of each usable overview, finest first.
        gsd_col_m: metres on the ground from column to column at the centre.
        gsd_row_m: metres on the ground from row to row at the centre.
        footprint: closed outline in degrees as (longitude, latitude) pairs; longitudes continuous,
            beyond 180 where the image crosses the antimeridian.
        x_period: a full turn around the earth in x, 0 where x does not repeat.
        remote: its files on servers with their states, to notice when one changes; empty for local
            images, and where the server tells neither ETag nor time.
        is_alone: a remote image without sidecars, which nobody needs to ask for again.
    """

    path: str
    image_id: str
    date: datetime.date | None
    version: str
    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int
    num_bands: int
    bands: tuple[int, ...]
    dtype: str
    nodata: float | None
    mask: str
    block_size: tuple[int, int]
    overview_sizes: tuple[tuple[int, int], ...]
    gsd_col_m: float
    gsd_row_m: float
    footprint: tuple[tuple[float, float], ...]
    x_period: float
    remote: RemoteFiles = ()
    is_alone: bool = False

    @property
    def affine(self) -> Affine:
        """The transform as an affine."""
        return Affine(*self.transform)

    @property
    def gsd_m(self) -> float:
        """Pixel size on the ground: the mean of both directions."""
        return math.sqrt(self.gsd_col_m * self.gsd_row_m)

    def to_dict(self) -> dict[str, Any]:
        """A plain dict that JSON can hold (NaN as a string)."""
        values = dataclasses.asdict(self)
        values["date"] = self.date.isoformat() if self.date else None
        if self.nodata is not None and not math.isfinite(self.nodata):
            values["nodata"] = str(self.nodata)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ImageInfo":
        """The image of a dict made by `to_dict`, also after a round trip through JSON."""
        values = dict(values)
        if values["date"] is not None:
            values["date"] = datetime.date.fromisoformat(values["date"])
        if values["nodata"] is not None:
            values["nodata"] = float(values["nodata"])
        for name in ("transform", "bands", "block_size"):
            values[name] = tuple(values[name])
        for name in ("overview_sizes", "footprint", "remote"):
            values[name] = tuple((first, second) for first, second in values.get(name, ()))
        return cls(**values)


def open_image(
    path: str,
    *,
    image_id: str | None = None,
    date: datetime.date | None = None,
    bands: tuple[int, ...] | None = None,
    num_bands: int = 3,
    version: str | None = None,
) -> ImageInfo:
    """Look at an image and check that it can be used.

    Args:
        path: anything GDAL opens: a file, a URL, a /vsi path.
        image_id: name in the output; None: the file's name without its extension.
        date: day it was taken; None: from the file's tags, where they say it.
        bands: bands to read, from 1; None: those tagged red, green and blue, else the first ones.
        num_bands: bands that the model wants.
        version: identity of the content; None: found by looking at it (`geo.image_version`).

    Raises:
        RasterError: if it is missing, empty, no raster, without georeference, has too few bands or
            complex values, or lies beyond the UTM zones.
    """
    check_file(path)
    problem = ""
    try:
        with gdal_env(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # Before it is opened: a change from here on is noticed.
            state, problem = _state_at_start(path) if is_remote(path) else (UNKNOWN, "")
            with rasterio.open(to_gdal(path)) as dataset:
                return _inspect(path, state, dataset, image_id, date, bands, num_bands, version)
    except RasterError as error:
        raise RasterError(redact(str(error))) from error.__cause__
    except FileNotFoundError:
        raise RasterError(f"image {redact(path)} does not exist; check the URL") from None
    except (RasterioError, OSError, StorageError) as error:
        shown = redact(shown_path(path))
        reasons = [reason for reason in (gdal_reason(error), problem) if reason]
        raise RasterError(f"cannot read image {shown}: {'; '.join(reasons)}") from error


def _state_at_start(path: str) -> tuple[str, str]:
    """A remote image's state; else `UNKNOWN`, and why its server does not tell it."""
    try:
        return remote_state(path), ""
    except StateError as error:
        # It may want headers, a profile or a region that only GDAL knows of, or give no ranges: let
        # GDAL try.
        return UNKNOWN, str(error)


def _inspect(
    path: str,
    state: str,
    dataset: rasterio.DatasetReader,
    image_id: str | None,
    date: datetime.date | None,
    bands: tuple[int, ...] | None,
    num_bands: int,
    version: str | None,
) -> ImageInfo:
    check_georeference(path, dataset)
    chosen = choose_bands(path, dataset, bands, num_bands)
    crs = _horizontal_crs(path, dataset)
    to_lonlat = _lonlat_transformer(path, crs)
    footprint = _footprint(path, dataset, to_lonlat)
    gsd_col_m, gsd_row_m = _ground_gsd(dataset, to_lonlat)
    remote = remote_files(path, state, dataset)
    is_alone = is_remote(path) and len(dataset.files) <= 1
    return ImageInfo(
        path=path,
        image_id=image_id or _stem(path),
        date=date or _tagged_date(dataset),
        version=version or content_version(path, dataset, remote),
        crs=crs.to_wkt(),
        transform=dataset.transform[:6],
        width=dataset.width,
        height=dataset.height,
        num_bands=dataset.count,
        bands=chosen,
        dtype=dataset.dtypes[chosen[0] - 1],
        nodata=_nodata(dataset, chosen),
        mask=_mask_kind(dataset, chosen),
        block_size=(dataset.block_shapes[0][1], dataset.block_shapes[0][0]),
        overview_sizes=_usable_overviews(path, dataset, chosen, is_alone=is_alone),
        gsd_col_m=gsd_col_m,
        gsd_row_m=gsd_row_m,
        footprint=footprint,
        x_period=_x_period(crs),
        remote=remote,
        is_alone=is_alone,
    )


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path.split("?")[0].rstrip("/")))[0] or path


def _horizontal_crs(path: str, dataset: rasterio.DatasetReader) -> pyproj.CRS:
    try:
        return pyproj.CRS.from_wkt(dataset.crs.to_wkt()).to_2d()
    except (pyproj.exceptions.CRSError, rasterio.errors.CRSError) as error:
        raise RasterError(
            f"image {path} has a CRS that cannot be understood ({error}); set it with "
            "gdal_edit.py -a_srs EPSG:CODE"
        ) from error


def _lonlat_transformer(path: str, crs: pyproj.CRS) -> pyproj.Transformer:
    try:
        return pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    except pyproj.exceptions.ProjError as error:
        raise RasterError(
            f"image {path} has CRS {crs.name!r}, which has no place on the earth ({error}); set it "
            "with gdal_edit.py -a_srs EPSG:CODE"
        ) from error


def _footprint(
    path: str, dataset: rasterio.DatasetReader, to_lonlat: pyproj.Transformer
) -> tuple[tuple[float, float], ...]:
    """The densified outline in degrees, without a jump at the antimeridian."""
    t = np.arange(_STEPS_PER_EDGE) / _STEPS_PER_EDGE
    zero, one = np.zeros(_STEPS_PER_EDGE), np.ones(_STEPS_PER_EDGE)
    cols = dataset.width * np.concatenate([zero, t, one, 1 - t, [0.0]])
    rows = dataset.height * np.concatenate([t, one, 1 - t, zero, [0.0]])
    lon, lat = (np.asarray(v) for v in to_lonlat.transform(*(dataset.transform @ (cols, rows))))
    middle = dataset.transform @ (dataset.width / 2, dataset.height / 2)
    lon0, lat0 = to_lonlat.transform(*middle)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all() and math.isfinite(lon0 + lat0)):
        raise RasterError(
            f"image {path} does not lie on the earth: its outline has no longitude and latitude in "
            "its CRS; check CRS and geotransform with gdalinfo"
        )
    try:
        check_latitudes(float(lat.min()), float(lat.max()), f"image {path}")
    except GridError as error:
        raise RasterError(str(error)) from error
    lon = unwrap_longitude(lon, float(unwrap_longitude(lon0, 0.0)))
    return tuple((float(x), float(y)) for x, y in zip(lon, lat, strict=True))


def _ground_gsd(
    dataset: rasterio.DatasetReader, to_lonlat: pyproj.Transformer
) -> tuple[float, float]:
    """Metres on the ground per column and per row at the centre, through the zone's UTM."""
    col, row = dataset.width / 2, dataset.height / 2
    cols, rows = (
        np.array([col - 0.5, col + 0.5, col, col]),
        np.array([row, row, row - 0.5, row + 0.5]),
    )
    lon, lat = to_lonlat.transform(*(dataset.transform @ (cols, rows)))
    zone = zone_of_longitude(float(lon[0]))
    x, y = zone_to_lonlat(zone).transform(lon, lat, direction="INVERSE")
    return math.hypot(x[1] - x[0], y[1] - y[0]), math.hypot(x[3] - x[2], y[3] - y[2])


def _x_period(crs: pyproj.CRS) -> float:
    """How much x grows in a turn around the earth, for CRSs in which x is a longitude."""
    if crs.is_geographic:
        return 2.0 * math.pi / crs.axis_info[0].unit_conversion_factor
    method = (crs.coordinate_operation.method_name if crs.coordinate_operation else "").lower()
    is_cylindrical = "cylindrical" in method or "mercator" in method
    if not is_cylindrical or any(word in method for word in ("transverse", "oblique", "cassini")):
        return 0.0
    geographic = crs.geodetic_crs
    to_crs = pyproj.Transformer.from_crs(geographic, crs, always_xy=True)
    x, _ = to_crs.transform([0.0, 1.0], [0.0, 0.0])
    return abs(x[1] - x[0]) * 360.0


def _nodata(dataset: rasterio.DatasetReader, bands: tuple[int, ...]) -> float | None:
    value = dataset.nodatavals[bands[0] - 1]
    return None if value is None else float(value)


def _mask_kind(dataset: rasterio.DatasetReader, bands: tuple[int, ...]) -> str:
    flags = dataset.mask_flag_enums[bands[0] - 1]
    if MaskFlags.all_valid in flags:
        return "all_valid"
    if MaskFlags.alpha in flags:
        # A band that is asked for as data (infrared, tagged wrongly) is no alpha.
        tagged = {i + 1 for i, kind in enumerate(dataset.colorinterp) if kind == ColorInterp.alpha}
        return "all_valid" if tagged & set(bands) else "alpha"
    return "nodata" if MaskFlags.nodata in flags else "mask"


def _usable_overviews(
    path: str, dataset: rasterio.DatasetReader, bands: tuple[int, ...], *, is_alone: bool
) -> tuple[tuple[int, int], ...]:
    """Sizes of the overviews that tell validity as the image itself does."""
    num_overviews = min(len(dataset.overviews(band)) for band in bands)
    kind = _mask_kind(dataset, bands)
    sizes: list[tuple[int, int]] = []
    for index in range(num_overviews):
        with (
            gdal_env(path, is_alone=is_alone, is_kept=True),
            rasterio.open(to_gdal(path), overview_level=index) as overview,
        ):
            if _mask_kind(overview, bands) != kind:
                break
            sizes.append((overview.width, overview.height))
            is_last = index == num_overviews - 1
            if is_last and kind == "mask" and _lacks_mask(dataset, overview):
                logger.warning(
                    "image %s: its overviews lack the mask; reading full resolution (gdaladdo "
                    "again after the mask was added would be faster)",
                    redact(path),
                )
                return ()
    return tuple(sizes)


def _lacks_mask(dataset: rasterio.DatasetReader, overview: rasterio.DatasetReader) -> bool:
    """Whether an overview calls all pixels valid (GDAL's answer without a mask), wrongly."""
    if not overview.read_masks(1).all():
        return False
    windows = (window for _, window in dataset.block_windows(1))
    return any(not dataset.read_masks(1, window=window).all() for window in windows)


def _tagged_date(dataset: rasterio.DatasetReader) -> datetime.date | None:
    for namespace, tag in _DATE_TAGS:
        text = dataset.tags(ns=namespace).get(tag) if namespace else dataset.tags().get(tag)
        match = _DATE.match(text) if text else None
        if match is None:
            continue
        parts = [int(part) for part in match.groups() if part is not None]
        try:
            return datetime.date(*parts[:3])
        except ValueError:
            logger.info("image %s: tag %s = %r is no date", dataset.name, tag, text)
    return None
