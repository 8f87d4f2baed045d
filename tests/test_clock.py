"""Instants, and the clock that tests move."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.clock import SECOND, SystemClock, VirtualClock, to_datetime, to_micros, to_text


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=-30))])))
def test_instants_are_exact_to_the_microsecond(moment: datetime) -> None:
    assert to_datetime(to_micros(moment)) == moment


def test_an_instant_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        to_micros(datetime(2026, 1, 1))  # noqa: DTZ001


def test_instants_are_written_as_rfc_3339() -> None:
    start = to_micros(datetime(2026, 1, 1, tzinfo=UTC))
    assert to_text(start + 10 * SECOND) == "2026-01-01T00:00:10Z"
    assert to_text(start + 1) == "2026-01-01T00:00:00.000001Z"
    assert to_text(-1) == "1969-12-31T23:59:59.999999Z"


async def test_the_system_clock_goes_forward() -> None:
    clock = SystemClock()
    wall, monotonic = clock.now(), clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() - monotonic >= 0.001
    assert clock.now() > wall > to_micros(datetime(2024, 1, 1, tzinfo=UTC))


async def test_virtual_time_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock(start=5 * SECOND)
    assert (clock.now(), clock.monotonic()) == (5 * SECOND, 0)
    await clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (7_500_000, 2.5)


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock = VirtualClock()
    start = clock.now()
    woken: list[tuple[float, int]] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.now() - start))

    sleepers = [asyncio.ensure_future(sleep(seconds)) for seconds in (3, 1, 2, 10)]
    await asyncio.sleep(0)
    await clock.advance(5)
    assert woken == [(1, SECOND), (2, 2 * SECOND), (3, 3 * SECOND)]
    assert clock.now() - start == 5 * SECOND
    await clock.advance(5)
    assert woken[-1] == (10, 10 * SECOND)
    await asyncio.gather(*sleepers)


async def test_who_sleeps_again_is_woken_again_within_one_advance() -> None:
    clock = VirtualClock()
    times: list[float] = []

    async def every_second() -> None:
        while True:
            await clock.sleep(1)
            times.append(clock.monotonic())

    task = asyncio.ensure_future(every_second())
    await asyncio.sleep(0)
    await clock.advance(3.5)
    assert times == [1, 2, 3]
    task.cancel()
    await asyncio.wait([task])
    await clock.advance(10)
    assert times == [1, 2, 3]


@pytest.mark.parametrize("seconds", [0, -1.5])
async def test_no_time_has_passed_at_once(seconds: float) -> None:
    clock = VirtualClock()
    async with asyncio.timeout(20):
        await clock.sleep(seconds)
    assert clock.monotonic() == 0


async def test_next_due_is_that_of_the_first_who_still_sleeps() -> None:
    clock = VirtualClock()
    assert clock.next_due is None
    sleepers = [asyncio.create_task(clock.sleep(seconds)) for seconds in (3, 1, 2)]
    await asyncio.sleep(0)
    assert clock.next_due == clock.now() + 1 * SECOND
    sleepers[1].cancel()
    await asyncio.sleep(0)
    assert clock.next_due == clock.now() + 2 * SECOND
    await clock.advance(3)
    assert clock.next_due is None
