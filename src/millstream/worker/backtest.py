"""A query over what a stream holds, beside everything that runs: nothing is committed, and only who asked sees it.

The plan and the engine are those of a live query, and what is read is what a live one read, so both come to the same
results (`docs/backtest.md` says within which limits). Steps are as large as memory allows: history is read as fast as
the machine can.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import SECOND, Micros
from millstream.engine import WindowPlan, processor_of
from millstream.engine.looped import LoopedQuery
from millstream.engine.silence import with_ticks
from millstream.engine.step import Step
from millstream.event import Batch, Tick
from millstream.log import Log
from millstream.log.records import NO_EVENTS
from millstream.worker.addressed import in_pieces
from millstream.worker.references import Histories, versions_for
from millstream.worker.stored import spec_of

_ROUND_BYTES = 32 << 20  # payload a step, over all partitions
_LEAST_BYTES = 1 << 16  # of a partition
_ENDS = 2  # ticks at the end of the span: at the first partitions pass it, and at the second they follow each other
_LATENESS: Micros = 300 * SECOND  # how much earlier it begins than the windows that are open at its start


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, by the time at which events were committed. `since` is None for everything there is."""

    since: Micros | None
    until: Micros


@dataclass(slots=True)
class _Reading:
    """How far a partition is read: at `offset`, up to `end`, behind which everything was committed at `until` or later.
    `last` is the time of the last event that was read; it has `ended` when the end is told."""

    stream: str
    partition: int
    offset: int
    end: int
    until: Micros
    last: Micros | None = None
    ended: bool = False


class Backtest:
    """One query over a span of its stream. `counts` are those of `Step`, `histories` those of reference data that it
    joins events with."""

    def __init__(self, log: Log, plan: WindowPlan, span: Span, histories: Histories | None = None) -> None:
        self.plan = plan
        self._histories = histories or {}
        self.counts: Counter[str] = Counter()
        self._log = log
        self._span = span
        # after a record something of it may fall due
        self._reach = max(plan.reach + plan.grace + plan.idle, plan.early) + SECOND
        self._before = self._reach + sum(lookback.reach for lookback in plan.lookbacks)  # each level looks back further
        self._processor = LoopedQuery(plan) if plan.regroups else processor_of(plan)

    @property
    def events(self) -> int:
        """How many events of the span were read."""
        return self.counts.total()

    async def run(self, passed: Callable[[int, int], None]) -> AsyncIterator[pa.RecordBatch]:
        """What the query would have published, in order for each key (columns of `EVENT_SCHEMA`). `passed` is told how
        many records of how many are read.

        It begins early enough for the windows that are open at the start to be whole; what closes before the start is
        left out. Windows of so many events are counted from the start on. `UnknownStreamError`: its stream is not
        there."""
        before, within = await self._readings()
        of = sum(reading.end - reading.offset for reading in (*before, *within))

        def tell() -> None:
            passed(of - sum(reading.end - reading.offset for reading in (*before, *within)), of)

        for partition in {reading.partition for reading in before}:
            self._processor.restore(partition, {})
        async for batches in self._rounds(before):
            async for _ in self._run(batches):
                pass
            tell()
        for reading, earlier in zip(within, before, strict=True):
            reading.last = earlier.last
        async for batches in self._rounds(within):
            async for outputs in self._results(batches):
                yield outputs
            tell()
        if self.plan.join is None:
            async for outputs in self._results([self._silence(reading) for reading in within]):
                yield outputs
        for _ in range(_ENDS if self.plan.regroups else 0):
            async for outputs in self._results([self._end(reading) for reading in within]):
                yield outputs

    async def _run(self, batches: list[Batch]) -> AsyncIterator[Step]:
        versions = await versions_for(self.plan.lookups, self._histories, batches)
        if versions is not None:
            self._processor.refer(versions)
        for piece in in_pieces(batches, self.plan.name):
            if piece.resets is not None:
                self._processor.reset(piece.batches[0].partition, piece.resets)
            else:
                yield await asyncio.to_thread(self._processor.step, piece.batches)

    async def _results(self, batches: list[Batch]) -> AsyncIterator[pa.RecordBatch]:
        async for step in self._run(batches):
            self.counts.update(step.counts)
            if step.outputs is not None and step.outputs.num_rows:
                yield step.outputs

    async def _readings(self) -> tuple[list[_Reading], list[_Reading]]:
        """What is read before the span, and what in it."""
        log, since = self._log, self._span.since
        before, within = [], []
        partitions = range((await spec_of(log, self.plan)).partitions)
        for stream, number in itertools.product(self.plan.streams, partitions):
            end = await log.offset_at(stream, number, self._span.until)
            begin = (await log.bounds(stream, number)).first
            early = begin
            if since is not None:
                begin = await log.offset_at(stream, number, since)
                early = await log.offset_at(stream, number, since - self._before - _LATENESS)
            early = begin if self.plan.counts is not None else early  # a window has so many events, from the first on
            before.append(_Reading(stream, number, min(early, end), min(begin, end), since or 0))
            within.append(_Reading(stream, number, min(begin, end), end, self._span.until))
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
        active = [one for one in readings if one.offset < one.end]
        if self.plan.join is not None:
            active = _behind([one for one in readings if not one.ended])
        limit = max(_ROUND_BYTES // max(1, len(active)), _LEAST_BYTES)
        read = [await self._read_one(reading, limit) for reading in active]
        if active and self.plan.regroups:  # the others would have to be waited for until the end
            read += [self._end(reading) for reading in readings if reading not in active]
        return read

    async def _read_one(self, reading: _Reading, limit_bytes: int) -> Batch:
        batch = Batch(reading.stream, reading.partition, NO_EVENTS, reading.end)
        if reading.offset < reading.end:
            batch = await self._log.read(reading.stream, reading.partition, reading.offset, limit_bytes=limit_bytes)
        if batch.next_offset > reading.end:  # committed later than the span
            events = batch.events.filter(pc.less(batch.events.column("offset"), reading.end))
            batch = replace(batch, events=events, next_offset=reading.end)
        reading.offset = batch.next_offset if batch.next_offset > reading.offset else reading.end
        if self.plan.join is None:
            batch = with_ticks(batch, reading.last, None, self._reach)
        else:  # no tick closes what another one would not, so one is enough
            reading.ended = reading.offset == reading.end
            ticks = (Tick(reading.end, reading.until // SECOND * SECOND),) if reading.ended else ()
            batch = replace(batch, ticks=ticks)
        if len(batch):
            reading.last = int(batch.times[-1])
        return batch

    def _end(self, reading: _Reading) -> Batch:
        """The end of the span, as a tick."""
        tick = Tick(reading.end, self._span.until)
        return Batch(self.plan.stream, reading.partition, NO_EVENTS, reading.end, (tick,))

    def _silence(self, reading: _Reading) -> Batch:
        """The ticks between a partition's last event and the end of the span."""
        nothing = Batch(reading.stream, reading.partition, NO_EVENTS, reading.end)
        return with_ticks(nothing, reading.last, self._span.until, self._reach)


def _behind(readings: list[_Reading]) -> list[_Reading]:
    """Of the partitions of equal number in two streams the one that is read less far in time: so a join keeps no more
    than one that keeps up."""
    first: dict[int, _Reading] = {}
    for reading in sorted(readings, key=lambda reading: reading.last or 0):
        first.setdefault(reading.partition, reading)
    return list(first.values())
