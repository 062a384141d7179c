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

# A colon that no port follows begins a password, which may hold slashes (AWS's keys do) and @.
_USER = re.compile(
    r'(?<=://)(?:(?!\[)[^\s/:@?"<>]*:(?!\d*(?:[/?#\s]|$))(?:[^\s?"<>]*@|[^\s"<>]*@[^\s"<>]*)'
    r'|[^\s/?#"<>]*@)'
)
_AUTHORIZATION = re.compile(
    r"""(authorization['"]?\s*[:=]\s*['"]?)(?:basic|bearer|digest|negotiate|token)(?:\s|%20|\+)+"""
    r"""[^\s&'"<>]+""",
    re.IGNORECASE,
)
_VALUE_END = r"""(?=[:;,.)'\]}]*(?:[\s"<>\\]|$))"""
_QUERY = re.compile(r'(?<=\?)([^\s"<>\\]*=[^\s"<>\\]*?)' + _VALUE_END)
"""A query of names and values, whatever stands before it: urllib3 tells paths without a host."""
_BARE_QUERY = re.compile(
    r'((?:[a-z][a-z0-9+.-]*://[^\n?"<>]*|\burl: ?/[^\s?"<>]*|/vsi[a-z0-9_]+[^\s?"<>]*)\?)'
    # In a pattern such as s3://b/tile_?.tif the sign stands for a letter.
    r"(?![\w?*/\[\]-]*\.(?:tiff?|jp2|vrt|img|png|jpe?g)\b)"
    r"""[^\s'"<>\\:;,.)=][^\s"<>\\=]*?""" + _VALUE_END,
    re.IGNORECASE,
)
"""A query that is one value, after a URL (which may hold blanks) or a server's path."""
_SHOWN_NAME = re.compile(r"[\w.~%:\[\]-]{1,64}")


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
    """A text without what URLs in it may keep secret: users, passwords and values of queries.

    Schemes may be missing or of any case. Names of a query's values stay, and so does text whose
    question marks are followed by a blank.
    """
    text = _AUTHORIZATION.sub(r"\1***", text)
    text = _USER.sub("***@", text)
    text = _QUERY.sub(lambda match: _without_values(match[1]), text)
    return _BARE_QUERY.sub(r"\1***", text)


def _without_values(query: str) -> str:
    names = [part.partition("=") for part in query.split("&")]
    return "&".join(
        f"{name}=***" if sign and _SHOWN_NAME.fullmatch(name) else "***" for name, sign, _ in names
    )
