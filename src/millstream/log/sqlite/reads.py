"""Where reads run: in a thread with a connection of its own, or through the writer's connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import apsw

from millstream.clock import Clock
from millstream.errors import LogClosedError
from millstream.event import Batch
from millstream.log.records import NO_EVENTS
from millstream.log.sqlite.place import Cursor, Place
from millstream.log.sqlite.reader import Reader
from millstream.log.sqlite.schema import open_reader, read_error
from millstream.log.sqlite.writer import Writer

T = TypeVar("T")


class Reads(Protocol):
    """Runs functions over a reader, one at a time."""

    async def run(self, function: Callable[[Reader], T]) -> T: ...

    async def close(self) -> None: ...


class FileReads:
    """Over one read-only connection to the file: in one thread, or where it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: Reader | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-reader")
        self._reading = threading.Lock()
        self._closed = False

    async def run(self, function: Callable[[Reader], T]) -> T:
        """Raises what the function raises; errors of SQLite as `LogError`."""
        if self._closed:
            raise LogClosedError("the log is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, function)

    def here(self, function: Callable[[Reader], T]) -> T | None:
        """The same in the caller's thread, if nothing is being read now; None: it was not done. For what is little, and
        was written a moment ago, so that it is in memory: the way to a thread and back takes longer than to read it."""
        if self._closed:
            raise LogClosedError("the log is closed")
        if self._reader is None or not self._reading.acquire(blocking=False):
            return None
        try:
            return self._apply(self._reader, function)
        finally:
            self._reading.release()

    async def close(self) -> None:
        """Finish what is being read. Idempotent."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown()

    def _run(self, function: Callable[[Reader], T]) -> T:
        with self._reading:
            if self._reader is None:
                self._reader = Reader(open_reader(self._path))
            return self._apply(self._reader, function)

    def _apply(self, reader: Reader, function: Callable[[Reader], T]) -> T:
        try:
            return function(reader)
        except apsw.Error as error:
            raise read_error(str(self._path), error) from error

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()


class WriterReads:
    """In the writer's thread, between commits: for a log that has no file that others could open."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def run(self, function: Callable[[Reader], T]) -> T:
        """Raises what the function raises."""
        return await self._writer.call(lambda store: function(store.reader))

    async def close(self) -> None:
        """Nothing: the connection is the writer's."""


async def read_batch(
    reads: Reads,
    beyond: Callable[[Mapping[Place, int], float | None], Awaitable[None]],
    clock: Clock,
    cursor: Cursor,
    limit_bytes: int,
    wait: float | None,
) -> Batch:
    """`Log.read` over `reads`; `beyond` waits until there is a record at or after an offset."""
    deadline = None if wait is None else clock.monotonic() + wait
    while True:
        piece = await reads.run(partial(Reader.read, cursor=cursor, limit_bytes=limit_bytes))
        cursor = piece.cursor
        if (batch := piece.batch()) is not None:
            return batch
        left = None if deadline is None else deadline - clock.monotonic()
        if left is not None and left <= 0:
            return Batch(cursor.stream, cursor.partition, NO_EVENTS, cursor.offset)
        await beyond({(cursor.stream, cursor.partition): cursor.offset}, left)
