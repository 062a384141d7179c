"""The page: index.html filled in, with its files beside it on a server or inside of it."""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import jinja2

from geo.errors import EveryroofError

MODULES = (
    "view",
    "map",
    "panel",
    "details",
    "search",
    "swipe",
    "coordinates",
    "pluscodes",
    "words",
    "served",
    "inlined",
)
"""The page's modules; one imports another as everyroof/NAME, which the import map resolves."""
_MAPLIBRE = {"maplibre-gl.js": "text/javascript", "maplibre-gl.css": "text/css"}
_TYPES = {"js": "text/javascript", "css": "text/css"}


class PageError(EveryroofError):
    """The page cannot be put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """A file of the page.

    Attributes:
        content: the bytes.
        media_type: what it is.
    """

    content: bytes
    media_type: str


def page_files() -> dict[str, PageFile]:
    """Every file that the served page may ask for, by the name that it asks for.

    Raises:
        PageError: if the package `maplibre` is not installed.
    """
    files = {
        name: PageFile(content=_own(name).encode(), media_type=_TYPES[name.rpartition(".")[2]])
        for name in ("view.css", *(f"{module}.js" for module in MODULES))
    }
    for name, media_type in _MAPLIBRE.items():
        files[name] = PageFile(content=_of_maplibre(name).encode(), media_type=media_type)
    return files


def served_page(description: Mapping[str, Any]) -> tuple[str, str]:
    """The page for the server, and the Content-Security-Policy to send with it.

    The policy names no other host: the browser itself refuses to leave the server.
    """
    nonce = secrets.token_urlsafe(16)
    html = _template().render(
        description={**description, "source": "served"},
        imports={f"everyroof/{name}": f"./page/{name}.js" for name in MODULES},
        nonce=nonce,
        inlined=None,
    )
    policy = (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; worker-src blob:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy


def inlined_page(description: Mapping[str, Any], data: Mapping[str, bytes]) -> str:
    """The page as one file that needs nothing else.

    Args:
        description: what the page has to know before it draws.
        data: by name, what the page reads from within itself.

    Raises:
        PageError: if the package `maplibre` is not installed.
    """
    return _template().render(
        description={**description, "source": "inlined"},
        imports={f"everyroof/{name}": _as_url(_own(f"{name}.js")) for name in MODULES},
        nonce="",
        inlined={
            "maplibre_js": _for_script(_of_maplibre("maplibre-gl.js")),
            "maplibre_css": _of_maplibre("maplibre-gl.css").replace("</style", "<\\/style"),
            "css": _own("view.css"),
            "data": {name: base64.b64encode(block).decode() for name, block in data.items()},
        },
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html")


def _own(name: str) -> str:
    return resources.files("pipeline").joinpath("page", name).read_text(encoding="utf-8")


def _of_maplibre(name: str) -> str:
    """A file of MapLibre out of the installed package, which is not imported for it."""
    try:
        place = distribution("maplibre").locate_file(f"maplibre/srcjs/{name}")
        with open(str(place), encoding="utf-8") as file:
            return file.read()
    except (PackageNotFoundError, OSError) as error:
        raise PageError(
            f"the Python package maplibre, which holds {name}, is not installed ({error}); "
            "pip install maplibre"
        ) from error


def _for_script(text: str) -> str:
    """JavaScript that cannot end the element it stands in."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _as_url(text: str) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"


def json_bytes(value: Any) -> bytes:
    """JSON without spaces; NaN and infinity are refused."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
