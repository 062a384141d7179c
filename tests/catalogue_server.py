"""A real HTTP server on loopback: files by ranges, and a STAC API over the items of a folder.

It runs in a process of its own: rasterio holds the interpreter's lock while GDAL opens a URL, so
that a thread of the same process could not answer.

    FOLDER/items.json    the API's items (a list); {root} in them stands for the server's URL
    FOLDER/_fault        if present, the status that every request below its second line gets
    FOLDER/_log          the requests, one a line
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = 2
CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/collections",
]


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port until the block ends; gives the root's URL."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def fail_below(folder: Path, prefix: str, status: int) -> None:
    """From now on requests whose path begins so get this status; 0 for none."""
    (folder / "_fault").write_text(f"{status}\n{prefix}")


def requests(folder: Path) -> list[str]:
    """Method and path of every request so far."""
    log = folder / "_log"
    return log.read_text().splitlines() if log.exists() else []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: requests go to the log file."""

    def do_HEAD(self) -> None:
        self._answer(None)

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

    def _answer(self, body: dict[str, Any] | None) -> None:
        path = self.path.split("?")[0]
        with (self.folder / "_log").open("a") as file:
            file.write(f"{self.command} {path}\n")
        fault = self.folder / "_fault"
        status, prefix = fault.read_text().split("\n") if fault.exists() else ("0", "")
        if int(status) and path.startswith(prefix):
            self._send(int(status), b"out of order")
        elif path.rstrip("/") == "/stac":
            self._send_json(self._landing())
        elif path == "/stac/search":
            self._send_json(self._search(body or {}))
        else:
            self._send_file(self.folder / path.lstrip("/"))

    @property
    def root(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host}:{port}"

    def _landing(self) -> dict[str, Any]:
        links = [
            {"rel": "self", "href": f"{self.root}/stac"},
            {"rel": "root", "href": f"{self.root}/stac"},
            {
                "rel": "search",
                "href": f"{self.root}/stac/search",
                "method": "POST",
                "type": "application/geo+json",
            },
        ]
        return {
            "type": "Catalog",
            "id": "api",
            "description": "items of a folder",
            "stac_version": "1.0.0",
            "conformsTo": CONFORMS,
            "links": links,
        }

    def _search(self, body: dict[str, Any]) -> dict[str, Any]:
        text = (self.folder / "items.json").read_text().replace("{root}", self.root)
        items = [item for item in json.loads(text) if _matches(item, body)]
        start = int(body.get("token", 0))
        links = []
        if start + PAGE < len(items):
            following = {**body, "token": start + PAGE}
            href = f"{self.root}/stac/search"
            links = [{"rel": "next", "href": href, "method": "POST", "body": following}]
        page = items[start : start + PAGE]
        return {"type": "FeatureCollection", "features": page, "links": links}

    def _send_json(self, data: dict[str, Any]) -> None:
        self._send(200, json.dumps(data).encode(), "application/json")

    def _send_file(self, file: Path) -> None:
        if not file.is_file():
            self._send(404, b"not here")
            return
        data = file.read_bytes()
        asked = self.headers.get("Range", "")
        if not asked.startswith("bytes="):
            self._send(200, data)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
        if begin >= len(data):
            self._send(416, b"")
            return
        extra = {"Content-Range": f"bytes {begin}-{end}/{len(data)}"}
        self._send(206, data[begin : end + 1], **extra)

    def _send(self, status: int, data: bytes, kind: str = "", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Accept-Ranges", "bytes")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _matches(item: dict[str, Any], body: dict[str, Any]) -> bool:
    """What the STAC API says of `collections`, `datetime` and `bbox`."""
    if "collections" in body and item["collection"] not in body["collections"]:
        return False
    if "datetime" in body:
        first, last = body["datetime"].split("/")
        moment = item["properties"]["datetime"]
        if (first != ".." and moment < first) or (last != ".." and moment > last):
            return False
    if "bbox" in body:
        west, south, east, north = body["bbox"]
        box = item["bbox"]
        return box[0] <= east and box[2] >= west and box[1] <= north and box[3] >= south
    return True


if __name__ == "__main__":
    _Handler.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
