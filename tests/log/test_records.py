"""Records: appended, read from any offset and time, waited for."""

from __future__ import annotations

import asyncio

import pytest
from tests.log.conftest import AnotherLog
from tests.support.records import WAIT, append, contents, events, offsets, payloads

from millstream.clock import SECOND, VirtualClock
from millstream.errors import LogError, UnknownStreamError
from millstream.event import BATCH_SCHEMA, Event, to_columns
from millstream.log import Log, StreamSpec


@pytest.fixture
async def stream(log: Log) -> str:
    await log.create(StreamSpec("a", ("t/#",), partitions=2))
    return "a"


async def test_every_attribute_of_an_event_comes_back(log: Log, stream: str, clock: VirtualClock) -> None:
    full = Event(
        topic="t/ö/1",
        payload=b"\x00\xff payload",
        key="kéy",
        id="1-2-3",
        type="reading",
        content_type="text/plain",
        headers={"source": "/x", "a": "", "ü": "ß"},
    )
    bare = Event(topic="t/2")
    transaction = log.transaction()
    transaction.append(stream, 1, to_columns([full, bare]))
    committed = await transaction.commit()
    assert committed.time == clock.now()
    (first,) = committed.first_offsets
    batch = await log.read(stream, 1, 0)
    assert batch.events.schema.equals(BATCH_SCHEMA)
    got = list(batch)
    for sent, received in zip((full, bare), got, strict=True):
        for name in ("topic", "payload", "key", "id", "type", "content_type", "headers"):
            assert getattr(received, name) == getattr(sent, name), name
    assert [event.position for event in got] == [f"a:1:{first}", f"a:1:{first + 1}"]
    assert all(event.time is not None for event in got)
    assert (batch.stream, batch.partition, batch.next_offset, batch.ticks) == (
        stream,
        1,
        (await log.bounds(stream, 1)).next,
        (),
    )


async def test_partitions_keep_the_order_of_the_commits(log: Log, stream: str) -> None:
    committing = [append(log, stream, number % 2, str(number), f"{number}'") for number in range(40)]
    committed = await asyncio.gather(*committing)
    for partition in (0, 1):
        numbers = range(partition, 40, 2)
        assert await contents(log, stream, partition) == [text for n in numbers for text in (str(n), f"{n}'")]
        firsts = [committed[n].first_offsets[0] for n in numbers]
        assert await offsets(log, stream, partition) == [offset for first in firsts for offset in (first, first + 1)]


async def test_a_batch_begins_and_ends_where_it_is_asked_to(log: Log, stream: str) -> None:
    for start in range(0, 12, 3):
        await append(log, stream, 0, *(str(number) for number in range(start, start + 3)))
    every = await offsets(log, stream)
    for number, offset in enumerate(every):
        batch = await log.read(stream, 0, offset)
        assert payloads([batch]) == [str(each) for each in range(number, 12)]
        assert batch.events.column("offset").to_pylist() == every[number:]
    for limit in (1, 20, 60, 200):
        assert await contents(log, stream, limit_bytes=limit) == [str(number) for number in range(12)]
    assert payloads([await log.read(stream, 0, 0, limit_bytes=1)]) == ["0"]


async def test_large_and_small_events_mix(log: Log, stream: str) -> None:
    sizes = [0, 3_000_000, 1, 700_000, 700_000, 2, 0]
    await append(log, stream, 0, *("x" * size for size in sizes))
    assert [len(text) for text in await contents(log, stream)] == sizes
    limited = await log.read(stream, 0, 0, limit_bytes=100_000)
    assert 1 <= len(limited) <= 2


async def test_an_append_without_events_changes_nothing(log: Log, stream: str) -> None:
    assert (await append(log, stream, 0)).first_offsets == (0,)
    assert (await log.bounds(stream, 0)).next == 0
    await append(log, stream, 0, "x")
    end = (await log.bounds(stream, 0)).next
    assert (await append(log, stream, 0)).first_offsets == (end,)
    assert (await log.bounds(stream, 0)).next == end


async def test_where_there_is_nothing_the_batch_is_empty(log: Log, stream: str) -> None:
    await append(log, stream, 0, "x")
    end = (await log.bounds(stream, 0)).next
    batch = await log.read(stream, 0, end)
    assert (len(batch), batch.next_offset, batch.ticks) == (0, end, ())
    assert batch.events.schema.equals(BATCH_SCHEMA)


async def test_a_reader_waits_for_the_next_record(log: Log, stream: str, another_log: AnotherLog) -> None:
    other = await another_log()
    for number in range(20):
        end = (await other.bounds(stream, 1)).next
        reading = asyncio.ensure_future(log.read(stream, 1, end, wait=None))
        await other.bounds(stream, 1)
        assert not reading.done()
        await append(other, stream, 1, str(number))
        assert payloads([await asyncio.wait_for(reading, WAIT)]) == [str(number)]


async def test_waiting_ends_with_its_time(log: Log, stream: str, clock: VirtualClock) -> None:
    reading = asyncio.ensure_future(log.read(stream, 0, 0, wait=5))
    await log.bounds(stream, 0)
    await clock.advance(4.9)
    assert not (await asyncio.wait([reading], timeout=0.02))[0]
    while not reading.done():  # the wait began when the log had looked
        await clock.advance(0.2)
        await log.bounds(stream, 0)
    assert len(await reading) == 0


async def test_bounds_and_times(log: Log, stream: str, clock: VirtualClock) -> None:
    start = clock.now()
    for number in range(5):
        await append(log, stream, 0, f"{number}a", f"{number}b")
        await clock.advance(10)
    bounds = await log.bounds(stream, 0)
    every = await offsets(log, stream)
    assert (bounds.first, len(every)) == (0, 10)
    assert bounds.next > every[-1]
    assert (bounds.first_time, bounds.last_time) == (start, start + 40 * SECOND)
    for number in range(5):
        at = start + number * 10 * SECOND
        assert await log.offset_at(stream, 0, at) == every[2 * number]
        assert await log.offset_at(stream, 0, at + 1) == [*every, bounds.next][2 * number + 2]
    assert await log.offset_at(stream, 0, 0) == 0
    assert await log.offset_at(stream, 1, start) == 0


async def test_times_do_not_decrease_when_the_wall_clock_does(log: Log, stream: str, clock: VirtualClock) -> None:
    before = (await append(log, stream, 0, "a")).time
    await clock.advance(-3600)
    after = (await append(log, stream, 0, "b")).time
    assert after >= before
    assert await log.offset_at(stream, 0, before + 1) == (await log.bounds(stream, 0)).next


@pytest.mark.parametrize(("stream_name", "partition", "error"), [("none", 0, UnknownStreamError), ("a", 2, LogError)])
async def test_a_place_that_is_not_there_is_an_error(
    log: Log, stream: str, stream_name: str, partition: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await log.read(stream_name, partition, 0)
    with pytest.raises(error):
        await append(log, stream_name, partition, "x")


async def test_events_of_another_shape_are_refused_at_once(log: Log, stream: str) -> None:
    with pytest.raises(ValueError, match="columns of EVENT_SCHEMA"):
        log.transaction().append(stream, 0, events("x").select(["topic", "data"]))
