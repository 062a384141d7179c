"""How an image's path is shown to people: GDAL opens more than names that fit into a line."""

import re

_SERVER_URL = re.compile(r"<ServerUrl>(.*?)</ServerUrl>", re.DOTALL)
_TILE_SERVICE = "<GDAL_WMS>"


def shown_path(path: str) -> str:
    """The path; of a tile service, which GDAL opens by an XML text, its URL template."""
    if not path.startswith(_TILE_SERVICE):
        return path
    match = _SERVER_URL.search(path)
    return match[1].replace("&amp;", "&").replace("${", "{") if match else "a tile service"
