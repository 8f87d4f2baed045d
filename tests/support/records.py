"""Appending to a log and reading it, in few words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

import pyarrow as pa
from pydantic import ByteSize

from millstream.event import Batch, Event, to_columns
from millstream.log import Committed, Group, Log, Poll, Position
from millstream.settings import LogSettings

LIMIT = 1 << 20
SETTINGS = LogSettings(ballast_bytes=ByteSize(0))  # no test but those of full disks needs 16 MB of ballast
WAIT = 60.0  # for what takes milliseconds on an idle machine


def events(*payloads: str, key: str = "k") -> pa.RecordBatch:
    """Events with these payloads."""
    return to_columns(Event(topic=f"t/{key}", key=key, payload=payload.encode()) for payload in payloads)


async def append(log: Log, stream: str, partition: int, *payloads: str) -> Committed:
    """Commit these payloads."""
    transaction = log.transaction()
    transaction.append(stream, partition, events(*payloads))
    return await transaction.commit()


def payloads(batches: Iterable[Batch]) -> list[str]:
    """What the events of batches hold."""
    return [event.payload.decode() for batch in batches for event in batch]


async def everything(log: Log, stream: str, partition: int, *, limit_bytes: int = LIMIT) -> AsyncIterator[Batch]:
    """All batches of a partition, up to its end."""
    bounds = await log.bounds(stream, partition)
    offset = bounds.first
    while offset < bounds.next:
        batch = await log.read(stream, partition, offset, limit_bytes=limit_bytes)
        assert batch.next_offset > offset
        offset = batch.next_offset
        yield batch


async def contents(log: Log, stream: str, partition: int = 0, *, limit_bytes: int = LIMIT) -> list[str]:
    """The payloads of a partition, up to its end."""
    return payloads([batch async for batch in everything(log, stream, partition, limit_bytes=limit_bytes)])


async def offsets(log: Log, stream: str, partition: int = 0) -> list[int]:
    """The offsets of all events of a partition; a log may have gaps between them."""
    batches = [batch async for batch in everything(log, stream, partition)]
    return [offset for batch in batches for offset in batch.events.column("offset").to_pylist()]


async def gain(group: Group) -> Mapping[int, Mapping[str, Position]]:
    """What a member has gained, which is all that has happened to it."""
    poll = await group.poll(LIMIT, pause=True)
    assert not poll.lost
    assert not poll.batches
    return poll.gained


async def poll_events(group: Group) -> Poll:
    """The next poll that brings batches, and nothing else."""
    poll = await group.poll(LIMIT)
    assert poll.batches
    assert not poll.lost
    assert not poll.gained
    return poll
