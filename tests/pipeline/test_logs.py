"""Log lines: each with its tile, as text or as JSON."""

import json
import logging
import queue
import threading

import pytest

from pipeline.logs import BEAM_HANDLER, JsonFormatter, LineFormatter, working_on
from pipeline.logs import configure_worker_logging as configure


def record(message: str, *values: object, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord("geo.rasters", logging.WARNING, "f", 1, message, values, info)


def test_json_line_has_time_level_logger_message_and_tile():
    with working_on("z36_r1_c2"):
        entry = json.loads(JsonFormatter().format(record("image %s: no mask", 'a "b"')))
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "WARNING",
        "logger": "geo.rasters",
        "message": 'image a "b": no mask',
        "tile": "z36_r1_c2",
    }


def test_json_line_outside_a_tile_names_none_and_keeps_tracebacks_in_one_line():
    line = JsonFormatter().format(record("bad", error=ValueError("x")))
    assert "\n" not in line
    assert "tile" not in json.loads(line)
    assert "ValueError: x" in json.loads(line)["traceback"]


SECRET_URL = "https://me:QQQQ@h/stac?subscription-key=QQQQ"


def failed_record(stack: str | None = None) -> logging.LogRecord:
    """A record with a real traceback, of an error that quotes a URL."""
    try:
        raise ValueError(f"no answer from {SECRET_URL}")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    text = f"no image {SECRET_URL}"
    return logging.LogRecord("geo", logging.ERROR, "f", 1, text, (), info, sinfo=stack)


@pytest.mark.parametrize("formatter", [JsonFormatter(), LineFormatter("%(message)s")])
def test_tracebacks_show_no_secrets(formatter):
    shown = formatter.format(failed_record(stack=f'Stack of open("{SECRET_URL}")'))
    assert "QQQQ" not in shown
    assert shown.count("https://***@h/stac?subscription-key=***") >= 2
    assert "ValueError" in shown
    cached = failed_record()
    logging.Formatter().format(cached)
    assert "QQQQ" in cached.exc_text
    assert "QQQQ" not in formatter.format(cached)


@pytest.mark.parametrize("is_json", [True, False])
def test_a_worker_sends_no_secrets_to_its_engine(is_json, monkeypatch):
    """Beam's handler writes the traceback by itself, beside what its formatter gives."""
    from apache_beam.runners.worker import log_handler

    monkeypatch.setenv("EVERYROOF_LOG", "json" if is_json else "")
    handler = log_handler.FnApiLogRecordHandler.__new__(log_handler.FnApiLogRecordHandler)
    logging.Handler.__init__(handler)
    handler._log_entry_queue = queue.Queue()
    logging.getLogger().addHandler(handler)
    try:
        configure()
        handler.handle(failed_record())
    finally:
        logging.getLogger().removeHandler(handler)
    entry = handler._log_entry_queue.get_nowait()
    assert "QQQQ" not in str(entry)
    assert "ValueError: no answer from https://***@h/stac" in entry.message


def test_text_line_names_the_tile_once():
    plain = LineFormatter("%(message)s")
    with working_on("z36_r1_c2"):
        assert plain.format(record("no mask")) == "tile z36_r1_c2: no mask"
        assert plain.format(record("tile %s failed", "z36_r1_c2")) == "tile z36_r1_c2 failed"
    assert plain.format(record("no mask")) == "no mask"


def test_threads_have_tiles_of_their_own():
    seen = {}
    barrier = threading.Barrier(2)

    def work(tile: str) -> None:
        with working_on(tile):
            barrier.wait(10)
            seen[tile] = LineFormatter("%(message)s").format(record("x"))

    threads = [threading.Thread(target=work, args=(tile,)) for tile in ("a1", "b2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"a1": "tile a1: x", "b2": "tile b2: x"}


@pytest.mark.parametrize("is_beam", [True, False])
def test_only_the_handler_of_beam_is_shaped_on_a_worker(is_beam, monkeypatch):
    monkeypatch.setenv("EVERYROOF_LOG", "json")
    name = BEAM_HANDLER if is_beam else "SomeHandler"
    handler = type(name, (logging.Handler,), {})()
    logging.getLogger().addHandler(handler)
    try:
        configure()
    finally:
        logging.getLogger().removeHandler(handler)
    assert isinstance(handler.formatter, JsonFormatter) == is_beam


def test_the_name_of_beams_handler_is_still_the_same():
    from apache_beam.runners.worker import log_handler

    assert hasattr(log_handler, BEAM_HANDLER)
