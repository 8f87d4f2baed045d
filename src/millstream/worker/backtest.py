"""A query over what a stream holds, beside everything that runs: nothing is committed, and only who asked sees it.

The plan and the engine are those of a live query, and what is read is what a live one read, so both come to the same
results (`docs/backtest.md` says within which limits). Steps are as large as memory allows: history is read as fast as
the machine can.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import SECOND, Micros
from millstream.engine import WindowPlan, processor_of
from millstream.engine.silence import with_ticks
from millstream.event import Batch
from millstream.log import Log
from millstream.log.records import NO_EVENTS
from millstream.worker.stored import spec_of

_ROUND_BYTES = 32 << 20  # payload a step, over all partitions
_LEAST_BYTES = 1 << 16  # of a partition
_LATENESS: Micros = 300 * SECOND  # how much earlier it begins than the windows that are open at its start


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, by the time at which events were committed. `since` is None for everything there is."""

    since: Micros | None
    until: Micros


@dataclass(slots=True)
class _Reading:
    """How far a partition is read: at `offset`, up to `end`. `last` is the time of the last event that was read."""

    partition: int
    offset: int
    end: int
    last: Micros | None = None


class Backtest:
    """One query over a span of its stream. `counts` are those of `Step`."""

    def __init__(self, log: Log, plan: WindowPlan, span: Span) -> None:
        self.plan = plan
        self.counts: Counter[str] = Counter()
        self._log = log
        self._span = span
        self._reach = (
            max((window.reach for window in plan.windows), default=0) + plan.grace + plan.idle + SECOND
        )  # so long after a record something of it may fall due
        self._processor = processor_of(plan)

    @property
    def events(self) -> int:
        """How many events of the span were read."""
        return self.counts.total()

    async def run(self, passed: Callable[[int, int], None]) -> AsyncIterator[pa.RecordBatch]:
        """What the query would have published, in order for each key (columns of `EVENT_SCHEMA`). `passed` is told how
        many records of how many are read.

        It begins early enough for the windows that are open at the start to be whole; what closes before the start is
        left out. `UnknownStreamError`: its stream is not there."""
        before, within = await self._readings()
        of = sum(reading.end - reading.offset for reading in (*before, *within))

        def tell() -> None:
            passed(of - sum(reading.end - reading.offset for reading in (*before, *within)), of)

        for reading in before:
            self._processor.restore(reading.partition, {})
        async for batches in self._rounds(before):
            await asyncio.to_thread(self._processor.step, batches)
            tell()
        for reading, earlier in zip(within, before, strict=True):
            reading.last = earlier.last
        async for batches in self._rounds(within):
            if outputs := await self._step(batches):
                yield outputs
            tell()
        if outputs := await self._step([self._silence(reading) for reading in within]):
            yield outputs

    async def _step(self, batches: list[Batch]) -> pa.RecordBatch | None:
        step = await asyncio.to_thread(self._processor.step, batches)
        self.counts.update(step.counts)
        return step.outputs if step.outputs is not None and step.outputs.num_rows else None

    async def _readings(self) -> tuple[list[_Reading], list[_Reading]]:
        """What is read before the span, and what in it."""
        log, stream, since = self._log, self.plan.stream, self._span.since
        before, within = [], []
        for number in range((await spec_of(log, self.plan)).partitions):
            end = await log.offset_at(stream, number, self._span.until)
            begin = (await log.bounds(stream, number)).first
            early = begin
            if since is not None:
                begin = await log.offset_at(stream, number, since)
                early = await log.offset_at(stream, number, since - self._reach - _LATENESS)
            before.append(_Reading(number, min(early, end), min(begin, end)))
            within.append(_Reading(number, min(begin, end), end))
        return before, within

    async def _rounds(self, readings: list[_Reading]) -> AsyncIterator[list[Batch]]:
        """Batches of all partitions, one round after the other. The next one is read while one is processed."""
        reading = asyncio.ensure_future(self._read(readings))
        try:
            while batches := await reading:
                reading = asyncio.ensure_future(self._read(readings))
                yield batches
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, readings: list[_Reading]) -> list[Batch]:
        active = [reading for reading in readings if reading.offset < reading.end]
        limit = max(_ROUND_BYTES // max(1, len(active)), _LEAST_BYTES)
        return [await self._read_one(reading, limit) for reading in active]

    async def _read_one(self, reading: _Reading, limit_bytes: int) -> Batch:
        batch = await self._log.read(self.plan.stream, reading.partition, reading.offset, limit_bytes=limit_bytes)
        if batch.next_offset > reading.end:  # committed later than the span
            events = batch.events.filter(pc.less(batch.events.column("offset"), reading.end))
            batch = replace(batch, events=events, next_offset=reading.end)
        reading.offset = batch.next_offset if batch.next_offset > reading.offset else reading.end
        batch = with_ticks(batch, reading.last, None, self._reach)
        if len(batch):
            reading.last = int(batch.events.column("time").cast(pa.int64())[-1].as_py())
        return batch

    def _silence(self, reading: _Reading) -> Batch:
        """The ticks between a partition's last event and the end of the span."""
        nothing = Batch(self.plan.stream, reading.partition, NO_EVENTS, reading.end)
        return with_ticks(nothing, reading.last, self._span.until, self._reach)
