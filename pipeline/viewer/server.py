"""The local server behind the page: it hands out what the page asks for and changes nothing."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from geo.errors import EveryroofError
from geo.footprint_index import View
from pipeline.viewer.page import page_files, served_page
from pipeline.viewer.records import find_row, footprint_record, tile_record
from pipeline.viewer.scene import Scene, describe
from pipeline.viewer.vector_tiles import (
    MAX_ZOOM,
    MIN_ZOOM,
    density_tile,
    outline_min_zoom,
)

NUM_THREADS = 6
"""Requests worked on at once, so that memory stays bounded."""
NUM_PORTS = 20
"""Ports tried from the wanted one on."""
_MAX_IMAGE_ZOOM = 22
_VECTOR_TILE = "application/vnd.mapbox-vector-tile"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_app(scene: Scene, host: str = "127.0.0.1") -> Starlette:
    """The application; it fills the scene's index from start to shutdown.

    Args:
        scene: what to show.
        host: address that it will be bound to: only requests that name it, or loopback, are
            answered, so that no page from elsewhere can read the data by a name that points here.

    Raises:
        PageError: if the page's files are not installed.
    """
    endpoints = _Endpoints(scene)
    routes = [
        Route("/", endpoints.page),
        Route("/page/{name}", endpoints.file),
        Route("/api/progress", endpoints.progress),
        Route("/api/summary", endpoints.summary),
        Route("/api/find", endpoints.find),
        Route("/api/footprint/{row:int}", endpoints.footprint),
        Route("/api/ledger/{row:int}", endpoints.ledger_row),
        Route("/tiles/footprints/{z:int}/{x:int}/{y:int}", endpoints.footprints),
        Route("/tiles/density/{z:int}/{x:int}/{y:int}", endpoints.density),
        Route("/tiles/ledger/{z:int}/{x:int}/{y:int}", endpoints.ledger),
        Route("/tiles/images/{z:int}/{x:int}/{y:int}", endpoints.image),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = NUM_THREADS
        with scene.builder:
            yield

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[
            Middleware(
                TrustedHostMiddleware, allowed_hosts=allowed_hosts(host), www_redirect=False
            ),
            Middleware(_HeaderMiddleware),
        ],
        exception_handlers={EveryroofError: _explain, ValueError: _refuse, IndexError: _refuse},
    )


def allowed_hosts(host: str) -> list[str]:
    """Names that a request may call the server by; any where it listens on all addresses."""
    try:
        if ipaddress.ip_address(host).is_unspecified:
            return ["*"]
    except ValueError:
        pass
    return sorted({host, "127.0.0.1", "localhost", "::1", "[::1]"})


def bind(host: str, port: int) -> socket.socket:
    """A listening socket on the wanted port, or the next that is free.

    Args:
        host: name or address of this machine.
        port: wanted port; 0: any.

    Raises:
        OSError: if the host is not this machine's, or none of `NUM_PORTS` ports is free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for attempt in range(NUM_PORTS):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port + attempt))
            listener.listen(128)
        except OSError as error:
            listener.close()
            is_taken = isinstance(error, PermissionError) or error.errno == 98
            if not is_taken or attempt == NUM_PORTS - 1 or port + attempt >= 65535:
                raise
        else:
            return listener
    raise AssertionError("the last attempt raises")


def serve(scene: Scene, listener: socket.socket, host: str, on_start: Callable[[], None]) -> None:
    """Answer until the process is interrupted.

    Args:
        scene: what to show.
        listener: socket to answer on.
        host: address that it is bound to.
        on_start: called when requests are answered.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_start()

    config = uvicorn.Config(
        make_app(scene, host),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    Server(config).run(sockets=[listener])


class _HeaderMiddleware:
    """Adds the headers that every answer has."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self._app(scope, receive, with_headers)


class _Endpoints:
    """What each address answers; plain methods run in threads."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._files = page_files()
        self._description = describe(scene)

    def page(self, request: Request) -> Response:
        html, policy = served_page(self._description)
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    def file(self, request: Request) -> Response:
        file = self._files.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404, "no such file")
        return Response(file.content, media_type=file.media_type)

    async def progress(self, request: Request) -> Response:
        builder = self._scene.builder
        return JSONResponse(
            {
                "num_ready": builder.index.num_ready,
                "num_all": len(builder.index),
                "problem": builder.problem,
            }
        )

    def summary(self, request: Request) -> Response:
        names = ("west", "south", "east", "north", "min_confidence", "min_area_m2")
        view = View(**{name: _number(request, name) for name in names})
        found = self._scene.builder.index.summarise(view)
        return JSONResponse(
            {
                "num_all": found.num_all,
                "num_kept": found.num_kept,
                "area_kept_m2": found.area_kept_m2,
                "sizes_all": found.sizes_all.tolist(),
                "sizes_kept": found.sizes_kept.tolist(),
                "is_complete": found.num_ready == len(self._scene.builder.index),
            }
        )

    async def find(self, request: Request) -> Response:
        await self._wait_for_index()
        return await run_in_threadpool(self._find, request.query_params.get("id", ""))

    def _find(self, footprint_id: str) -> Response:
        row = find_row(self._scene.groups, self._scene.builder.index, footprint_id)
        if row is None:
            raise HTTPException(404, "no building has this id")
        return JSONResponse(footprint_record(self._scene.groups, row))

    def footprint(self, request: Request) -> Response:
        return JSONResponse(footprint_record(self._scene.groups, request.path_params["row"]))

    def ledger_row(self, request: Request) -> Response:
        if self._scene.ledger_groups is None:
            raise HTTPException(404, "there is no ledger")
        return JSONResponse(tile_record(self._scene.ledger_groups, request.path_params["row"]))

    def footprints(self, request: Request) -> Response:
        z, x, y = _tile(request, MAX_ZOOM)
        first = outline_min_zoom(self._scene.groups.num_rows)
        if z < first:
            raise HTTPException(404, f"outlines begin at zoom {first}")
        return _vector_tile(self._scene.footprints.tile(z, x, y))

    async def density(self, request: Request) -> Response:
        tile = _tile(request, MIN_ZOOM)
        limits = _number(request, "min_confidence"), _number(request, "min_area_m2")
        await self._wait_for_index()
        index = self._scene.builder.index
        return _vector_tile(await run_in_threadpool(density_tile, index, *tile, *limits))

    def ledger(self, request: Request) -> Response:
        if self._scene.ledger is None:
            raise HTTPException(404, "there is no ledger")
        return _vector_tile(self._scene.ledger.tile(*_tile(request, MAX_ZOOM)))

    def image(self, request: Request) -> Response:
        picture = self._scene.imagery.tile(*_tile(request, _MAX_IMAGE_ZOOM))
        if picture is None:
            return Response(status_code=204)
        return Response(picture.content, media_type=picture.media_type)

    async def _wait_for_index(self) -> None:
        """Wait without holding one of the few threads."""
        while not self._scene.builder.wait(0):
            await asyncio.sleep(0.02)


def _vector_tile(content: bytes) -> Response:
    if not content:
        return Response(status_code=204)
    return Response(content, media_type=_VECTOR_TILE)


def _tile(request: Request, max_zoom: int) -> tuple[int, int, int]:
    z, x, y = (int(request.path_params[name]) for name in "zxy")
    if z > max_zoom or max(x, y) >= 2**z:
        raise HTTPException(404, f"there is no tile {z}/{x}/{y}")
    return z, x, y


def _number(request: Request, name: str) -> float:
    text = request.query_params.get(name, "")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} = {text!r}; expected a number") from None


async def _explain(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=500)


async def _refuse(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)
