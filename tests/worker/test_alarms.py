"""Calling back when time has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from millstream.clock import VirtualClock
from millstream.worker.alarms import Alarms
from millstream.worker.tasks import cancel


@pytest.fixture
async def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def alarms(clock: VirtualClock) -> AsyncIterator[Alarms]:
    alarms = Alarms(clock)
    running = asyncio.ensure_future(alarms.run())
    await _settle()
    yield alarms
    await cancel([running])


async def _settle() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_alarms_go_off_in_the_order_of_their_times(alarms: Alarms, clock: VirtualClock) -> None:
    rung: list[str] = []
    alarms.after(3, lambda: rung.append("three"))
    alarms.after(1, lambda: rung.append("one"))
    alarms.after(1, lambda: rung.append("one again"))
    await _settle()
    assert rung == []
    await clock.advance(1)
    await _settle()
    assert rung == ["one", "one again"]
    await clock.advance(2)
    await _settle()
    assert rung == ["one", "one again", "three"]


async def test_sooner_alarm_does_not_wait_for_an_earlier_set_one(alarms: Alarms, clock: VirtualClock) -> None:
    rung: list[str] = []
    alarms.after(60, lambda: rung.append("late"))
    await _settle()
    alarms.after(0.1, lambda: rung.append("soon"))
    await _settle()
    await clock.advance(0.1)
    await _settle()
    assert rung == ["soon"]


async def test_alarm_may_set_another_one(alarms: Alarms, clock: VirtualClock) -> None:
    rung: list[str] = []
    alarms.after(0, lambda: alarms.after(0, lambda: rung.append("at once")))
    await _settle()
    assert rung == ["at once"]


async def test_cleared_alarms_do_not_go_off(alarms: Alarms, clock: VirtualClock) -> None:
    rung: list[str] = []
    alarms.after(1, lambda: rung.append("one"))
    alarms.clear()
    await clock.advance(2)
    await _settle()
    assert rung == []
