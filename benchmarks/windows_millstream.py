"""Millstream over the events of the windows benchmark: `python -m benchmarks.windows_millstream COUNT RATE`.

The events stand in a log on disk, in batches as a busy gateway commits them. A server runs on a copy of it, without
workers; the worker, the real one, runs in this process, connected to the server as any worker is. Its group is wrapped
to note when it first asks for events, and when the commit returns that has reached their end. Prints the seconds
between the two, as a JSON list.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from benchmarks import events
from benchmarks.events import Events
from benchmarks.peers import CACHE
from benchmarks.process import unwind_on_sigterm
from benchmarks.servers import serve_app
from benchmarks.windows_app import app, telemetry
from millstream.clock import SystemClock
from millstream.event import Event, to_columns
from millstream.log import Group, Poll, Position, Router, Transaction
from millstream.log.contract import Committed, Start
from millstream.log.sqlite import RemoteLog, SqliteLog
from millstream.log.sqlite.schema import FORMAT_VERSION
from millstream.runtime.bus import connect
from millstream.runtime.endpoint import socket_path
from millstream.runtime.loop import run_in_loop
from millstream.runtime.memory import keep_freed_memory
from millstream.runtime.topics import BusTopics
from millstream.settings import LogSettings, Settings
from millstream.topic import Filter
from millstream.worker import Worker

_FILL_EVENTS = 16_384  # in a commit: what a gateway gathers in a few hundredths of a second under full load
_RUN_SECONDS = 300


class Watch:
    """When the first events were asked for, and when all of them were committed. `ends` are the partitions' ends."""

    def __init__(self, ends: Mapping[int, int]) -> None:
        self.began = 0.0
        self.ended = 0.0
        self.done = asyncio.Event()
        self._ends = ends
        self._lows: dict[int, int] = {}

    def begin(self) -> None:
        self.began = self.began or time.perf_counter()

    def committed(self, lows: Mapping[int, int]) -> None:
        self._lows.update(lows)
        if not self.ended and all(self._lows.get(partition, 0) >= end for partition, end in self._ends.items()):
            self.ended = time.perf_counter()
            self.done.set()


class WatchedTransaction:
    """A transaction whose positions and commit are noted."""

    def __init__(self, inner: Transaction, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch
        self._lows: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def position(self, stream: str, partition: int, position: Position) -> None:
        self._lows[partition] = position.low
        self._inner.position(stream, partition, position)

    async def commit(self) -> Committed:
        committed = await self._inner.commit()
        self._watch.committed(self._lows)
        return committed


class WatchedGroup:
    """A group whose first poll is noted."""

    def __init__(self, inner: Group, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def poll(self, limit_bytes: int, timeout: float | None = None, pause: bool = False) -> Poll:
        self._watch.begin()
        return await self._inner.poll(limit_bytes, timeout, pause)

    def transaction(self) -> Transaction:
        return cast(Transaction, WatchedTransaction(self._inner.transaction(), self._watch))


class WatchedLog:
    """A log whose groups are watched."""

    def __init__(self, inner: RemoteLog, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def join(self, group: str, streams: list[str], *, start: Start, topics: Filter | None = None) -> Group:
        return cast(
            Group, WatchedGroup(await self._inner.join(group, streams, start=start, topics=topics), self._watch)
        )


async def fill(made: Events) -> Path:
    """The folder of a log that holds the events, from the cache or made now."""
    folder = made.folder / f"log-{FORMAT_VERSION}"  # a Millstream of another format makes its own
    complete = made.folder / f"log-{FORMAT_VERSION}-complete"
    if complete.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    log = await SqliteLog.open(folder, LogSettings(), SystemClock())
    try:
        await log.create(telemetry.spec)
        router = Router([telemetry.spec])
        for batch in _batches(made):
            transaction = log.transaction()
            for stream, partition, columns in router.split(to_columns(batch)):
                transaction.append(stream, partition, columns)
            await transaction.commit()
    finally:
        await log.close()
    complete.touch()
    return folder


def _batches(made: Events) -> Iterator[list[Event]]:
    batch: list[Event] = []
    with made.whole.open("rb") as lines:
        for number, line in enumerate(lines):
            topic = f"site/{number % 10}/{events.device_of(number)}/telemetry"
            batch.append(Event(topic=topic, payload=line.rstrip(b"\n")))
            if len(batch) == _FILL_EVENTS:
                yield batch
                batch = []
    if batch:
        yield batch


async def work(folder: Path, results: Path | None) -> float:
    """Run the worker until everything is committed; the seconds that it took."""
    keep_freed_memory()  # as a worker's process does
    settings = Settings(data=folder)
    peer = await connect(socket_path(folder))
    log = RemoteLog(peer, folder)
    try:
        partitions = range(telemetry.spec.partitions)
        watch = Watch({number: (await log.bounds(telemetry.name, number)).next for number in partitions})
        topics = BusTopics()
        await topics.attach(peer)
        async with Worker(app, cast(Any, WatchedLog(log, watch)), topics, SystemClock(), settings):
            await asyncio.wait_for(watch.done.wait(), _RUN_SECONDS)
        if results:
            await _write(log, results)
    finally:
        await log.close()
        await peer.close()
    return watch.ended - watch.began


async def _write(log: RemoteLog, results: Path) -> None:
    """What the query has published, as JSON lines."""
    with results.open("wb") as file:
        for partition in range((await log.streams())["averages"].partitions):
            offset = -1
            batch = await log.read("averages", partition, 0)
            while batch.next_offset > offset:
                offset = batch.next_offset
                file.writelines(event.payload + b"\n" for event in batch)
                batch = await log.read("averages", partition, offset)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="events, a multiple of the devices")
    parser.add_argument("rate", type=int, help="events of a device a second")
    parser.add_argument("--results", type=Path, help="where to write what the query found")
    options = parser.parse_args()
    unwind_on_sigterm()
    filled = asyncio.run(fill(events.make(options.count, options.rate)))
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as name:
        folder = Path(name).absolute()
        data = shutil.copytree(filled, folder / "data")
        with serve_app("windows_app.py", data, folder / "output", workers=0):
            print(json.dumps([run_in_loop(work(data, options.results))]))


if __name__ == "__main__":
    main()
