"""GDAL's settings and its reasons: the same for every place that opens a raster."""

import os

import rasterio
import rasterio._env
from rasterio.session import DummySession

from geo.object_path import gdal_s3_options
from geo.remote_names import is_remote as is_remote
from geo.remote_names import redact

CACHE_BYTES = 64 << 20
"""Of decoded blocks, for all datasets of the process. rasterio hands GDAL_CACHEMAX on as bytes,
whereas GDAL's own variable counts megabytes."""
READER_CACHE_BYTES = 32 << 20
"""For each of several threads that read: a row of blocks of a large tile, decoded once."""

_num_readers = 1

_REMOTE_DEFAULTS = {
    # One listing per image is wasted on object stores; sidecars (.ovr, .msk) are still probed.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    # The head of most COGs at once, instead of 16 KiB and then the rest.
    "GDAL_INGESTED_BYTES_AT_OPEN": str(64 << 10),
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    # Each request by itself; `ImageReader` opens the image again when that was not enough.
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    # What was kept of a file is forgotten with the last open dataset of it: a file that changed is
    # then seen, and an answer of a server in trouble is not believed for ever.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/:/vsiadls/:/vsioss/:/vsiswift/",
    "CPL_VSIL_NETWORK_STATS_ENABLED": "YES",
}

# What may lie beside a GeoTIFF: overviews, mask, statistics, and Maxar's dates. GDAL would ask for
# fifty more names, one request each.
_TIFF_FAMILY = ".tif,.tiff,.ovr,.msk,.aux.xml,.imd"


def is_local_file(path: str) -> bool:
    """Whether a path should be a plain file on this machine (no URL, /vsi path or subdataset)."""
    if "://" in path or path.startswith("/vsi"):
        return False
    return os.path.exists(path) or ":" not in os.path.basename(path)


def share_cache(num_readers: int) -> None:
    """Make GDAL's cache large enough for threads that read images side by side.

    Its size is the process's, not a thread's: what one thread sets and takes back would change it
    under the others. So for several it is set here, once, and not for each read.

    Args:
        num_readers: threads of this process; the cache is never made smaller.
    """
    global _num_readers
    _num_readers = max(_num_readers, num_readers)
    if _num_readers > 1 and "GDAL_CACHEMAX" not in os.environ:
        num_bytes = max(CACHE_BYTES, _num_readers * READER_CACHE_BYTES)
        rasterio._env.set_gdal_config("GDAL_CACHEMAX", num_bytes)


def gdal_env(path: str, *, is_alone: bool = False, is_kept: bool = False) -> rasterio.Env:
    """GDAL's settings for reading one image; what stands in the environment wins.

    Args:
        path: the image; network settings apply to remote ones only.
        is_alone: the image is known to have no sidecars; none are asked for.
        is_kept: datasets opened within share what GDAL keeps of the file, and leave it there: for
            those that are closed before another dataset of the same file.
    """
    options: dict[str, str | int] = {"GDAL_CACHEMAX": CACHE_BYTES} if _num_readers == 1 else {}
    if is_remote(path):
        options |= _REMOTE_DEFAULTS
        options |= gdal_s3_options()
        if path.lower().endswith((".tif", ".tiff")):
            options["CPL_VSIL_CURL_ALLOWED_EXTENSIONS"] = _TIFF_FAMILY
        if is_kept:
            options["CPL_VSIL_CURL_NON_CACHED"] = ""
        if is_alone or "?" in path:
            options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    wanted = {key: value for key, value in options.items() if key not in os.environ}
    # GDAL finds credentials in the environment by itself.
    return rasterio.Env(session=DummySession(), **wanted)


def gdal_reason(error: BaseException) -> str:
    """What GDAL says, innermost cause first; rasterio's outer message often only points there.

    Secrets in URLs are left out.
    """
    reasons: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause).strip()
        if text and "See previous exception" not in text and text not in reasons:
            reasons.append(text)
        cause = cause.__cause__
    return redact("; ".join(reversed(reasons)) or type(error).__name__)
