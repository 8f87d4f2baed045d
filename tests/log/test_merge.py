"""A stream as one sequence: everything, in the order of the commits, from where it was told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from tests.support.mqtt import PATIENCE

from millstream.clock import VirtualClock, to_datetime
from millstream.errors import PositionError, UnknownStreamError
from millstream.event import Event, to_columns
from millstream.log import From, Merge, StreamSpec, find_positions, parse_from
from millstream.log.sqlite import SqliteLog


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def log(clock: VirtualClock) -> AsyncIterator[SqliteLog]:
    log = await SqliteLog.memory(clock)
    await log.create(StreamSpec("events", ("#",), partitions=4))
    yield log
    await log.close()


async def append(log: SqliteLog, clock: VirtualClock, *partitions: int, first: int = 0) -> None:
    """One commit an event, a second apart; the payload is the event's number."""
    for number, partition in enumerate(partitions, start=first):
        transaction = log.transaction()
        transaction.append("events", partition, to_columns([Event(topic="t", key="k", payload=b"%d" % number)]))
        await transaction.commit()
        await clock.advance(1)


async def round_of(merge: Merge) -> list[int]:
    return [int(event.payload) async for event in merge.round()]


async def test_partitions_are_merged_in_the_order_of_the_commits(log: SqliteLog, clock: VirtualClock) -> None:
    partitions = [random.Random(7).randrange(4) for _ in range(200)]
    await append(log, clock, *partitions)
    merge = Merge(log, "events", await find_positions(log, "events", "earliest"))
    assert await round_of(merge) == list(range(200))
    assert await round_of(merge) == []


async def test_the_next_round_has_what_came_since(log: SqliteLog, clock: VirtualClock) -> None:
    positions = await find_positions(log, "events", "latest")
    merge = Merge(log, "events", positions)
    assert await round_of(merge) == []
    await append(log, clock, 3, 1)
    await merge.wait()
    assert await round_of(merge) == [0, 1]
    await append(log, clock, 1, 3, first=2)
    assert await round_of(merge) == [2, 3]
    assert positions == {0: 0, 1: 2, 2: 0, 3: 2}


async def test_waiting_ends_with_the_next_event(log: SqliteLog, clock: VirtualClock) -> None:
    merge = Merge(log, "events", await find_positions(log, "events", "latest"))
    waiting = asyncio.create_task(merge.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    await append(log, clock, 2)
    async with asyncio.timeout(PATIENCE):
        await waiting


async def test_it_begins_where_it_was_told(log: SqliteLog, clock: VirtualClock) -> None:
    start = clock.now()
    await append(log, clock, 0, 1, 0, 1, 0, 1)
    cases: list[tuple[From, list[int]]] = [
        ("earliest", [0, 1, 2, 3, 4, 5]),
        ("latest", []),
        (1, [2, 3, 4, 5]),
        (100, []),
        (to_datetime(start + 3_000_000), [3, 4, 5]),
        (to_datetime(start + 2_500_000), [3, 4, 5]),
        (to_datetime(start + 60_000_000), []),
    ]
    for begin, expected in cases:
        merge = Merge(log, "events", await find_positions(log, "events", begin))
        assert await round_of(merge) == expected, begin


async def test_an_unknown_stream_is_told_with_the_known_ones(log: SqliteLog) -> None:
    with pytest.raises(UnknownStreamError, match=r"no stream 'evnets'.*there are: events"):
        await find_positions(log, "evnets", "earliest")


def test_where_to_begin_is_read() -> None:
    assert parse_from("earliest") == "earliest"
    assert parse_from("latest") == "latest"
    assert parse_from("17") == 17
    assert parse_from("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_from("2026-01-31T13:00:00+01:00") == datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("yesterday", "say earliest, latest, an offset, or a time"),
        ("-5", "say earliest"),
        ("9" * 5_000, "say earliest"),
        ("2026-01-31T12:00:00", "which time zone.*2026-01-31T12:00:00Z"),
    ],
)
def test_where_to_begin_can_be_wrong(text: str, told: str) -> None:
    with pytest.raises(PositionError, match=told):
        parse_from(text)
