"""Structured logs: whatever is logged is one line of JSON, from every process and library."""

from __future__ import annotations

import io
import json
import logging
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.support.millstream import millstream, running, until
from tests.support.spans import Spans, traceparent

from millstream.clock import VirtualClock
from millstream.runtime.logs import JsonFormatter

_ANY = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text() | some.binary() | some.builds(object),
    lambda inner: some.lists(inner) | some.dictionaries(some.text() | some.integers() | some.none(), inner),
)


def lines(log: Any) -> list[dict[str, Any]]:
    """What `log`, called with a logger, writes."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter("worker 2", VirtualClock()))
    logger = logging.Logger("plant.north")
    logger.addHandler(handler)
    log(logger)
    return [json.loads(line) for line in out.getvalue().split("\n")[:-1]]


def test_the_fields_of_a_line() -> None:
    (line,) = lines(lambda logger: logger.warning("%s is hot", "press-1", extra={"celsius": 91.5, "at": {"line": 2}}))
    assert line == {
        "time": "2026-01-01T00:00:00Z",
        "level": "warning",
        "logger": "plant.north",
        "process": "worker 2",
        "message": "press-1 is hot",
        "celsius": 91.5,
        "at": {"line": 2},
    }
    assert list(line)[:5] == ["time", "level", "logger", "process", "message"]


def test_an_exception_is_a_field() -> None:
    def log(logger: logging.Logger) -> None:
        try:
            raise LookupError("no\nsuch press")
        except LookupError:
            logger.exception("failed")

    (line,) = lines(log)
    assert (line["level"], line["message"]) == ("error", "failed")
    assert line["exception"].startswith("Traceback (most recent call last):")
    assert line["exception"].endswith("LookupError: no\nsuch press")


def test_a_field_does_not_stand_in_for_one_of_ours() -> None:
    (line,) = lines(lambda logger: logger.info("true", extra={"level": "false", "time": 0}))
    assert (line["level"], line["time"]) == ("info", "2026-01-01T00:00:00Z")


@given(some.text(), _ANY)
def test_anything_is_one_line_of_json(text: str, value: object) -> None:
    (line,) = lines(lambda logger: logger.info("%s", text, extra={"given": value}))
    assert line["message"] == text.encode(errors="backslashreplace").decode()
    assert "given" in line


def test_what_contains_itself_is_told_as_python_shows_it() -> None:
    loop: list[object] = []
    loop.append(loop)
    (line,) = lines(lambda logger: logger.info("x", extra={"loop": loop}))
    assert line["loop"] == "[[...]]"


def test_a_line_within_a_span_tells_which() -> None:
    spans = Spans()

    def log(logger: logging.Logger) -> None:
        with spans.tracer.start_as_current_span("s"):
            logger.info("inside")
        logger.info("outside")

    inside, outside = lines(log)
    assert traceparent(spans.one("s")).startswith(f"00-{inside['trace_id']}-{inside['span_id']}-")
    assert "trace_id" not in outside


PLANT = """
import logging, threading, warnings
from millstream.app import Retry
from millstream import App, Event

app = App("plant")


@app.on("site/a/door", retry=Retry(attempts=1))
def door(event: Event) -> None:
    logging.getLogger("plant").info("the door", extra={"device": "door-1"})
    warnings.warn("hinges squeak")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    raise LookupError("no such door")
"""


@pytest.mark.parametrize("way", ["option", "setting"])
def test_every_line_of_every_process_is_json(tmp_path: Path, way: str) -> None:
    plant = tmp_path / "plant.py"
    plant.write_text(PLANT)
    given = ["--log-format", "json"] if way == "option" else []
    if way == "setting":
        (tmp_path / "millstream.toml").write_text('[logging]\nformat = "json"\n')
    with running(tmp_path / "data", str(plant), *given, cwd=tmp_path) as run:
        run.publish("site/a/door", "1")
        until(lambda: "no such door" in run.logs(), what="the failure")
        assert run.stop(signal.SIGTERM)[0] == 0
        told = [json.loads(line) for line in run.logs().splitlines()]
    assert {line["process"] for line in told} == {"supervisor", "server", "worker"}
    by_message = {line["message"].partition("\n")[0]: line for line in told}
    assert by_message["the door"]["device"] == "door-1"
    assert any("hinges squeak" in message for message in by_message)
    assert "ZeroDivisionError" in by_message["an error that nobody caught"]["exception"]
    assert any("no such door" in line.get("exception", "") for line in told)


def test_a_wrong_format_is_told() -> None:
    told = millstream("run", MILLSTREAM_LOGGING__FORMAT="yaml")
    assert told.returncode == 2
    assert "'logging.format'" in told.stderr
    assert millstream("run", "--log-format", "yaml").returncode == 2


def test_lines_for_people_are_as_they_were(tmp_path: Path) -> None:
    with running(tmp_path / "data") as run:
        assert " WARNING server: anybody may connect" in run.logs()
