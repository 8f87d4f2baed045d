"""Retention: whole chunks go, the oldest first; who had not read them is told how many."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ByteSize
from tests.support.records import LIMIT, WAIT, append, contents, events, gain, payloads
from tests.support.streams import eventually

from millstream.clock import SECOND, VirtualClock
from millstream.log import EARLIEST, Position, StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.settings import LogSettings


async def open_log(folder: Path, clock: VirtualClock, **settings: object) -> SqliteLog:
    return await SqliteLog.open(folder, LogSettings.model_validate({"ballast_bytes": 0, **settings}), clock)


async def first(log: SqliteLog, partition: int = 0) -> int:
    return (await log.bounds("a", partition)).first


@pytest.mark.parametrize("whose", ["the stream's", "the settings'"])
async def test_what_is_too_old_goes(tmp_path: Path, whose: str) -> None:
    clock = VirtualClock()
    age = timedelta(seconds=120)
    log = await open_log(tmp_path, clock, **({} if whose == "the stream's" else {"retention_age": age}))
    await log.create(StreamSpec("a", partitions=2, retention_age=age if whose == "the stream's" else None))
    for number in range(5):
        await append(log, "a", number % 2, f"{number}a", f"{number}b")
        await clock.advance(50)

    async def expired() -> bool:
        await clock.advance(0.05)  # it looks once a second at most
        return (await first(log, 0), await first(log, 1)) == (4, 2)

    await eventually(expired)  # from 250 s on: those of 0, 50 and 100 s
    assert await contents(log, "a", 0) == ["4a", "4b"]
    assert await contents(log, "a", 1) == ["3a", "3b"]
    assert (await append(log, "a", 0, "x")).first_offsets == (6,)
    await log.close()


async def test_all_of_it_can_go_and_offsets_go_on(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = await open_log(tmp_path, clock)
    await log.create(StreamSpec("a", partitions=1, retention_age=timedelta(seconds=10)))
    last = (await append(log, "a", 0, "x", "y")).time
    await clock.advance(12)

    async def empty() -> bool:
        await clock.advance(0.05)
        return await first(log) == 2

    await eventually(empty)
    await log.close()
    await clock.advance(-100)
    log = await open_log(tmp_path, clock)
    bounds = await log.bounds("a", 0)
    assert (bounds.first, bounds.next, bounds.first_time) == (2, 2, None)
    assert (await log.read("a", 0, 0)).next_offset == 2
    committed = await append(log, "a", 0, "z")
    assert committed.first_offsets == (2,)
    assert committed.time >= last
    assert [event.offset for event in await log.read("a", 0, 0)] == [2]
    await log.close()


async def test_a_stream_that_is_too_large_loses_its_oldest(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = await open_log(tmp_path, clock, retention_bytes=50_000)
    await log.create(StreamSpec("a", partitions=2))
    await log.create(StreamSpec("b", partitions=1, retention_bytes=10_000_000))
    for number in range(100):
        await append(log, "a", number % 2, "x" * 1000)
        await append(log, "b", 0, "x" * 1000)
        await clock.advance(1)

    async def small_enough() -> bool:
        return await first(log, 0) + await first(log, 1) >= 49

    await eventually(small_enough)
    kept = [await contents(log, "a", partition) for partition in (0, 1)]
    assert 45 <= sum(len(each) for each in kept) <= 51
    assert abs(len(kept[0]) - len(kept[1])) <= 1
    assert len(await contents(log, "b")) == 100
    await log.close()


async def test_new_limits_hold_at_once(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = await open_log(tmp_path, clock)
    await log.create(StreamSpec("a", partitions=1))
    await append(log, "a", 0, "old")
    await clock.advance(1000)
    await append(log, "a", 0, "new")
    await log.create(StreamSpec("a", partitions=1, retention_age=timedelta(seconds=500)))

    async def dropped() -> bool:
        return await first(log) == 1

    await eventually(dropped)
    await log.close()


async def test_in_slices_whatever_the_amount(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = await open_log(tmp_path, clock)
    await log.create(StreamSpec("a", partitions=8))
    for _ in range(60):
        transaction = log.transaction()
        for partition in range(8):
            for _ in range(3):
                transaction.append("a", partition, events("x" * 5000))  # no crumbs, which would be merged
        await transaction.commit()
    await clock.advance(20)
    await append(log, "a", 0, "new")
    await log.create(StreamSpec("a", partitions=8, retention_age=timedelta(seconds=10)))

    async def dropped() -> bool:
        return [await first(log, partition) for partition in range(8)] == [180] * 8

    await eventually(dropped)
    assert await contents(log, "a") == ["new"]
    await log.close()


async def count(log: SqliteLog, table: str) -> int:
    return await log.core.writer.call(lambda store: int(store.db.execute(f"SELECT count(*) FROM {table}").get))


async def test_a_dropped_stream_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = await open_log(tmp_path, clock)
    await log.create(StreamSpec("a", partitions=2))
    for _ in range(20):
        await append(log, "a", 0, *["x" * 5000] * 30)
    await log.drop("a")
    await log.create(StreamSpec("b", partitions=1))

    async def purged() -> bool:
        return await count(log, "chunks") == 0

    await eventually(purged)
    assert await count(log, "partitions") == 1
    await log.close()


# --- those who had not read it


async def overtaken_after(log: SqliteLog, offset: int) -> None:
    """Five events, a tick, and five events come from `offset` on, and are dropped; then one that is there."""
    clock = log.core.clock
    assert isinstance(clock, VirtualClock)
    await append(log, "a", 0, *"abcde")
    ticker = await log.join("ticker", ["a"])
    await gain(ticker)
    transaction = ticker.transaction()
    transaction.due("a", 0, clock.now())
    await transaction.commit()
    await asyncio.wait_for(log.read("a", 0, offset + 5, wait=None), WAIT)
    await append(log, "a", 0, *"fghij")
    await clock.advance(1000)
    await append(log, "a", 0, "new")
    await log.create(StreamSpec("a", partitions=1, retention_age=timedelta(seconds=500)))

    async def dropped() -> bool:
        return await first(log) == offset + 11

    await eventually(dropped)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_new_owner_is_told_what_is_gone(tmp_path: Path, restarted: bool) -> None:
    clock = VirtualClock()
    log = await open_log(tmp_path, clock)
    await log.create(StreamSpec("a", partitions=1))
    group = await log.join("g", ["a"], start=EARLIEST)
    await append(log, "a", 0, *"123")
    await gain(group)
    transaction = group.transaction()
    transaction.position("a", 0, Position(1, (2, 4)))
    with pytest.raises(Exception, match="beyond"):
        bad = group.transaction()
        bad.position("a", 0, Position(9))
        await bad.commit()
    await transaction.commit()
    await group.leave()
    await overtaken_after(log, 3)
    if restarted:
        await log.close()
        log = await open_log(tmp_path, clock)
    again = await log.join("g", ["a"])
    poll = await again.poll(LIMIT)
    assert poll.gained == {0: {"a": Position(1, (2, 4))}}
    assert poll.expired == {("a", 0): 3 + 10 - 1 - 2}  # all but the one before the position, and two done
    found = await again.poll(LIMIT)
    assert payloads(found.batches) == ["new"]
    assert not found.expired
    transaction = again.transaction()
    transaction.position("a", 0, Position(found.batches[0].next_offset))
    await transaction.commit()
    await again.leave()
    assert (await (await log.join("g", ["a"])).poll(LIMIT)).expired == {}
    await log.close()


async def test_an_owner_is_told_what_it_was_too_slow_for(tmp_path: Path) -> None:
    log = await open_log(tmp_path, VirtualClock())
    await log.create(StreamSpec("a", partitions=1))
    group = await log.join("g", ["a"], start=EARLIEST)
    await append(log, "a", 0, *"123")
    await gain(group)
    assert payloads((await group.poll(1)).batches) == ["1"]
    await overtaken_after(log, 3)
    poll = await group.poll(LIMIT)
    assert poll.expired == {("a", 0): 2 + 10}
    assert payloads(poll.batches) == ["new"]
    await log.close()


async def test_what_was_read_is_not_expired(tmp_path: Path) -> None:
    log = await open_log(tmp_path, VirtualClock(), retention_bytes=ByteSize(1 << 30))
    await log.create(StreamSpec("a", partitions=1))
    group = await log.join("g", ["a"], start=EARLIEST)
    await append(log, "a", 0, *"123")
    await gain(group)
    await group.poll(LIMIT)
    clock = log.core.clock
    assert isinstance(clock, VirtualClock)
    await clock.advance(1000)
    await log.create(StreamSpec("a", partitions=1, retention_age=timedelta(seconds=500)))

    async def dropped() -> bool:
        return await first(log) == 3

    await eventually(dropped)
    assert not (await group.poll(LIMIT, timeout=0)).expired
    assert clock.now() > 1000 * SECOND
    await log.close()
