"""A real S3 service (moto's) on loopback, in a process of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

BUCKET = "roofs"


@contextlib.contextmanager
def serve_s3() -> Iterator[str]:
    """An S3 service with one bucket; yields its URL. It ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(port)
        request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield url
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def use_s3() -> Iterator[str]:
    """The service, with this process in the environment of a user of it; yields its URL."""
    with serve_s3() as url, pytest.MonkeyPatch.context() as patch:
        for name in without_aws(os.environ):
            patch.delenv(name)
        for name, value in s3_environment(url).items():
            patch.setenv(name, value)
        yield url


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("moto_server did not start")


def s3_environment(url: str) -> dict[str, str]:
    """What a user sets in the environment to work with the service."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "very-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def without_aws(environment: "os._Environ[str]") -> list[str]:
    """Names in the environment that would lead elsewhere."""
    return [name for name in environment if name.startswith("AWS_")]
