"""The timer of ticks, without brokers."""

from __future__ import annotations

import asyncio

import pytest

from millstream.clock import SECOND, VirtualClock
from millstream.errors import LogClosedError
from millstream.log.kafka.ticker import Ticker

PLACE = ("telemetry", 0)


async def seconds_pass(clock: VirtualClock) -> None:
    for _ in range(10):
        await clock.advance(1.0)
        await asyncio.sleep(0)  # for what the timer has begun


async def test_nothing_ticks_any_more_when_members_leave_after_it_was_closed(caplog: pytest.LogCaptureFixture) -> None:
    clock, tries = VirtualClock(), list[list[tuple[str, int]]]()

    async def append(places: list[tuple[str, int]]) -> None:
        tries.append(places)
        raise LogClosedError("the log is closed")

    ticker = Ticker(clock, append)
    for member in ("one", "two"):
        ticker.ask(member, PLACE, clock.now() + SECOND)
    await ticker.close()
    ticker.forget("one")
    await seconds_pass(clock)
    assert tries == []
    assert caplog.messages == []


async def test_a_tick_that_fails_is_tried_again() -> None:
    clock, tries = VirtualClock(), list[list[tuple[str, int]]]()

    async def append(places: list[tuple[str, int]]) -> None:
        tries.append(places)
        if len(tries) == 1:
            raise LogClosedError("not now")

    ticker = Ticker(clock, append)
    ticker.ask("one", PLACE, clock.now() + SECOND)
    await seconds_pass(clock)
    assert tries == [[PLACE], [PLACE]]
    await ticker.close()
