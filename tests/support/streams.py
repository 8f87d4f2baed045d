"""Batches as a log reads them, and publishing as the gateway does it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa

from millstream.clock import Micros
from millstream.event import BATCH_SCHEMA, Batch, Event, Tick, to_columns
from millstream.log import Committed, Log, Router

PATIENCE_SECONDS = 60.0  # for what takes milliseconds on an idle machine


def make_batch(
    events: Sequence[Event],
    offsets: Sequence[int] | None = None,
    *,
    stream: str = "telemetry",
    partition: int = 0,
    next_offset: int | None = None,
    ticks: tuple[Tick, ...] = (),
    time: Micros = 0,
) -> Batch:
    """Events (with keys) as a batch, by default at the offsets from 0 on."""
    numbers = list(range(len(events))) if offsets is None else list(offsets)
    columns = pa.RecordBatch.from_arrays(
        [
            pa.array(numbers, pa.int64()),
            pa.array([time] * len(events), pa.timestamp("us", tz="UTC")),
            *to_columns(events).columns,
        ],
        schema=BATCH_SCHEMA,
    )
    after = next_offset if next_offset is not None else numbers[-1] + 1 if numbers else 0
    return Batch(stream, partition, columns, after, ticks)


async def publish(log: Log, events: Iterable[Event]) -> Committed:
    """Append to every stream that captures, in one transaction."""
    router = Router((await log.streams()).values())
    transaction = log.transaction()
    for stream, partition, rows in router.split(to_columns(events)).appends:
        transaction.append(stream, partition, rows)
    return await transaction.commit()


async def read_all(log: Log, stream: str) -> list[Event]:
    """Everything that is in a stream, partition by partition."""
    events: list[Event] = []
    for partition in range((await log.streams())[stream].partitions):
        offset = (await log.bounds(stream, partition)).first
        while batch := await log.read(stream, partition, offset):
            events += batch
            offset = batch.next_offset
    return events


async def eventually(condition: Callable[[], object], what: str = "the condition") -> None:
    """Return when `condition` holds; it may be a coroutine function."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.001)
    raise AssertionError(f"{what} does not hold after {PATIENCE_SECONDS:g} s")
