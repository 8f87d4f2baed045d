"""Streams: made, brought up to date, dropped, watched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest
from tests.support.records import LIMIT, WAIT, append, contents, gain, payloads, poll_events

from millstream.errors import AppError, StreamMismatchError, TopicError, UnknownStreamError
from millstream.log import EARLIEST, Log, Poll, Position, StreamSpec

SPEC = StreamSpec(
    "a",
    ("site/{site}/{device}/x",),
    key="device",
    partitions=3,
    retention_age=timedelta(days=7, microseconds=1),
    retention_bytes=10_000,
)


async def test_a_stream_is_what_it_was_declared(log: Log) -> None:
    await log.create(SPEC)
    await log.create(SPEC)
    assert dict(await log.streams()) == {"a": SPEC}
    bounds = await log.bounds("a", 2)
    assert (bounds.first, bounds.next, bounds.first_time, bounds.last_time) == (0, 0, None, None)


async def test_filters_and_retention_can_change(log: Log) -> None:
    await log.create(SPEC)
    changed = StreamSpec("a", ("other/{device}",), key="device", partitions=3)
    await log.create(changed)
    assert (await log.streams())["a"] == changed


@pytest.mark.parametrize(
    "other", [StreamSpec("a", partitions=4), StreamSpec("a", ("site/{device}",), key="device", partitions=3)]
)
async def test_key_and_partitions_never_change(log: Log, other: StreamSpec) -> None:
    await log.create(StreamSpec("a", partitions=3))
    with pytest.raises(StreamMismatchError, match="'a' exists with key None and 3 partitions"):
        await log.create(other)


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        (StreamSpec(""), AppError, "no name for a stream"),
        (StreamSpec("a", partitions=0), AppError, "cannot have 0 partitions"),
        (StreamSpec("a", ("x/#/y",)), TopicError, "'#' must be the whole last level"),
        (StreamSpec("a", ("x/{site}",), key="device"), AppError, "has the key 'device'"),
    ],
)
async def test_an_impossible_stream_is_refused(log: Log, spec: StreamSpec, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await log.create(spec)
    assert not await log.streams()


async def test_a_dropped_stream_is_gone_with_its_positions(log: Log) -> None:
    await log.create(StreamSpec("a", partitions=1))
    await log.create(StreamSpec("b", partitions=1))
    await append(log, "a", 0, "old")
    group = await log.join("g", ["a", "b"], start=EARLIEST)
    await log.drop("a")
    assert list(await log.streams()) == ["b"]
    with pytest.raises(UnknownStreamError, match="no stream 'a'; the streams are: b"):
        await log.read("a", 0, 0)
    with pytest.raises(UnknownStreamError):
        await log.bounds("a", 0)
    with pytest.raises(UnknownStreamError):
        await log.drop("a")
    with pytest.raises(UnknownStreamError):
        await append(log, "a", 0, "x")
    assert [list(status.positions) for status in await log.groups()] == [[("b", 0)]]
    await group.leave()


async def test_a_stream_made_again_begins_empty(log: Log) -> None:
    await log.create(StreamSpec("a", partitions=1))
    await append(log, "a", 0, "old")
    await log.drop("a")
    await log.create(StreamSpec("a", partitions=2))
    assert (await append(log, "a", 0, "new")).first_offsets == (0,)
    assert await contents(log, "a") == ["new"]


async def test_a_reader_that_waits_hears_of_the_drop(log: Log) -> None:
    await log.create(StreamSpec("a", partitions=1))
    reading = asyncio.ensure_future(log.read("a", 0, 0, wait=None))
    await log.bounds("a", 0)
    await log.drop("a")
    with pytest.raises(UnknownStreamError):
        await asyncio.wait_for(reading, WAIT)


async def test_a_group_goes_on_with_the_streams_that_are_left(log: Log) -> None:
    await log.create(StreamSpec("a", partitions=1))
    await log.create(StreamSpec("b", partitions=1))
    group = await log.join("g", ["a", "b"])
    await gain(group)
    await log.drop("a")
    await append(log, "b", 0, "x")
    poll = await asyncio.wait_for(group.poll(1000), WAIT)
    assert [batch.stream for batch in poll.batches] == ["b"]


async def test_a_group_reads_a_stream_made_again_from_its_beginning(log: Log) -> None:
    await log.create(StreamSpec("a", partitions=1))
    await append(log, "a", 0, *"abcdef")
    group = await log.join("g", ["a"], start=EARLIEST)
    await gain(group)
    assert payloads((await poll_events(group)).batches) == [*"abcdef"]
    await log.drop("a")
    assert await group.poll(LIMIT, timeout=0) == Poll()
    polling = asyncio.ensure_future(group.poll(LIMIT))
    await log.streams()
    await log.create(StreamSpec("a", partitions=1))
    await append(log, "a", 0, "new")
    found = await asyncio.wait_for(polling, WAIT)
    assert payloads(found.batches) == ["new"]
    transaction = group.transaction()
    transaction.position("a", 0, Position(1))
    await transaction.commit()


async def test_watchers_hear_of_the_streams_now_and_after_every_change(log: Log) -> None:
    seen: asyncio.Queue[list[str]] = asyncio.Queue()

    def changed(streams: Mapping[str, StreamSpec]) -> None:
        seen.put_nowait(sorted(streams))

    async def until(names: list[str]) -> None:
        while await asyncio.wait_for(seen.get(), WAIT) != names:
            pass

    log.watch_streams(changed)
    await until([])
    await log.create(StreamSpec("a"))
    await until(["a"])
    await log.create(StreamSpec("b"))
    await until(["a", "b"])
    await log.drop("a")
    await until(["b"])
    log.watch_streams(changed)
    await until(["b"])
