"""The partitions of a stream as one sequence, in the order in which their events were committed.

It goes in rounds. A round takes a horizon, the time of the newest record that any partition has; everything up to
there is committed, so what the partitions hold up to there can be merged by time, and nothing can come in between
later. What is newer belongs to the next round.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator

from millstream.clock import Micros, to_micros
from millstream.event import Event
from millstream.log.contract import Log

READ_AHEAD_BYTES = 32 << 20  # over all partitions: what a merge has to hold
_LEAST_BYTES = 1 << 14  # of a partition


class Merge:
    """The events of a stream from `positions` on, by partition the offset to begin with. They are kept up to date: the
    offsets to read on from. It reads ahead about `read_ahead` bytes of payload, and holds an event a partition at
    least."""

    def __init__(self, log: Log, stream: str, positions: dict[int, int], read_ahead: int = READ_AHEAD_BYTES) -> None:
        self._log = log
        self._stream = stream
        chunk = max(read_ahead // max(len(positions), 1), _LEAST_BYTES)
        self._cursors = [Cursor(log, stream, partition, positions, chunk) for partition in positions]

    async def round(self) -> AsyncIterator[Event]:
        """The events that are committed by now, by commit time."""
        horizon = await self._horizon()
        heap: list[tuple[Micros, int, Cursor]] = []
        for cursor in self._cursors:
            await _push(heap, cursor, horizon)
        while heap:
            _, _, cursor = heapq.heappop(heap)
            yield cursor.pop()
            await _push(heap, cursor, horizon)

    async def wait(self) -> None:
        """Return when there is something that the last round did not have."""
        if any(cursor.loaded for cursor in self._cursors):
            return
        waiting = [asyncio.create_task(cursor.wait()) for cursor in self._cursors]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _horizon(self) -> Micros:
        bounds = [await self._log.bounds(self._stream, cursor.partition) for cursor in self._cursors]
        return max((bound.last_time for bound in bounds if bound.last_time is not None), default=0)


async def _push(heap: list[tuple[Micros, int, Cursor]], cursor: Cursor, horizon: Micros) -> None:
    event = await cursor.peek()
    if event is not None and (time := _time_of(event)) <= horizon:
        heapq.heappush(heap, (time, cursor.partition, cursor))


class Cursor:
    """The next event of a partition, read ahead by a chunk."""

    def __init__(self, log: Log, stream: str, partition: int, positions: dict[int, int], chunk_bytes: int) -> None:
        self.partition = partition
        self._log = log
        self._stream = stream
        self._positions = positions
        self._chunk_bytes = chunk_bytes
        self._read_offset = positions[partition]
        self._rows: Iterator[Event] = iter(())
        self._next: Event | None = None

    @property
    def loaded(self) -> bool:
        """Whether an event is at hand."""
        return self._next is not None

    async def peek(self) -> Event | None:
        """The next event, or None if there is none yet."""
        while self._next is None:
            self._next = next(self._rows, None)
            if self._next is None and not await self._load(0.0):
                return None
        return self._next

    def pop(self) -> Event:
        """The event that `peek` found."""
        event = self._next
        if event is None:
            raise RuntimeError("nothing was peeked")
        self._next = None
        self._positions[self.partition] = event.offset + 1
        return event

    async def wait(self) -> None:
        """Return when there is an event; until then nothing is done."""
        while self._next is None:
            await self._load(None)
            self._next = next(self._rows, None)

    async def _load(self, wait: float | None) -> bool:
        batch = await self._log.read(
            self._stream, self.partition, self._read_offset, limit_bytes=self._chunk_bytes, wait=wait
        )
        moved = batch.next_offset != self._read_offset
        self._read_offset = batch.next_offset
        self._rows = iter(batch)
        return moved


def _time_of(event: Event) -> Micros:
    if event.time is None:
        raise RuntimeError(f"the event at {event.position} has no commit time")
    return to_micros(event.time)
