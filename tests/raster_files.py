"""Small rasters for tests, written with GDAL as users' files are."""

import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import Resampling


def write_raster(
    path: pathlib.Path,
    bands: npt.NDArray[Any],
    crs: str | None,
    transform: Affine | None,
    *,
    overviews: tuple[int, ...] = (),
    mask: npt.NDArray[np.uint8] | None = None,
    tags: dict[str, str] | None = None,
    colorinterp: tuple[Any, ...] | None = None,
    **options: Any,
) -> str:
    """Write bands of shape (bands, height, width); returns the path as text."""
    profile = {
        "driver": "GTiff",
        "count": bands.shape[0],
        "height": bands.shape[1],
        "width": bands.shape[2],
        "dtype": bands.dtype,
    } | options
    if profile["driver"] == "GTiff":
        profile = {"tiled": True, "blockxsize": 64, "blockysize": 64} | profile
    if crs is not None:
        profile["crs"] = crs
    if transform is not None:
        profile["transform"] = transform
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(bands)
            if colorinterp is not None:
                dataset.colorinterp = colorinterp
            if mask is not None:
                dataset.write_mask(mask)
            if tags is not None:
                dataset.update_tags(**tags)
        if overviews:
            with rasterio.open(path, "r+") as dataset:
                dataset.build_overviews(overviews, Resampling.average)
    return str(path)


def textured(num_bands: int, height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth and rough texture between 20 and 235, so that nothing looks like fill."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:height, 0:width]
    smooth = 127 + 60 * np.sin(cols / 9.0) * np.cos(rows / 13.0)
    rough = rng.integers(-45, 46, (num_bands, height, width))
    return np.clip(smooth + rough, 20, 235).astype(np.uint8)


# (CRS, transform) of images of about 0.3 m around one place each; the corner lies at the origin.
PLACES: dict[str, tuple[str, Affine]] = {
    "utm": ("EPSG:32636", Affine(0.3, 0, 454788.21, 0, -0.3, 38858.95)),
    "utm_south": ("EPSG:32737", Affine(0.3, 0, 682748.01, 0, -0.3, 8388026.4)),
    "web_mercator": ("EPSG:3857", Affine(0.34, 0, 9519391.06, 0, -0.34, 3203475.85)),
    "lonlat": ("EPSG:4326", Affine(3e-6, 0, 32.59, 0, -2.7e-6, 40.35)),
    "south_up": ("EPSG:32636", Affine(0.3, 0, 454788.21, 0, 0.3, 38858.95)),
    "rotated": (
        "EPSG:32636",
        Affine.translation(454788.21, 38858.95) @ Affine.rotation(27) @ Affine.scale(0.31, -0.29),
    ),
    "zone_edge": ("EPSG:32636", Affine(0.3, 0, 166007.0, 0, -0.3, 40000.0)),
    "antimeridian_lonlat": ("EPSG:4326", Affine(3e-6, 0, 179.99965, 0, -2.7e-6, -16.5)),
    "antimeridian_mercator": ("EPSG:3857", Affine(0.31, 0, 20037470.0, 0, -0.31, -1861285.0)),
}
