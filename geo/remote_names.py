"""Names of files that lie elsewhere: as a URL, as GDAL wants them, and as they may be shown."""

import re

_VSI_TO_URL = (
    ("/vsicurl/http://", "http://"),
    ("/vsicurl/https://", "https://"),
    ("/vsis3/", "s3://"),
    ("/vsigs/", "gs://"),
)
_URL_TO_VSI = (
    ("http://", "/vsicurl/http://"),
    ("https://", "/vsicurl/https://"),
    ("s3://", "/vsis3/"),
    ("gs://", "/vsigs/"),
    ("gcs://", "/vsigs/"),
)
_NETWORK = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift")

_USER = re.compile(r"(?<=://)[^/\s@'\"]+@")
_QUERY = re.compile(
    r"((?:https?|s3|gs)://[^\s?'\"<>]*)\?([^\s'\"<>\\]+?)(?=[:;,.)]*(?:[\s'\"<>\\]|$))"
)


def is_remote(path: str) -> bool:
    """Whether a path is read over the network (a URL, or one of GDAL's network file systems)."""
    is_url = "://" in path and not path.startswith(("file://", "zip://", "tar://"))
    return is_url or any(part in path for part in _NETWORK)


def to_url(path: str) -> str | None:
    """The URL of a file that is read over the network; None for other paths, archives included.

    Args:
        path: a URL, or one of GDAL's names such as /vsis3/BUCKET/KEY.
    """
    for prefix, scheme in _VSI_TO_URL:
        if path.startswith(prefix):
            return scheme + path.removeprefix(prefix)
    if path.startswith("gcs://"):
        return "gs://" + path.removeprefix("gcs://")
    return path if path.startswith(("http://", "https://", "s3://", "gs://")) else None


def to_gdal(path: str) -> str:
    """GDAL's own name of a file: rasterio would otherwise look for credentials by itself."""
    for scheme, prefix in _URL_TO_VSI:
        if path.startswith(scheme):
            return prefix + path.removeprefix(scheme)
    return path


def redact(text: str) -> str:
    """A text without what URLs in it may keep secret: users, passwords and values of queries."""
    text = _USER.sub("***@", text)
    return _QUERY.sub(lambda match: f"{match[1]}?{_without_values(match[2])}", text)


def _without_values(query: str) -> str:
    names = [part.partition("=") for part in query.split("&")]
    return "&".join(f"{name}=***" if sign else "***" for name, sign, _ in names)
