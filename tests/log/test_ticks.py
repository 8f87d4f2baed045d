"""Ticks: records that carry nothing but the time, where somebody asked for them."""

from __future__ import annotations

import asyncio

import pytest
from tests.log.conftest import AnotherLog
from tests.support.records import LIMIT, WAIT, append, everything, gain, offsets, payloads, poll_events

from millstream.clock import SECOND, VirtualClock
from millstream.event import Tick
from millstream.log import EARLIEST, Group, Log, Position, StreamSpec


@pytest.fixture
async def group(log: Log) -> Group:
    await log.create(StreamSpec("a", partitions=2))
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    return group


async def ask(group: Group, partition: int, at: int | None) -> None:
    transaction = group.transaction()
    transaction.due("a", partition, at)
    await transaction.commit()


async def ticks(log: Log, partition: int) -> list[Tick]:
    return [tick async for batch in everything(log, "a", partition) for tick in batch.ticks]


async def test_a_tick_comes_when_it_is_due(log: Log, group: Group, clock: VirtualClock) -> None:
    start = clock.now()
    await ask(group, 1, start + 10 * SECOND)
    await clock.advance(9.9)
    assert (await log.bounds("a", 1)).next == 0
    polling = asyncio.ensure_future(group.poll(LIMIT))
    await clock.advance(0.1)
    (batch,) = (await asyncio.wait_for(polling, WAIT)).batches
    assert (batch.stream, batch.partition, len(batch), batch.next_offset) == ("a", 1, 0, 1)
    assert batch.ticks == (Tick(0, start + 10 * SECOND),)


async def test_a_tick_stands_between_the_events(log: Log, group: Group, clock: VirtualClock) -> None:
    await append(log, "a", 0, "before")
    await ask(group, 0, clock.now() + SECOND)
    waiting = asyncio.ensure_future(log.read("a", 0, (await log.bounds("a", 0)).next, wait=None))
    await clock.advance(1)
    await asyncio.wait_for(waiting, WAIT)
    await append(log, "a", 0, "after")
    batches = [batch async for batch in everything(log, "a", 0)]
    before, after = await offsets(log, "a")
    (tick,) = (tick for batch in batches for tick in batch.ticks)
    assert before < tick.offset < after
    assert payloads([await log.read("a", 0, tick.offset)]) == ["after"]
    bounds = await log.bounds("a", 0)
    assert bounds.next > after
    assert 2 <= bounds.events <= bounds.next
    seen, next_offset = [], 0
    while next_offset <= after:
        (batch,) = (await poll_events(group)).batches
        seen += [*batch.events.column("offset").to_pylist(), *(tick.offset for tick in batch.ticks)]
        next_offset = batch.next_offset
    assert sorted(seen) == [before, tick.offset, after]


async def test_dues_are_rounded_up_to_share_a_tick(log: Log, group: Group, clock: VirtualClock) -> None:
    other = await log.join("h", ["a"])
    await gain(other)
    start = clock.now()
    await ask(group, 0, start + SECOND + 1)
    await ask(other, 0, start + SECOND + 700_000)
    waiting = asyncio.ensure_future(log.read("a", 0, 0, wait=None))
    await clock.advance(1.9)
    assert not waiting.done()
    await clock.advance(0.1)
    assert (await asyncio.wait_for(waiting, WAIT)).ticks == (Tick(0, start + 2 * SECOND),)
    await clock.advance(100)
    await append(log, "a", 1, "settled")
    assert len(await ticks(log, 0)) == 1


async def test_the_last_asked_for_counts(log: Log, group: Group, clock: VirtualClock) -> None:
    start = clock.now()
    await ask(group, 0, start + 5 * SECOND)
    await ask(group, 0, start + 20 * SECOND)
    await ask(group, 1, start + 5 * SECOND)
    await ask(group, 1, None)
    waiting = asyncio.ensure_future(log.read("a", 0, 0, wait=None))
    await clock.advance(19)
    assert not waiting.done()
    await clock.advance(1)
    assert (await asyncio.wait_for(waiting, WAIT)).ticks == (Tick(0, start + 20 * SECOND),)
    assert await ticks(log, 1) == []


async def test_what_is_due_already_ticks_at_once(log: Log, group: Group, clock: VirtualClock) -> None:
    waiting = asyncio.ensure_future(log.read("a", 0, 0, wait=None))
    await ask(group, 0, clock.now() - 100 * SECOND)
    assert len((await asyncio.wait_for(waiting, WAIT)).ticks) == 1


async def test_a_group_that_has_read_all_has_no_lag(log: Log, group: Group, clock: VirtualClock) -> None:
    await append(log, "a", 0, "x", "y")
    await ask(group, 0, clock.now() + SECOND)
    end = (await log.bounds("a", 0)).next
    waiting = asyncio.ensure_future(log.read("a", 0, end, wait=None))
    await clock.advance(1)
    await asyncio.wait_for(waiting, WAIT)
    (before,) = await log.groups()
    transaction = group.transaction()
    transaction.position("a", 0, Position(end))
    await transaction.commit()
    (after,) = await log.groups()
    assert (before.lag["a", 0], after.lag["a", 0]) == (2, 0)


async def test_a_due_outlives_the_member_that_asked(
    log: Log, group: Group, another_log: AnotherLog, clock: VirtualClock
) -> None:
    await ask(group, 0, clock.now() + SECOND)
    await group.leave()
    other = await another_log()
    waiting = asyncio.ensure_future(other.read("a", 0, 0, wait=None))
    await gain(await other.join("g", ["a"]))
    await clock.advance(1)
    assert len((await asyncio.wait_for(waiting, WAIT)).ticks) == 1
