"""Events of which a batch has only the columns that its reader looks at, as they stand in the log.

They are few: they are read again, one by one, or many at a time where they are close to each other. What retention has
taken meanwhile stays as it is, on a topic that is called like its stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import pyarrow as pa

from millstream.event import Batch, Event, to_columns
from millstream.log import Log

Place = tuple[str, int, int]
"""A stream, a partition and an offset."""

_NEAR = 200  # offsets: to read what lies between takes less time than to ask again
_MANY_BYTES = 1 << 20


async def whole_events(log: Log, events: Sequence[Event]) -> list[Event]:
    """The same events with all that they have."""
    places = [(event.stream or "", event.partition, event.offset) for event in events]
    found = await _read(log, places)
    return [
        found.get(place) or msgspec.structs.replace(event, topic=place[0])
        for place, event in zip(places, events, strict=True)
    ]


async def whole_late(log: Log, late: pa.RecordBatch) -> pa.RecordBatch:
    """Late events as a step has them, with all that they had when they came."""
    rows = late.to_pylist()
    told = [dict(row["headers"]) for row in rows]
    places = [_place(headers["late-position"]) for headers in told]
    found = await _read(log, places)
    events = []
    for row, headers, place in zip(rows, told, places, strict=True):
        event = found.get(place) or Event(topic=place[0], payload=row["data"], key=row["key"])
        more = {**event.headers, **headers, "late-topic": event.topic}
        events.append(msgspec.structs.replace(event, topic=row["topic"], headers=more))
    return to_columns(events)


def _place(position: str) -> Place:
    stream, partition, offset = position.rsplit(":", 2)
    return stream, int(partition), int(offset)


async def _read(log: Log, places: Iterable[Place]) -> dict[Place, Event]:
    found: dict[Place, Event] = {}
    wanted = sorted(set(places), reverse=True)
    while wanted:
        stream, partition, offset = wanted[-1]
        limit_bytes = _MANY_BYTES if _is_near(wanted) else 1
        batch = await log.read(stream, partition, offset, limit_bytes=limit_bytes)
        offsets = set()
        end = max(batch.next_offset, offset + 1)
        while wanted and wanted[-1][:2] == (stream, partition) and wanted[-1][2] < end:
            offsets.add(wanted.pop()[2])
        rows = [row for row, its in enumerate(batch.events.column("offset").to_pylist()) if its in offsets]
        for event in Batch(stream, partition, batch.events.take(pa.array(rows, pa.int64())), end):
            found[stream, partition, event.offset] = event
    return found


def _is_near(wanted: Sequence[Place]) -> bool:
    """Whether the last two are close to each other."""
    if len(wanted) < 2:
        return False
    (*other, behind), (*place, offset) = wanted[-2:]
    return other == place and behind - offset < _NEAR
