"""The windows that a query has open, as they would come out if they closed now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import Clock
from millstream.engine import CountedQuery, JoinQuery, WindowPlan, processor_of
from millstream.engine.looped import LoopedQuery
from millstream.engine.silence import LONG
from millstream.event import Batch, Tick
from millstream.log import Log
from millstream.log.records import NO_EVENTS
from millstream.worker.stored import spec_of


@dataclass(frozen=True, slots=True)
class OpenWindows:
    """Those of one partition number (of a query that regroups, all stand with the first): results so far (columns of
    `EVENT_SCHEMA`; None: no window is open), how many events are kept for others to look back to, and the state that is
    saved for all of it."""

    partition: int
    results: pa.RecordBatch | None
    kept: int
    chunks: int
    size: int


async def open_windows(log: Log, plan: WindowPlan, clock: Clock) -> AsyncIterator[OpenWindows]:
    """Partition by partition, as of the query's last commit. What `HAVING` would leave out is there too. Of a join, it
    is the events that wait for others; of windows of so many events, those that they have.

    The saved state is given to an engine of its own, whose windows a tick in the far future closes.
    `UnknownStreamError`: the query's stream is not there. `QueryError`: the saved state is of another query of this
    name."""
    spec = await spec_of(log, plan)
    if plan.regroups:
        async for opened in _regrouped(log, replace(plan, having=None), clock, spec.partitions):
            yield opened
        return
    processor = processor_of(replace(plan, having=None, early=0))
    if isinstance(processor, JoinQuery | CountedQuery):
        async for waiting in _waiting(log, processor, spec.partitions):
            yield waiting
        return
    for partition in range(spec.partitions):
        chunks = await log.state(plan.name, partition)
        processor.restore(partition, chunks)
        tick = Batch(plan.stream, partition, NO_EVENTS, 1, (Tick(0, clock.now() + LONG),))
        kept = processor.kept(partition)
        step = await asyncio.to_thread(processor.step, [tick])
        processor.forget(partition)
        yield OpenWindows(partition, step.outputs, kept, len(chunks), sum(map(len, chunks.values())))


async def _regrouped(log: Log, plan: WindowPlan, clock: Clock, partitions: int) -> AsyncIterator[OpenWindows]:
    """All at once, because any partition may have brought something to a window. At the first tick partitions close
    what they know of, at the second they follow each other. Early results that come of it are left out."""
    processor, saved = LoopedQuery(plan), []
    for partition in range(partitions):
        saved.append(await log.state(plan.name, partition))
        processor.restore(partition, saved[-1])
    found = []
    for number in (1, 2):
        tick = Tick(0, clock.now() + number * LONG)
        ticks = [Batch(plan.stream, partition, NO_EVENTS, 1, (tick,)) for partition in range(partitions)]
        step = await asyncio.to_thread(processor.step, ticks)
        if step.outputs is not None:
            final = step.outputs.filter(pc.not_equal(step.outputs.column("topic"), plan.updates))
            found += [final] if final.num_rows else []
    for partition, chunks in enumerate(saved):
        results = pa.concat_batches(found) if found and partition == 0 else None
        size = sum(map(len, chunks.values()))
        yield OpenWindows(partition, results, processor.kept(partition), len(chunks), size)


async def _waiting(log: Log, processor: JoinQuery | CountedQuery, partitions: int) -> AsyncIterator[OpenWindows]:
    for partition in range(partitions):
        chunks = await log.state(processor.plan.name, partition)
        processor.restore(partition, chunks)
        kept = processor.kept(partition)
        found = await asyncio.to_thread(processor.waiting, partition)
        processor.forget(partition)
        yield OpenWindows(partition, found, kept, len(chunks), sum(map(len, chunks.values())))
