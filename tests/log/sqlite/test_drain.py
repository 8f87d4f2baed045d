"""Knowing when nothing that was asked of the log is under way."""

from __future__ import annotations

import asyncio

from tests.support.records import events

from millstream.clock import VirtualClock
from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog


async def test_after_a_drain_everybody_has_been_told() -> None:
    log = await SqliteLog.memory(VirtualClock())
    await log.create(StreamSpec("a", partitions=1))
    await log.drain()
    assert not log.is_busy
    commits = []
    for number in range(5):
        transaction = log.transaction()
        transaction.append("a", 0, events(str(number)))
        commits.append(asyncio.create_task(transaction.commit()))
    await asyncio.sleep(0)
    assert log.is_busy
    await log.drain()
    assert not log.is_busy
    assert all(commit.done() for commit in commits)
    assert log.ends() == {("a", 0): 5}
    assert (await log.bounds("a", 0)).next == 5
    await log.close()


async def test_call_that_fails_or_is_cancelled_is_no_longer_under_way() -> None:
    log = await SqliteLog.memory(VirtualClock())
    failing = asyncio.create_task(log.drop("nowhere"))
    reading = asyncio.create_task(log.groups())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(failing, reading, return_exceptions=True)
    await log.drain()
    assert not log.is_busy
    await log.close()
