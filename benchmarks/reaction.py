"""From an event in the log to the result in the log, by the load, with one, fifty and a hundred queries on the stream.

Everything in the log has the time of its commit, and the result of a query without a window has an id with the place of
its event: so the log itself tells afterwards how long each took. This process appends to the log as another worker
would, every 10 ms as many readings as are due; it shares the machine's cores with the server and its one worker. The
capacity is how fast the worker, with these queries, works off as much as one can append at once.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.peers import CACHE
from benchmarks.process import RunError, family, resident_bytes
from benchmarks.reaction_app import ANSWERED
from benchmarks.report import Section
from benchmarks.servers import serve_app
from millstream.event import Event, to_columns
from millstream.log import Router
from millstream.log.sqlite import RemoteLog
from millstream.runtime.bus import connect
from millstream.runtime.endpoint import socket_path
from millstream.runtime.loop import run_in_loop

QUERIES = (1, 50, 100)
SHARES = (0.01, 0.5, 0.9)  # of the capacity

_DEVICES = 1_000
_MADE = 8 * 16_384  # readings, which go round
_BATCH = 16_384  # events of a commit, when the capacity is measured
_TICK_SECONDS = 0.01
_WAIT_SECONDS = 120.0


class Effort(NamedTuple):
    """How many readings tell the capacity, and how long each rate is kept up, at first without a look at it."""

    backlog: int
    warm_up: float
    seconds: float


THOROUGH = Effort(64 * _BATCH, 2, 10)
QUICK = Effort(32 * _BATCH, 1, 3)


def run(quick: bool) -> Section:
    """Measure every load, with each number of queries."""
    effort = QUICK if quick else THOROUGH
    rows = []
    for queries in QUERIES:
        capacity = _measure(queries, None, effort).rate
        for share in SHARES:
            rate = max(100, round(capacity * share))
            found = _measure(queries, rate, effort)
            p50, p99 = (f"{np.percentile(found.spans, p) / 1000:.1f} ms" for p in (50, 99))
            memory = f"{found.memory / 2**20:,.0f} MB"
            print(f"reaction: {queries} queries, {rate:,} a second: {p50}, {p99}, {memory}", file=sys.stderr)
            rows.append([str(queries), f"{share:.0%} of {capacity:,.0f}/s", f"{rate:,}/s", p50, p99, memory])
    note = (
        f"Each query answers one reading in {ANSWERED}; the times are those of all answers in {effort.seconds:g} s. "
        "The memory is what the server, its worker and their supervisor have resident at the end."
    )
    return Section("reaction", ("queries", "load", "readings", "p50", "p99", "memory"), rows, notes=[note])


class _Measured(NamedTuple):
    """How many readings a second were worked off, how long each answer took, in microseconds, and the memory."""

    rate: float
    spans: npt.NDArray[np.int64]
    memory: int


def _measure(queries: int, rate: int | None, effort: Effort) -> _Measured:
    """At a rate, or (None) with a backlog. Raises `RunError`."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as name:
        folder = Path(name).absolute()
        data, output = folder / "data", folder / "output"
        with serve_app("reaction_app.py", data, output, workers=1, environment={"REACTION": str(queries)}) as server:
            worked_off, spans = run_in_loop(_work(data, queries, rate, effort))
            return _Measured(worked_off, spans, resident_bytes(family(server.pid)))


async def _work(folder: Path, queries: int, rate: int | None, effort: Effort) -> tuple[float, npt.NDArray[np.int64]]:
    peer = await connect(socket_path(folder))
    log = RemoteLog(peer, folder)
    try:
        router = Router((await log.streams()).values())
        made = _readings()
        await _until_read(log, queries)
        if rate is None:
            sent = effort.backlog
            await asyncio.gather(*(_append(log, router, made, start, _BATCH) for start in range(0, sent, _BATCH)))
        else:
            sent = await _keep_up(log, router, made, rate, effort)
        await _until_read(log, queries)
        came = await _times(log, "readings")
        first, last = min(came.values()), 0
        spans = []
        for number in range(queries):
            for place, at in (await _times(log, f"answers{number}")).items():
                event = came[place.removeprefix(f"answers{number}:")]
                last = max(last, at)
                if event - first >= effort.warm_up * 1_000_000:
                    spans.append(at - event)
        return sent * 1_000_000 / (last - first), np.array(spans, np.int64)
    finally:
        await log.close()
        await peer.close()


async def _keep_up(log: RemoteLog, router: Router, made: pa.RecordBatch, rate: int, effort: Effort) -> int:
    """Append what is due, for as long as that takes; how many."""
    began, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - began) < effort.warm_up + effort.seconds:
        due = int(now * rate) - sent
        if due:
            await _append(log, router, made, sent, due)
            sent += due
        await asyncio.sleep(max(0.0, began + now + _TICK_SECONDS - time.perf_counter()))
    return sent


async def _append(log: RemoteLog, router: Router, made: pa.RecordBatch, start: int, count: int) -> None:
    """Append so many of the readings that were made, which go round, from this one on."""
    while count > 0:
        rows = made.slice(start % made.num_rows, count)
        transaction = log.transaction()
        for append in router.split(rows).appends:
            transaction.append(*append)
        await transaction.commit()
        start, count = start + rows.num_rows, count - rows.num_rows


def _readings() -> pa.RecordBatch:
    """As many as are worth making beforehand, so that the generator takes little of the cores."""
    return to_columns(
        Event(topic=f"readings/{n % _DEVICES}", payload=b'{"n":%d,"celsius":21.5}' % n) for n in range(_MADE)
    )


async def _until_read(log: RemoteLog, queries: int) -> None:
    """Wait until every query has a worker, and has read everything."""
    deadline = time.perf_counter() + _WAIT_SECONDS
    while True:
        groups = [group for group in await log.groups() if group.name.startswith("answers")]
        if len(groups) == queries and all(group.members and not sum(group.lag.values()) for group in groups):
            return
        if time.perf_counter() > deadline:
            raise RunError(f"{queries} queries do not come to an end")
        await asyncio.sleep(0.05)


async def _times(log: RemoteLog, stream: str) -> dict[str, int]:
    """When everything in a stream was committed, by the id of a result, or the place of an event."""
    found: dict[str, int] = {}
    for partition in range((await log.streams())[stream].partitions):
        offset, end = 0, (await log.bounds(stream, partition)).next
        while offset < end:
            batch = await log.read(stream, partition, offset)
            ids = batch.events.column("id").to_pylist()
            offsets = batch.events.column("offset").to_pylist()
            times = batch.events.column("time").view("int64").to_pylist()
            for id_, place, at in zip(ids, offsets, times, strict=True):
                found[id_ or f"{stream}:{partition}:{place}"] = at
            offset = batch.next_offset
    return found
