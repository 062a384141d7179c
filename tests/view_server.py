"""A real `everyroof view` on loopback, in a thread of the test."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from pipeline.viewer.scene import open_scene
from pipeline.viewer.server import bind, make_app


@contextlib.contextmanager
def serving(out: Path, images: Sequence[Path] = ()) -> Iterator[str]:
    """The address of a server of a result, as long as the context lasts."""
    scene = open_scene(str(out), [str(image) for image in images])
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        make_app(scene), log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert not thread.is_alive()
