"""The database behind the registry: one connection that writes, and some that read, each in a thread of its own.

All changes go through one connection, so that they have one order, which is also that of the events about them. SQLite
before 3.51.3 can damage a file in WAL mode that several connections write; this one is safe of that. On PostgreSQL the
connection holds a lock for as long as it lives: a second server would not hear of the first one's changes.

What comes while a transaction is under way is done in the next one, all together: so many changes share one sync of the
disk, as in the log. Each has a savepoint of its own, and one that fails undoes nothing of the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from millstream.devices.engine import Engines, make_engines
from millstream.devices.migrate import migrate
from millstream.errors import DiskFaultError, DiskFullError, RegistryError, RegistryUnavailableError

T = TypeVar("T")

_READERS = 2  # threads
_AT_ONCE = 100  # pieces of work in a transaction
_FULL, _FAULT = 13, 10  # SQLITE_FULL, SQLITE_IOERR
_NO_ROOM = 4874  # SQLITE_IOERR_SHMSIZE: for what SQLite keeps beside the file
_UNUSABLE = {8: "it cannot be written to", 11: "it is damaged", 14: "it cannot be opened", 26: "it is no SQLite file"}


class _Piece(NamedTuple):
    work: Callable[[Connection], Any]
    future: asyncio.Future[Any]


class Database:
    """Made by `open`. What its methods are given runs in a thread, in a transaction."""

    def __init__(self, engines: Engines) -> None:
        self.where = engines.where
        self.dialect = engines.writer.dialect.name
        self._engines = engines
        self._writer = ThreadPoolExecutor(1, "registry-write")
        self._readers = ThreadPoolExecutor(_READERS, "registry-read") if engines.readers is not None else self._writer
        self._held: Connection | None = None
        self._waiting: deque[_Piece] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._fault: Callable[[DiskFaultError], None] = lambda error: None

    @classmethod
    async def open(cls, url: str, folder: Path | None) -> Database:
        """The database of a URL, else the file in a folder, else one in memory; its tables are brought up to date.

        `SettingsError`: a URL of something else. `MissingExtraError`: PostgreSQL, without its driver. `RegistryError`:
        in use, of another version, or unusable. `RegistryUnavailableError`: not reached."""
        database = cls(make_engines(url, folder))
        try:
            await database.write(lambda connection: migrate(connection, database.where))
        except BaseException:
            await database.close()
            raise
        return database

    def on_fault(self, callback: Callable[[DiskFaultError], None]) -> None:
        """Call back, from a thread, when the disk has failed: the process must exit, and recover at its next start."""
        self._fault = callback

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives. It must not change anything."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def write(self, work: Callable[[Connection], T], done: Callable[[T], None] | None = None) -> T:
        """What `work` gives, once it is committed; if it raises, nothing is done. Works are done in the order of the
        calls. `done` is called in the event loop after the commit, also if nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if done is not None:
            future.add_done_callback(lambda its: done(its.result()) if its.exception() is None else None)
        self._waiting.append(_Piece(work, future))
        if self._writing is None:
            self._writing = loop.create_task(self._write_waiting())
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Finish what is under way, and close. Idempotent."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await asyncio.to_thread(self._close)

    async def _write_waiting(self) -> None:
        """Do what waits, some pieces a transaction."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            try:
                outcomes = await loop.run_in_executor(self._writer, self._write_together, [its.work for its in some])
            except BaseException as error:
                outcomes = [error] * len(some)
            for piece, outcome in zip(some, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    piece.future.set_exception(outcome)
                    piece.future.exception()  # perhaps nobody waits for it any more
                else:
                    piece.future.set_result(outcome)
        self._writing = None

    def _close(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        self._let_go()
        self._engines.dispose()

    def _read(self, work: Callable[[Connection], T]) -> T:
        if self._engines.readers is None:
            return self._write(work)
        try:
            with self._engines.readers.connect() as connection, connection.begin():
                return work(connection)
        except DBAPIError as error:
            raise self._explained(error) from error

    def _write_together(self, works: Sequence[Callable[[Connection], Any]]) -> list[Any]:
        """What each gives, or its own error. Raises what concerns all of them, and then nothing is done."""
        if len(works) == 1:
            return [self._write(works[0])]
        return self._write(lambda connection: [self._write_one(connection, work) for work in works])

    def _write_one(self, connection: Connection, work: Callable[[Connection], Any]) -> Any:
        try:
            with connection.begin_nested():
                return work(connection)
        except DBAPIError as error:
            explained = self._explained(error)
            if explained is not error:
                raise  # of the database, and not of what was asked of it
            return error
        except Exception as error:
            return error

    def _write(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._held is None:
                self._held = self._engines.writer.connect()
            with self._held.begin():
                return work(self._held)
        except DBAPIError as error:
            if error.connection_invalidated:
                self._let_go()
            raise self._explained(error) from error

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def _explained(self, error: DBAPIError) -> Exception:
        """The error for what happened; itself, if it is our fault."""
        extended = getattr(error.orig, "sqlite_errorcode", 0)
        code = extended & 0xFF
        if code == _FULL or extended == _NO_ROOM:
            return DiskFullError("the disk is full: the registry was not changed; make room, and try again")
        if code == _FAULT:
            fault = DiskFaultError(
                f"the registry {self.where} could not be read or written: {error.orig}; what was under way may or may "
                "not have happened; check the disk (dmesg, smartctl), then start again"
            )
            self._fault(fault)
            return fault
        if code in _UNUSABLE:
            return RegistryError(f"the registry {self.where} cannot be used: {_UNUSABLE[code]} ({error.orig})")
        if not code and (error.connection_invalidated or self._engines.is_unreachable(error)):
            return RegistryUnavailableError(f"the registry {self.where} does not answer: {_first_line(error.orig)}")
        return error


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]
