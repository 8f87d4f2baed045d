"""The windows that a query has open, as they would come out if they closed now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pyarrow as pa

from millstream.clock import Clock
from millstream.engine import WindowedQuery, WindowPlan
from millstream.engine.silence import LONG
from millstream.event import Batch, Tick
from millstream.log import Log
from millstream.log.records import NO_EVENTS
from millstream.worker.stored import spec_of


@dataclass(frozen=True, slots=True)
class OpenWindows:
    """Those of one partition number: results so far (columns of `EVENT_SCHEMA`; None: no window is open), and the state
    that is saved for them."""

    partition: int
    results: pa.RecordBatch | None
    chunks: int
    size: int


async def open_windows(log: Log, plan: WindowPlan, clock: Clock) -> AsyncIterator[OpenWindows]:
    """Partition by partition, as of the query's last commit. What `HAVING` would leave out is there too.

    The saved state is given to an engine of its own, whose windows a tick in the far future closes.
    `UnknownStreamError`: the query's stream is not there. `QueryError`: the saved state is of another query of this
    name."""
    spec = await spec_of(log, plan)
    if not plan.windows:
        return
    processor = WindowedQuery(replace(plan, having=None))
    for partition in range(spec.partitions):
        chunks = await log.state(plan.name, partition)
        processor.restore(partition, chunks)
        tick = Batch(plan.stream, partition, NO_EVENTS, 1, (Tick(0, clock.now() + LONG),))
        step = await asyncio.to_thread(processor.step, [tick])
        processor.forget(partition)
        yield OpenWindows(partition, step.outputs, len(chunks), sum(map(len, chunks.values())))
