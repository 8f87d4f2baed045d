"""Reading any partition of a stream, without a group."""

from __future__ import annotations

import asyncio

from confluent_kafka import Message

from millstream.clock import Clock, Micros
from millstream.errors import UnknownStreamError
from millstream.event import Batch
from millstream.log.contract import Bounds
from millstream.log.kafka.arrivals import Arrivals
from millstream.log.kafka.calls import Calls
from millstream.log.kafka.decoding import decode
from millstream.log.kafka.directory import Directory
from millstream.log.kafka.reader import Reader
from millstream.log.records import NO_EVENTS


class Reading:
    """See the contract of the log for each of its methods."""

    def __init__(self, clock: Clock, directory: Directory, arrivals: Arrivals, reader: tuple[Reader, Calls]) -> None:
        self._clock = clock
        self._directory = directory
        self._arrivals = arrivals
        self._reader, self._calls = reader

    async def read(self, stream: str, partition: int, offset: int, limit_bytes: int, wait: float | None) -> Batch:
        """Records from an offset on; waits for them."""
        deadline = None if wait is None else self._clock.monotonic() + wait
        while True:
            topic = await self._directory.topic(stream, partition)
            messages, next_offset = await self._read(topic, stream, partition, offset, limit_bytes)
            records = decode(stream, messages) if messages else None
            if records is not None and (len(records) or len(records.tick_offsets)):
                return Batch(stream, partition, records.events, next_offset, records.ticks)
            left = None if deadline is None else deadline - self._clock.monotonic()
            if next_offset > offset or (left is not None and left <= 0):
                return Batch(stream, partition, NO_EVENTS, next_offset)
            await self._beyond((topic, partition), offset, left)

    async def bounds(self, stream: str, partition: int) -> Bounds:
        """Where a partition begins and ends."""
        topic = await self._directory.topic(stream, partition)
        return await self._calls.run(self._reader.bounds, topic, partition)

    async def offset_at(self, stream: str, partition: int, time: Micros) -> int:
        """The offset of the first record at or after a time."""
        topic = await self._directory.topic(stream, partition)
        return await self._calls.run(self._reader.offset_at, topic, partition, time)

    async def range(self, topic: str, number: int) -> tuple[int, int]:
        """The lowest offset that is left of a topic's partition, and the one after everything that is committed."""
        return await self._calls.run(self._reader.range, topic, number)

    async def _read(
        self, topic: str, stream: str, partition: int, offset: int, limit_bytes: int
    ) -> tuple[list[Message], int]:
        try:
            return await self._calls.run(self._reader.read, topic, partition, offset, limit_bytes)
        except UnknownStreamError:  # dropped by another process a moment ago
            await self._directory.sync()
            await self._directory.stream(stream)
            raise

    async def _beyond(self, place: tuple[str, int], offset: int, timeout: float | None) -> None:
        """Wait until there may be a record at an offset or after it."""
        woken = self._arrivals.watch(place, offset)
        timer = None if timeout is None else asyncio.ensure_future(self._clock.sleep(timeout))
        try:
            await asyncio.wait([woken] if timer is None else [woken, timer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            if timer is not None:
                timer.cancel()
