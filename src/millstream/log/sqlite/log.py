"""The embedded log, in the process that owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import apsw
import pyarrow as pa

from millstream.clock import Clock, Micros
from millstream.errors import DiskFaultError, DiskFullError
from millstream.event import Batch
from millstream.log.contract import LATEST, Accounts, Bounds, Commits, GroupStatus, Start, StreamSpec
from millstream.log.sqlite.core import Core
from millstream.log.sqlite.folder import Ballast, FolderLock
from millstream.log.sqlite.measures import read_streams
from millstream.log.sqlite.member import Member
from millstream.log.sqlite.place import Cursor, Place
from millstream.log.sqlite.reader import Reader
from millstream.log.sqlite.reads import FileReads, read_batch
from millstream.log.sqlite.schema import FILE_NAME, abandon, open_memory, open_writer, unusable
from millstream.log.sqlite.store import Store
from millstream.log.sqlite.transaction import SqliteDraft
from millstream.metrics import Reading
from millstream.settings import LogSettings
from millstream.topic import Filter


class SqliteLog:
    """See `millstream.log.contract.Log`. Made by `open` or `memory`."""

    commits = Commits.DISK

    def __init__(self, core: Core, store: Store, lock: FolderLock | None) -> None:
        self.core = core
        self._store = store
        self._lock = lock
        self._closed = False

    @classmethod
    async def open(cls, folder: Path, settings: LogSettings, clock: Clock, *, vfs: str | None = None) -> SqliteLog:
        """Open the log in a data folder, which is made if there is none.

        `DataFolderError`: another server uses it, it is of another format version, or it cannot be used.
        `DiskFullError`: there is no room even after the ballast was given up. `vfs` names a
        VFS of apsw that reads and writes instead of the system's, for tests of faults; other processes cannot read
        such a log."""
        lock = FolderLock(folder)
        ballast = Ballast(folder, settings.ballast_bytes)
        try:
            store = await asyncio.to_thread(_open, folder, settings, clock, vfs, ballast)
        except BaseException:
            lock.release()
            raise
        reads = FileReads(folder / FILE_NAME) if vfs is None else None
        return cls(Core(store, clock, reads, ballast), store, lock)

    @classmethod
    async def memory(cls, clock: Clock) -> SqliteLog:
        """A new log in memory, for tests: the same engine, which keeps nothing."""
        store = Store(open_memory(), LogSettings(), clock)
        return cls(Core(store, clock), store, None)

    async def close(self) -> None:
        """Finish what is being committed and close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self.core.close()
        await asyncio.to_thread(self._store.close)
        if self._lock is not None:
            self._lock.release()

    def on_fault(self, callback: Callable[[DiskFaultError], None]) -> None:
        """Call back when a write or fsync has failed: the process must exit, and recover at its next start."""
        self.core.on_fault.append(callback)

    def on_show(
        self, show: Callable[[pa.RecordBatch], None], hears: Callable[[Collection[str]], bool] = lambda topics: True
    ) -> None:
        """Who is given, in the event loop, what transactions show (see `Transaction.show`). Until then nobody is. What
        is on topics none of which it `hears` need not be shown: another process's is then not unpacked for it."""
        self.core.show, self.core.hears = show, hears

    @property
    def is_busy(self) -> bool:
        """Whether something that was asked of the log has no answer yet. A log in memory counts reads."""
        return self.core.writer.pending > 0

    async def drain(self) -> None:
        """Return when it is not busy any more, and whoever asked has been told."""
        while self.is_busy:
            await self.core.writer.call(lambda store: None)

    async def measure(self, reading: Reading) -> None:
        """Add what the log measures to a reading. It waits for nothing, so a disk that hangs does not hide itself."""
        self._store.measures.read(reading)
        read_streams(self._store.index, reading)

    # --- streams

    async def create(self, spec: StreamSpec) -> None:
        await self.core.create(spec)

    async def drop(self, name: str) -> None:
        await self.core.drop(name)

    async def streams(self) -> Mapping[str, StreamSpec]:
        return self.core.catalog.specs

    def watch_streams(self, changed: Callable[[Mapping[str, StreamSpec]], None]) -> None:
        self.core.watch_streams(changed)

    # --- records

    def ends(self) -> Mapping[Place, int]:
        """`Bounds.next` of every partition, by stream and number, as far as the event loop was told."""
        return self.core.ends

    async def read(
        self, stream: str, partition: int, offset: int, *, limit_bytes: int = 1 << 20, wait: float | None = 0.0
    ) -> Batch:
        cursor = Cursor(stream, partition, offset)
        return await read_batch(self.core.reads, self.core.beyond, self.core.clock, cursor, limit_bytes, wait)

    async def bounds(self, stream: str, partition: int) -> Bounds:
        return await self.core.reads.run(lambda reader: reader.bounds(stream, partition))

    async def offset_at(self, stream: str, partition: int, time: Micros) -> int:
        return await self.core.reads.run(lambda reader: reader.offset_at(stream, partition, time))

    def transaction(self) -> SqliteDraft:
        return SqliteDraft(self.core.commit)

    # --- groups

    async def join(
        self,
        group: str,
        streams: Sequence[str],
        *,
        start: Start = LATEST,
        topics: Filter | None = None,
        columns: Collection[str] | None = None,
    ) -> Member:
        member, counts = await self.core.join(group, streams, start)
        return Member(group, member, counts, self.core, topics)

    async def state(self, group: str, partition: int) -> Mapping[str, bytes]:
        return await self.core.state(group, partition)

    async def groups(self) -> Sequence[GroupStatus]:
        return await self.core.groups()

    async def accounts(self) -> Accounts:
        return await self.core.reads.run(Reader.accounts)


def _open(folder: Path, settings: LogSettings, clock: Clock, vfs: str | None, ballast: Ballast) -> Store:
    try:
        return _open_store(folder / FILE_NAME, settings, clock, vfs)
    except DiskFullError:
        ballast.free()
        return _open_store(folder / FILE_NAME, settings, clock, vfs)


def _open_store(path: Path, settings: LogSettings, clock: Clock, vfs: str | None) -> Store:
    db = open_writer(path, vfs)
    try:
        return Store(db, settings, clock)
    except BaseException as error:
        abandon(db)
        if isinstance(error, apsw.Error):
            raise unusable(path, error) from error
        raise
