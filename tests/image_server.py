"""A real HTTP server on loopback that serves files by ranges and misbehaves when it is told to.

It runs in a process of its own: rasterio holds the interpreter's lock while GDAL waits for a
server, which a thread of the same process could then never be.
"""

import contextlib
import dataclasses
import email.utils
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for and answered; `connection` is the client's port."""

    method: str
    path: str
    range: str
    status: int
    num_bytes: int
    connection: int


class ImageServer:
    """Controls a server: its faults, and what it was asked.

    Attributes:
        url: root of the server, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def misbehave(self, fault: str, *, times: int = -1, after: int = 0, path: str = "") -> None:
        """Answer GETs wrongly from now on.

        Args:
            fault: a status such as "503", "stall" or "cut" (after half of the body), "" for none.
            times: how often; -1: always.
            after: good answers before.
            path: only for this file's path, such as "/town.tif".
        """
        plan = {"fault": fault, "times": times, "after": after, "path": path}
        request = urllib.request.Request(f"{self.url}/_fault", json.dumps(plan).encode())
        urllib.request.urlopen(request, timeout=10).close()

    def change_after(self, num_requests: int, path: str, other: Path) -> None:
        """Put another file in a file's place once this many more GETs were answered."""
        plan = {"fault": "change", "times": 1, "after": num_requests, "path": path}
        data = json.dumps({**plan, "other": str(other)}).encode()
        urllib.request.urlopen(f"{self.url}/_fault", data, timeout=10).close()

    def lie_in_region(self, region: str) -> None:
        """Answer as S3 does where a request is not signed for the bucket's region."""
        self.misbehave(f"region {region}")

    def requests(self, path: str = "") -> list[Request]:
        """What was asked so far, for one file or all."""
        with urllib.request.urlopen(f"{self.url}/_requests", timeout=10) as answer:
            listed = [Request(**entry) for entry in json.load(answer)]
        return [request for request in listed if path in ("", request.path)]


@contextlib.contextmanager
def serve_images(folder: Path, *, has_etag: bool = True) -> Iterator[ImageServer]:
    """Serve a folder on a free port of loopback until the block ends."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder), str(int(has_etag))],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield ImageServer(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, and the two paths that control it."""

    protocol_version = "HTTP/1.1"
    folder: Path
    has_etag: bool
    plan: ClassVar[dict[str, Any]] = {"fault": ""}
    log: ClassVar[list[dict[str, Any]]] = []
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).plan = json.loads(body)
        self._send(200, b"")

    def do_GET(self) -> None:
        if self.path == "/_requests":
            self._send(200, json.dumps(self.log).encode())
            return
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the requests are recorded."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        file = self.folder / path.lstrip("/")
        if self._is_elsewhere(path):
            return
        fault = self._fault(path)
        if fault == "change":
            # As a careful publisher would: the new file appears at once.
            os.replace(self.plan["other"], file)
        if fault.isdigit() or not file.is_file():
            status = int(fault) if fault.isdigit() else 404
            self._record(path, status, 0)
            self._send(status, b"")
            return
        self._send_file(path, file, fault)

    def _is_elsewhere(self, path: str) -> bool:
        kind, _, region = self.plan["fault"].partition(" ")
        if kind != "region" or f"/{region}/s3/" in self.headers.get("Authorization", ""):
            return False
        code = f"<Code>AuthorizationHeaderMalformed</Code><Region>{region}</Region>"
        body = f"<?xml version='1.0'?><Error>{code}</Error>".encode()
        status = 301 if self.command == "HEAD" else 400
        self._record(path, status, len(body))
        self._send(status, body, **{"x-amz-bucket-region": region})
        return True

    def _fault(self, path: str) -> str:
        with self.lock:
            plan = self.plan
            if (
                not plan["fault"]
                or plan["fault"].startswith("region")
                or self.command != "GET"
                or plan["path"] not in ("", path)
            ):
                return ""
            if plan["after"] > 0:
                plan["after"] -= 1
                return ""
            if plan["times"] == 0:
                return ""
            plan["times"] -= 1
            return plan["fault"]

    def _send_file(self, path: str, file: Path, fault: str) -> None:
        data, modified = file.read_bytes(), file.stat().st_mtime
        header = self.headers.get("Range", "")
        first, last = _range(header, len(data))
        part = data[first : last + 1]
        self._record(path, 206 if header else 200, len(part))
        extra = {"Last-Modified": email.utils.formatdate(modified, usegmt=True)}
        if self.has_etag:
            extra["ETag"] = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        if header:
            extra["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._send(206 if header else 200, part, fault, **extra)

    def _record(self, path: str, status: int, num_bytes: int) -> None:
        entry = Request(
            method=self.command,
            path=path,
            range=self.headers.get("Range", ""),
            status=status,
            num_bytes=num_bytes if self.command == "GET" else 0,
            connection=self.client_address[1],
        )
        self.log.append(dataclasses.asdict(entry))

    def _send(self, status: int, body: bytes, fault: str = "", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        with contextlib.suppress(OSError):
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault in ("stall", "cut"):
                self._send_half(body, fault)
                return
            self.wfile.write(body)

    def _send_half(self, body: bytes, fault: str) -> None:
        self.close_connection = True
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        if fault == "stall":
            # Until the client gives up.
            self.connection.recv(1)
        self.connection.shutdown(socket.SHUT_RDWR)


def _range(header: str, size: int) -> tuple[int, int]:
    """First and last byte of a header such as `bytes=0-99`."""
    if not header:
        return 0, size - 1
    first, _, last = header.removeprefix("bytes=").partition("-")
    return int(first), min(int(last) if last else size - 1, size - 1)


def _serve(folder: str, has_etag: str) -> None:
    _Handler.folder, _Handler.has_etag = Path(folder), has_etag == "1"
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    # Clients keep connections open: nobody waits for the threads behind them.
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
