"""What an operator reads when a handler fails, and how often."""

from __future__ import annotations

import logging

import pytest

from millstream.clock import VirtualClock
from millstream.errors import PayloadError
from millstream.worker.complaints import Complaints


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as raised:
        return raised


async def test_each_kind_of_failure_has_one_traceback_and_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    complaints = Complaints(clock, "plant.door")
    for number in range(5):
        complaints.failed(f"events:0:{number}", _raised(ValueError("boom")), "tried again in 1 s (try 1 of 5)")
    complaints.failed("events:0:9", _raised(KeyError("celsius")), "kept in the dead letters")
    complaints.failed("events:0:10", PayloadError("the payload is no Reading"), "kept in the dead letters")
    await clock.advance(10)
    complaints.failed("events:0:11", _raised(ValueError("boom")), "tried again in 1 s (try 1 of 5)")
    assert [record.getMessage() for record in caplog.records] == [
        "plant.door failed at events:0:0, tried again in 1 s (try 1 of 5): ValueError: boom",
        "plant.door failed at events:0:9, kept in the dead letters: KeyError: 'celsius'",
        "plant.door failed at events:0:10, kept in the dead letters: PayloadError: the payload is no Reading",
        "plant.door failed at events:0:11, tried again in 1 s (try 1 of 5): ValueError: boom "
        "(and 4 times more since the last line about it)",
    ]
    assert [record.exc_info is not None for record in caplog.records] == [True, True, False, False]
    assert {record.name for record in caplog.records} == {"millstream.worker"}
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_memory_of_kinds_is_bounded() -> None:
    complaints = Complaints(VirtualClock(), "plant.door")
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(1_000)]
    for kind in kinds:
        complaints.failed("events:0:0", kind("x"), "given up")
    assert len(complaints._kinds) <= 100
