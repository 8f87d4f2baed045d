"""What a log tells of where everything ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from tests.support.records import append, events, gain, offsets, poll_events

from millstream.clock import SECOND, VirtualClock
from millstream.log import EARLIEST, LATEST, Group, GroupAccount, Log, Position, StreamSpec
from millstream.log.sqlite import SqliteLog


@pytest.fixture(autouse=True)
async def streams(log: Log) -> None:
    await log.create(StreamSpec("a", partitions=2))


async def commit(group: Group, position: Position, counts: Mapping[str, int], partition: int = 0) -> None:
    transaction = group.transaction()
    transaction.position("a", partition, position)
    for name, n in counts.items():
        transaction.count(name, n)
    await transaction.commit()


async def account(log: Log, name: str = "g") -> GroupAccount:
    return (await log.accounts()).groups[name]


async def test_a_streams_events_are_told_by_who_appended_them(log: Log) -> None:
    await append(log, "a", 0, "x", "y")
    group = await log.join("g", ["a"])
    await gain(group)
    for partition in (0, 1):
        transaction = group.transaction()
        transaction.append("a", partition, events("1", "2", "3"))
        await transaction.commit()
    stream = (await log.accounts()).streams["a"]
    assert (stream.events, stream.dropped, dict(stream.sources)) == (8, 0, {"": 2, "g": 6})


async def test_what_the_log_counts_is_not_among_a_groups_counts(log: Log) -> None:
    group = await log.join("g", ["a"])
    await gain(group)
    transaction = group.transaction()
    transaction.append("a", 0, events("1"))
    transaction.count("processed", 3)
    with pytest.raises(ValueError, match="the log's own"):
        transaction.count("$appended:a", 1)
    await transaction.commit()
    assert [dict(status.counts) for status in await log.groups()] == [{"processed": 3}]
    assert dict((await account(log)).status.counts) == {"processed": 3}


async def test_a_group_has_read_what_its_positions_passed_since_it_began(log: Log) -> None:
    await append(log, "a", 0, "before", "before")
    start = (await log.bounds("a", 0)).next
    group = await log.join("g", ["a"], start=LATEST)
    await gain(group)
    await append(log, "a", 0, *"abcdef")
    assert (await account(log)).starts == {("a", 0): start, ("a", 1): 0}
    assert (await account(log)).read == {"a": 0}
    its = [offset for offset in await offsets(log, "a") if offset >= start]
    await commit(group, Position(its[1], (its[3], its[4])), {})
    assert (await account(log)).read == {"a": 3}
    await commit(group, Position((await log.bounds("a", 0)).next), {})
    assert (await account(log)).read == {"a": 6}


async def test_what_a_group_counts_agrees_with_what_it_has_read_while_it_commits(log: Log) -> None:
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    await append(log, "a", 0, *map(str, range(100)))
    await append(log, "a", 1, *map(str, range(100)))

    async def process() -> None:
        committed = 0
        while committed < 40:
            for batch in (await group.poll(8)).batches:
                transaction = group.transaction()
                transaction.position("a", batch.partition, Position(batch.next_offset))
                transaction.append("a", 1 - batch.partition, events("made of it"))
                transaction.count("processed", len(batch))
                await transaction.commit()
                committed += 1

    processing = asyncio.ensure_future(process())
    while not processing.done():
        found = await account(log)
        assert sum(found.read.values()) == found.status.counts.get("processed", 0)
    await processing
    accounts = await log.accounts()
    assert accounts.streams["a"].sources["g"] >= 40
    found = accounts.groups["g"]
    assert sum(found.read.values()) == found.status.counts["processed"] >= 40


async def test_ticks_are_no_events(log: Log, clock: VirtualClock) -> None:
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    await append(log, "a", 0, "x")
    transaction = group.transaction()
    transaction.due("a", 0, clock.now() + SECOND)
    await transaction.commit()
    await poll_events(group)
    await clock.advance(2)
    (batch,) = (await poll_events(group)).batches
    assert batch.ticks
    await append(log, "a", 0, "y")
    await commit(group, Position((await log.bounds("a", 0)).next), {})
    accounts = await log.accounts()
    assert (accounts.streams["a"].events, accounts.groups["g"].read) == (2, {"a": 2})


async def test_a_dropped_stream_leaves_what_was_read_of_it(log: Log, backend: str) -> None:
    if backend == "kafka":
        pytest.skip("brokers forget a group's offsets with the topic")
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    await append(log, "a", 0, "x", "y", "z")
    await commit(group, Position(2), {"processed": 2})
    await group.leave()
    await log.drop("a")
    assert (await account(log)).read == {"a": 2}
    await log.create(StreamSpec("a"))
    accounts = await log.accounts()
    assert (accounts.streams["a"].events, accounts.streams["a"].sources) == (0, {})
    await append(log, "a", 0, "again")
    again = await log.join("g", ["a"], start=EARLIEST)
    await gain(again)
    await commit(again, Position(1), {"processed": 1})
    assert (await account(log)).read == {"a": 3}


async def test_what_retention_takes_is_told_until_a_member_counts_it() -> None:
    clock = VirtualClock()
    log = await SqliteLog.memory(clock)
    await log.create(StreamSpec("a", partitions=1))
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    await append(log, "a", 0, "1", "2", "3")
    await append(log, "a", 0, "4")
    await append(log, "a", 0, "5")
    await commit(group, Position(1, (2,)), {"processed": 2})
    await log.create(StreamSpec("a", partitions=1, retention_bytes=1))
    while not (await log.accounts()).streams["a"].dropped:
        await clock.advance(1)
    stream = (await log.accounts()).streams["a"]
    assert (stream.events, stream.dropped) == (5, 4)
    found = await account(log)
    assert (found.read, found.expired) == ({"a": 2}, 2), "1 and 3 were read; 2 and 4 are gone"
    await commit(group, Position(1, (2, 3)), {"processed": 1})
    found = await account(log)
    assert (found.read, found.expired) == ({"a": 3}, 1), "4 was under way"
    await commit(group, Position(5), {"processed": 1, "expired": 1})
    found = await account(log)
    assert found.read == {"a": 5}
    assert found.expired == 0
    await log.close()
