"""Reading streams from a moment on, up to where they end now."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import msgspec
import pyarrow.compute as pc

from millstream.clock import Micros
from millstream.event import Batch, Event
from millstream.log import Log

_ROUND_BYTES = 4 << 20


class Range(msgspec.Struct, frozen=True):
    """A piece of a partition: the offsets from `first` to `end` (exclusive)."""

    stream: str
    partition: int
    first: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.first)


async def ranges(log: Log, stream: str, since: Micros | None = None) -> list[Range]:
    """What was committed at `since` or later and is there now, by partition; nothing if there is no such stream."""
    spec = (await log.streams()).get(stream)
    found = []
    for partition in range(spec.partitions if spec is not None else 0):
        bounds = await log.bounds(stream, partition)
        first = bounds.first if since is None else await log.offset_at(stream, partition, since)
        found.append(Range(stream, partition, first, bounds.next))
    return found


async def batches(log: Log, piece: Range, passed: Callable[[int], None] | None = None) -> AsyncIterator[Batch]:
    """A piece as batches with events. `passed` is told how many offsets are read."""
    offset = piece.first
    while offset < piece.end:
        batch = await log.read(piece.stream, piece.partition, offset, limit_bytes=_ROUND_BYTES)
        if batch.next_offset <= offset:
            return
        if batch.next_offset > piece.end:
            batch = _before(batch, piece.end)
        if len(batch):
            yield batch
        if passed is not None:
            passed(batch.next_offset - offset)
        offset = batch.next_offset


async def events(log: Log, stream: str, since: Micros | None = None) -> AsyncIterator[Event]:
    """The events of a stream, partition by partition."""
    for piece in await ranges(log, stream, since):
        async for batch in batches(log, piece):
            for event in batch:
                yield event


async def event_at(log: Log, stream: str, partition: int, offset: int) -> Event | None:
    """The event at a position; None for a tick, and where nothing is or is any more."""
    batch = await log.read(stream, partition, offset, limit_bytes=1)
    first = next(iter(batch), None)
    return first if first is not None and first.offset == offset else None


async def event_named(log: Log, position: str) -> Event | None:
    """The event at `STREAM:PARTITION:OFFSET`; None where `event_at` gives none, and for any other text."""
    place = re.fullmatch(r"(.+):(\d+):(\d+)", position)
    spec = None if place is None else (await log.streams()).get(place[1])
    if place is None or spec is None or int(place[2]) >= spec.partitions:
        return None
    return await event_at(log, place[1], int(place[2]), int(place[3]))


def _before(batch: Batch, end: int) -> Batch:
    """A batch without what was committed meanwhile."""
    events = batch.events.filter(pc.less(batch.events.column("offset"), end))
    return Batch(batch.stream, batch.partition, events, end)


def time_of(event: Event) -> datetime:
    """When an event of a stream was committed."""
    assert event.time is not None, "whatever is read from a stream has its commit time"
    return event.time
