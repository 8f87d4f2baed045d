"""Consumer groups: positions, competing members, hand-over, take-over."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from tests.log.conftest import AnotherLog
from tests.support.records import LIMIT, WAIT, append, gain, offsets, payloads, poll_events
from tests.support.streams import eventually

from millstream.clock import VirtualClock
from millstream.errors import FencedError, LogError, LogUnavailableError, UnknownStreamError
from millstream.event import RESEND_GROUP, Batch, Event, to_columns
from millstream.log import EARLIEST, LATEST, Group, Log, Poll, Position, StreamSpec, Transaction
from millstream.log.contract import Commits
from millstream.topic import Filter

PARTITIONS = 4


@pytest.fixture(autouse=True)
async def streams(log: Log) -> None:
    await log.create(StreamSpec("a", partitions=PARTITIONS))
    await log.create(StreamSpec("b", partitions=2))


async def commit(group: Group, partition: int, low: int, *done: int) -> None:
    transaction = group.transaction()
    transaction.position("a", partition, Position(low, done))
    await transaction.commit()


async def poll(group: Group, timeout: float | None = None) -> Poll:
    return await asyncio.wait_for(group.poll(LIMIT, timeout), WAIT)


async def test_the_only_member_gains_everything(log: Log) -> None:
    await append(log, "a", 1, "x", "y")
    group = await log.join("g", ["a", "b"], start=EARLIEST)
    zero = Position(0)
    assert await gain(group) == {
        0: {"a": zero, "b": zero},
        1: {"a": zero, "b": zero},
        2: {"a": zero},
        3: {"a": zero},
    }
    found = await poll_events(group)
    (batch,) = found.batches
    assert (batch.stream, batch.partition) == ("a", 1)
    assert batch.next_offset >= 2
    assert payloads(found.batches) == ["x", "y"]


async def test_a_new_group_starts_at_the_latest_or_earliest_record(log: Log) -> None:
    await append(log, "a", 0, "old")
    late = await log.join("late", ["a"], start=LATEST)
    early = await log.join("early", ["a"], start=EARLIEST)
    end = (await log.bounds("a", 0)).next
    await append(log, "a", 0, "new")
    assert (await gain(late))[0] == {"a": Position(end)}
    assert (await gain(early))[0] == {"a": Position(0)}
    assert payloads((await poll_events(late)).batches) == ["new"]
    assert payloads((await poll_events(early)).batches) == ["old", "new"]


async def test_the_start_is_kept_from_the_join_on(log: Log) -> None:
    await append(log, "a", 0, "old")
    first = await log.join("g", ["a"], start=LATEST)
    await first.leave()
    await append(log, "a", 0, "new")
    again = await log.join("g", ["a"], start=LATEST)
    await gain(again)
    assert payloads((await poll_events(again)).batches) == ["new"]


async def test_an_unknown_stream_cannot_be_read(log: Log) -> None:
    with pytest.raises(UnknownStreamError):
        await log.join("g", ["a", "none"])
    assert await log.groups() == []


async def test_a_poll_waits_for_events(log: Log, another_log: AnotherLog) -> None:
    other = await another_log()
    group = await log.join("g", ["a"])
    await gain(group)
    for number in range(20):
        polling = asyncio.ensure_future(group.poll(LIMIT))
        await other.bounds("a", 0)
        await append(other, "a", number % PARTITIONS, str(number))
        assert payloads((await asyncio.wait_for(polling, WAIT)).batches) == [str(number)]


async def test_a_poll_ends_empty_after_its_time(log: Log, clock: VirtualClock) -> None:
    group = await log.join("g", ["a"])
    await gain(group)
    assert await group.poll(LIMIT, timeout=0) == Poll()
    polling = asyncio.ensure_future(group.poll(LIMIT, timeout=5))
    while not polling.done():
        await clock.advance(1)
        await log.bounds("a", 0)
    assert await polling == Poll()


async def test_a_paused_poll_brings_no_batches(log: Log, another_log: AnotherLog) -> None:
    group = await log.join("g", ["a"])
    await gain(group)
    await append(log, "a", 0, "x")
    assert await group.poll(LIMIT, timeout=0, pause=True) == Poll()
    polling = asyncio.ensure_future(group.poll(LIMIT, pause=True))
    rival = await (await another_log()).join("g", ["a"])
    lost = (await asyncio.wait_for(polling, WAIT)).lost
    assert len(lost) == PARTITIONS // 2
    await rival.leave()
    if 0 in lost:
        await append(log, "a", min(set(range(PARTITIONS)) - lost), "x")
    assert payloads((await poll_events(group)).batches) == ["x"]


async def test_a_poll_that_is_cancelled_loses_nothing(log: Log) -> None:
    group = await log.join("g", ["a"], start=EARLIEST)
    polling = asyncio.ensure_future(group.poll(LIMIT))
    await asyncio.sleep(0)
    polling.cancel()
    await asyncio.wait([polling])
    assert len(await gain(group)) == PARTITIONS
    polling = asyncio.ensure_future(group.poll(LIMIT))
    await log.bounds("a", 0)
    polling.cancel()
    await asyncio.wait([polling])
    await append(log, "a", 0, "x")
    assert payloads((await poll_events(group)).batches) == ["x"]


async def test_bytes_are_limited_and_shared_fairly(log: Log) -> None:
    for _ in range(20):
        for partition in range(PARTITIONS):
            await append(log, "a", partition, *["x" * 100] * 5)
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    first = await group.poll(8_000)
    counts = [len(batch) for batch in first.batches]
    assert 30 <= sum(counts) <= 120
    if log.commits is Commits.DISK:  # of brokers the partition comes first that was fetched first
        assert len(counts) == PARTITIONS
        assert max(counts) - min(counts) <= 5
    seen = sum(counts)
    while seen < PARTITIONS * 100:
        more = await group.poll(1)
        assert len(more.batches) == 1
        seen += len(more.batches[0])
    assert await group.poll(1, timeout=0) == Poll()


async def test_a_group_goes_on_at_its_position(log: Log, another_log: AnotherLog) -> None:
    await append(log, "a", 0, *"abcdefghij")
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    await poll_events(group)
    await commit(group, 0, 3, 5, 6, 9)
    await group.leave()
    again = await (await another_log()).join("g", ["a"], start=EARLIEST)
    assert (await gain(again))[0] == {"a": Position(3, (5, 6, 9))}
    found = await poll_events(again)
    assert payloads(found.batches) == ["d", "e", "h", "i"]
    assert found.batches[0].next_offset >= 10


async def test_events_that_are_all_done_are_passed_over(log: Log) -> None:
    await append(log, "a", 0, *"abc")
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    await commit(group, 0, 0, 0, 1, 2)
    await group.leave()
    again = await log.join("g", ["a"])
    await gain(again)
    assert await again.poll(LIMIT, timeout=0) == Poll()
    await append(log, "a", 0, "d")
    assert payloads((await poll_events(again)).batches) == ["d"]


async def test_groups_are_shown_with_lag_and_members(log: Log, another_log: AnotherLog) -> None:
    await append(log, "a", 0, *"abcdef")
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    await commit(group, 0, 2, 4)
    await (await another_log()).join("g", ["a"])
    await log.join("stateless", [])
    found = {status.name: status for status in await log.groups()}
    assert {name: status.members for name, status in found.items()} == {"g": 2, "stateless": 1}
    assert found["g"].positions["a", 0] == Position(2, (4,))
    assert found["g"].lag == {("a", 0): 3, ("a", 1): 0, ("a", 2): 0, ("a", 3): 0}


# --- members that compete


async def share(log: Log, another_log: AnotherLog) -> tuple[Group, Group, frozenset[int]]:
    """Two members, the second of which waits for what the first has lost and not released."""
    one = await log.join("g", ["a", "b"], start=EARLIEST)
    await gain(one)
    two = await (await another_log()).join("g", ["a", "b"])
    while not (lost := (await poll(one)).lost):  # a member that gets events may hear of it a moment later
        pass
    assert len(lost) == PARTITIONS // 2
    assert await two.poll(LIMIT, timeout=0) == Poll()
    return one, two, lost


async def test_a_lost_partition_is_committed_before_it_is_gained(log: Log, another_log: AnotherLog) -> None:
    for partition in range(PARTITIONS):
        await append(log, "a", partition, "x", "y")
    one, two, lost = await share(log, another_log)
    number = max(lost)
    transaction = one.transaction()
    transaction.position("a", number, Position(1))
    transaction.save(number, "s", b"state")
    await transaction.commit()
    gaining = asyncio.ensure_future(two.poll(LIMIT))
    await one.release(lost)
    gained = (await asyncio.wait_for(gaining, WAIT)).gained
    assert set(gained) == set(lost)
    assert gained[number]["a"] == Position(1)
    assert dict(await two.state(number)) == {"s": b"state"}
    seen: list[str] = []
    while len(seen) < 3:
        seen += payloads((await poll_events(two)).batches)
    assert sorted(seen) == ["x", "y", "y"]
    with pytest.raises(FencedError, match="gone to another member"):
        await commit(one, number, 2)


async def test_a_lost_partition_is_not_polled(log: Log, another_log: AnotherLog) -> None:
    one, _, lost = await share(log, another_log)
    for partition in range(PARTITIONS):
        await append(log, "a", partition, str(partition))
    kept = set(range(PARTITIONS)) - lost
    seen: set[int] = set()
    while seen != kept:
        seen |= {batch.partition for batch in (await poll_events(one)).batches}
        assert seen <= kept
    assert await one.poll(LIMIT, timeout=0) == Poll()


async def test_numbers_of_all_streams_go_to_one_member(log: Log, another_log: AnotherLog) -> None:
    one, two, lost = await share(log, another_log)
    await one.release(lost)
    gained = (await poll(two)).gained
    for number, positions in gained.items():
        assert set(positions) == ({"a", "b"} if number < 2 else {"a"})


async def test_who_does_not_release_in_time_is_fenced(log: Log, another_log: AnotherLog, clock: VirtualClock) -> None:
    one, two, lost = await share(log, another_log)
    gaining = asyncio.ensure_future(two.poll(LIMIT))
    await clock.advance(9.9)
    await commit(one, min(lost), 0)
    await clock.advance(0.2)
    assert set((await asyncio.wait_for(gaining, WAIT)).gained) == set(lost)
    with pytest.raises(FencedError):
        await commit(one, min(lost), 0)
    await one.release(lost)  # too late, and harmless
    await commit(two, min(lost), 0)
    await commit(one, min(set(range(PARTITIONS)) - lost), 0)


async def test_members_that_leave_are_replaced_at_once(log: Log, another_log: AnotherLog) -> None:
    one, two, lost = await share(log, another_log)
    await one.release(lost)
    await poll(two)
    gaining = asyncio.ensure_future(two.poll(LIMIT))
    await one.leave()
    await one.leave()
    assert set((await asyncio.wait_for(gaining, WAIT)).gained) == set(range(PARTITIONS)) - lost
    with pytest.raises(LogError):
        await one.poll(LIMIT)
    with pytest.raises(FencedError):
        await commit(one, 0, 0)


async def test_what_comes_back_takes_a_new_transaction(log: Log, another_log: AnotherLog) -> None:
    """A commit begun before the partition was somebody else's must not undo what that one did."""
    one, two, lost = await share(log, another_log)
    number = min(lost)
    stale = one.transaction()
    stale.save(number, "s", b"stale")
    await one.release(lost)
    await poll(two)
    transaction = two.transaction()
    transaction.save(number, "s", b"newer")
    await transaction.commit()
    await two.leave()
    with pytest.raises(FencedError):
        await stale.commit()
    assert set((await poll(one)).gained) == set(lost)
    with pytest.raises(FencedError):
        await stale.commit()
    assert dict(await one.state(number)) == {"s": b"newer"}
    fresh = one.transaction()
    fresh.save(number, "s", b"fresh")
    await fresh.commit()


async def test_on_the_way_out_a_member_gets_nothing_back(log: Log, another_log: AnotherLog) -> None:
    one, two, lost = await share(log, another_log)
    await one.release(frozenset(range(PARTITIONS)))
    assert set((await poll(two)).gained) == set(range(PARTITIONS))
    assert await one.poll(LIMIT, timeout=0) == Poll()
    assert lost


async def test_every_event_goes_to_one_member(log: Log, another_log: AnotherLog) -> None:
    """Members come and go while events come: nothing is left out, and nothing committed is brought again."""
    seen: list[str] = []

    async def commit_and_note(transaction: Transaction, mine: list[str]) -> None:
        with suppress(FencedError):
            await transaction.commit()
            seen.extend(mine)

    async def work(group: Group, events_to_see: int) -> None:
        while len(seen) < events_to_see:
            found = await group.poll(200, timeout=None)
            if found.lost:
                await group.release(found.lost)
            transaction = group.transaction()
            mine: list[str] = []
            for batch in found.batches:
                transaction.position(batch.stream, batch.partition, Position(batch.next_offset))
                mine += payloads([batch])
            committing = asyncio.ensure_future(commit_and_note(transaction, mine))
            try:
                await asyncio.shield(committing)
            except asyncio.CancelledError:
                await committing
                raise

    members: list[Group] = [await log.join("g", ["a"], start=EARLIEST)]
    workers = [asyncio.ensure_future(work(members[0], 300))]
    for number in range(300):
        await append(log, "a", number % PARTITIONS, str(number))
        if number in (50, 100, 150):
            members.append(await (await another_log()).join("g", ["a"]))
            workers.append(asyncio.ensure_future(work(members[-1], 300)))
        if number == 200:
            workers[0].cancel()
            await asyncio.wait([workers[0]])
            await members[0].leave()
    await eventually(lambda: len(seen) == 300)
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    assert sorted(seen, key=int) == [str(number) for number in range(300)]


async def test_a_closed_log_ends_its_polls(another_log: AnotherLog) -> None:
    log = await another_log()
    group = await log.join("g", ["a"])
    await gain(group)
    polling = asyncio.ensure_future(group.poll(LIMIT))
    await log.bounds("a", 0)
    await log.close()
    await log.close()
    with pytest.raises((LogError, LogUnavailableError)):
        await asyncio.wait_for(polling, WAIT)


async def test_a_member_may_want_some_topics(log: Log) -> None:
    some = await log.join("some", ["a"], start=EARLIEST, topics=Filter.parse("t/+/door"))
    everything = await log.join("all", ["a"], start=EARLIEST)
    for number in range(40):  # in chunks of one and of many events, some without any that is wanted
        count = (90, 1, 1, 2)[number % 4]
        topics = [f"t/{key}/{'door' if (number + key) % 3 == 0 else 'light'}" for key in range(count)]
        transaction = log.transaction()
        rows = to_columns(Event(topic=topic, key="k", payload=b"%d" % number) for topic in topics)
        transaction.append("a", number // 4 % 2, rows)
        await transaction.commit()
    of_some, of_all = await read_up(log, some), await read_up(log, everything)
    for partition in (0, 1):
        events = [event for batch in of_all[partition] for event in batch]
        read = 0
        for batch in of_some[partition]:
            rows, count = list(range(len(batch))), len(batch)  # of a backend that brings everything
            if batch.selection is not None:
                rows, count = batch.selection.rows.tolist(), batch.selection.count
            assert list(batch) == [events[read + row] for row in rows]
            left_out = set(range(count)) - set(rows)
            assert not any(events[read + row].topic.endswith("door") for row in left_out)
            read += count
        assert read == len(events) > 100


async def read_up(log: Log, group: Group) -> dict[int, list[Batch]]:
    """All batches of the stream `a`, by partition, read in small steps."""
    found: dict[int, list[Batch]] = {0: [], 1: []}
    ends = {partition: (await offsets(log, "a", partition))[-1] for partition in found}
    while any(not batches or batches[-1].next_offset <= ends[partition] for partition, batches in found.items()):
        for batch in (await asyncio.wait_for(group.poll(900), WAIT)).batches:
            found[batch.partition].append(batch)
    return found


async def test_a_member_gets_at_least_the_columns_that_it_looks_at(log: Log) -> None:
    plain = Event(topic="t", key="k", id="1", type="x", content_type="text/plain", headers={"h": "1"}, payload=b"p")
    again = Event(topic="t", key="k", id="2", headers={RESEND_GROUP: "g"}, payload=b"q")
    transaction = log.transaction()
    transaction.append("a", 0, to_columns([plain]))
    await transaction.commit()
    group = await log.join("g", ["a"], start=EARLIEST, columns={"key", "data"})
    await gain(group)
    (batch,) = (await poll_events(group)).batches
    assert batch.is_sparse == (log.commits is Commits.REPLICAS)
    (event,) = batch
    assert (event.key, event.payload) == (plain.key, plain.payload)
    assert event.time is not None
    (whole,) = await log.read("a", 0, event.offset)
    assert (whole.topic, whole.id, whole.type, whole.content_type) == ("t", "1", "x", "text/plain")
    assert whole.headers == {"h": "1"}
    if not batch.is_sparse:
        assert event == whole
    transaction = log.transaction()
    transaction.append("a", 0, to_columns([again]))
    await transaction.commit()
    (batch,) = (await poll_events(group)).batches
    (event,) = batch
    assert (event.topic, event.key, event.id, event.headers) == ("t", "k", "2", {RESEND_GROUP: "g"})


async def test_a_member_that_looks_at_more_gets_more(log: Log) -> None:
    transaction = log.transaction()
    transaction.append("a", 0, to_columns([Event(topic="t", key="k", id="1", payload=b"p")]))
    await transaction.commit()
    group = await log.join("g", ["a"], start=EARLIEST, columns={"key", "id"})
    await gain(group)
    (batch,) = (await poll_events(group)).batches
    assert [(event.key, event.id) for event in batch] == [("k", "1")]
