"""GDAL's settings and its reasons: the same for every place that opens a raster."""

import os

import rasterio

CACHE_MB = 64

_REMOTE_DEFAULTS = {
    # One listing per image is wasted on object stores; sidecars (.ovr, .msk) are still probed.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": str(16 << 20),
}


def is_remote(path: str) -> bool:
    """Whether a path is read over the network (a URL, or one of GDAL's network file systems)."""
    network = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift")
    is_url = "://" in path and not path.startswith(("file://", "zip://", "tar://"))
    return is_url or any(part in path for part in network)


def is_local_file(path: str) -> bool:
    """Whether a path should be a plain file on this machine (no URL, /vsi path or subdataset)."""
    if "://" in path or path.startswith("/vsi"):
        return False
    return os.path.exists(path) or ":" not in os.path.basename(path)


def gdal_env(path: str) -> rasterio.Env:
    """GDAL's settings for reading one image; what stands in the environment wins.

    Args:
        path: the image; network settings apply to remote ones only.
    """
    options: dict[str, str | int] = {"GDAL_CACHEMAX": CACHE_MB}
    if is_remote(path):
        options |= _REMOTE_DEFAULTS
    return rasterio.Env(**{key: value for key, value in options.items() if key not in os.environ})


def gdal_reason(error: BaseException) -> str:
    """What GDAL says, innermost cause first; rasterio's outer message often only points there."""
    reasons: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause).strip()
        if text and "See previous exception" not in text and text not in reasons:
            reasons.append(text)
        cause = cause.__cause__
    return "; ".join(reversed(reasons)) or type(error).__name__
