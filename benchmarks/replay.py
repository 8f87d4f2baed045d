"""An application's worker over a stream that is in the log already: how long until all of it is committed.

A server runs on a copy of the log, without workers; the worker, the real one, runs in this process, connected to the
server as any worker is. Its group is wrapped to note when it first asks for events, and when the commit returns that
has reached their end.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from benchmarks.peers import CACHE
from benchmarks.servers import serve_app
from millstream.app import App, Stream
from millstream.clock import SystemClock
from millstream.event import Event, to_columns
from millstream.log import Group, Poll, Position, Router, Transaction
from millstream.log.contract import Committed
from millstream.log.sqlite import RemoteLog, SqliteLog
from millstream.log.sqlite.schema import FORMAT_VERSION
from millstream.runtime.bus import connect
from millstream.runtime.endpoint import socket_path
from millstream.runtime.loop import run_in_loop
from millstream.runtime.memory import collect_rarely, keep_freed_memory
from millstream.runtime.topics import BusTopics
from millstream.settings import LogSettings, Settings
from millstream.worker import Worker

FILL_EVENTS = 16_384
"""In a commit: what a gateway gathers in a few hundredths of a second under full load."""

_RUN_SECONDS = 300


class Watch:
    """When the first events of a stream were asked for, and when all of them were committed. `ends` are the partitions'
    ends."""

    def __init__(self, stream: str, ends: Mapping[int, int]) -> None:
        self.stream = stream
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
        if stream == self._watch.stream:
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

    async def join(self, group: str, streams: list[str], **more: Any) -> Group:
        return cast(Group, WatchedGroup(await self._inner.join(group, streams, **more), self._watch))


def fill(folder: Path, stream: Stream, batches: Iterable[list[Event]]) -> Path:
    """The folder of a log whose stream holds the events, below `folder`: there already, or made now."""
    log = folder / f"log-{FORMAT_VERSION}"  # a Millstream of another format makes its own
    complete = folder / f"log-{FORMAT_VERSION}-complete"
    if not complete.exists():
        shutil.rmtree(log, ignore_errors=True)
        asyncio.run(_fill(log, stream, batches))
        complete.touch()
    return log


async def _fill(folder: Path, stream: Stream, batches: Iterable[list[Event]]) -> None:
    log = await SqliteLog.open(folder, LogSettings(), SystemClock())
    try:
        await log.create(stream.spec)
        router = Router([stream.spec])
        for batch in batches:
            transaction = log.transaction()
            for name, partition, columns in router.split(to_columns(batch)).appends:
                transaction.append(name, partition, columns)
            await transaction.commit()
    finally:
        await log.close()


def replay(app: App, file: str, stream: Stream, filled: Path, answer: str, results: Path | None) -> float:
    """The seconds that the app's worker takes for the stream; `file` is where the server finds the app. What is in the
    stream `answer` then is written to `results`, as JSON lines."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="data-") as name:
        folder = Path(name).absolute()
        data = shutil.copytree(filled, folder / "data")
        with serve_app(file, data, folder / "output", workers=0):
            return run_in_loop(_work(app, stream, data, answer, results))


async def _work(app: App, stream: Stream, folder: Path, answer: str, results: Path | None) -> float:
    keep_freed_memory()  # as a worker's process does
    collect_rarely()
    settings = Settings(data=folder)
    peer = await connect(socket_path(folder))
    log = RemoteLog(peer, folder)
    try:
        partitions = range(stream.spec.partitions)
        watch = Watch(stream.name, {number: (await log.bounds(stream.name, number)).next for number in partitions})
        topics = BusTopics()
        await topics.attach(peer)
        async with Worker(app, cast(Any, WatchedLog(log, watch)), topics, SystemClock(), settings):
            await asyncio.wait_for(watch.done.wait(), _RUN_SECONDS)
            while any(sum(group.lag.values()) for group in await log.groups()):
                await asyncio.sleep(0.01)
                watch.ended = time.perf_counter()
        if results:
            await _write(log, answer, results)
    finally:
        await log.close()
        await peer.close()
    return watch.ended - watch.began


async def _write(log: RemoteLog, stream: str, results: Path) -> None:
    with results.open("wb") as file:
        for partition in range((await log.streams())[stream].partitions):
            offset = -1
            batch = await log.read(stream, partition, 0)
            while batch.next_offset > offset:
                offset = batch.next_offset
                file.writelines(event.payload + b"\n" for event in batch)
                batch = await log.read(stream, partition, offset)
