"""Which log the settings name, and how each process comes to it.

The embedded log is the server's, and the others reach it through the server's socket. On Kafka every process has a
client of its own; the socket still carries what is not kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import TYPE_CHECKING

import pyarrow as pa

from millstream.bus import Bus
from millstream.clock import Clock, SystemClock
from millstream.errors import DiskFaultError, LogUnavailableError, MissingExtraError, SettingsError
from millstream.log import Log
from millstream.log.sqlite import ReadOnlyLog, RemoteLog, SqliteLog, serve_log
from millstream.log.sqlite.folder import FolderLock
from millstream.metrics import Source
from millstream.runtime.bus import connect
from millstream.runtime.endpoint import socket_path
from millstream.runtime.peer import SocketPeer
from millstream.settings import LogSettings, Settings

if TYPE_CHECKING:
    from millstream.log.kafka import KafkaLog


LARGEST_PACKET = 4 << 20
"""What the gateway may let in where the log is on Kafka: half of what a topic takes leaves room for attributes."""


READY, WAITING = "ready", "waiting"
"""The state of a log: it commits; or commits wait for the brokers."""


class ServersLog:
    """The log in the server: what it shows, how it fails, what it measures, whatever stands behind it."""

    def __init__(self, log: SqliteLog | KafkaLog) -> None:
        self.log: Log = log
        self._own = log

    @staticmethod
    @contextlib.asynccontextmanager
    async def opened(settings: Settings, clock: Clock) -> AsyncIterator[ServersLog]:
        """Open it, and close it at the end. The data folder is the server's alone, also where the log is not in it."""
        if not settings.log.url:
            sqlite = await SqliteLog.open(settings.data, settings.log, clock)
            try:
                yield ServersLog(sqlite)
            finally:
                await sqlite.close()
            return
        if settings.limits.packet_bytes > LARGEST_PACKET:
            raise SettingsError(
                f"setting 'limits.packet_bytes': {settings.limits.packet_bytes} bytes do not fit into a record of "
                f"Kafka; at most {LARGEST_PACKET}"
            )
        lock = FolderLock(settings.data)
        try:
            async with kafka_log(settings.log, clock) as kafka:
                yield ServersLog(kafka)
        finally:
            lock.release()

    def serve(self, bus: Bus) -> None:
        """Let other processes use it, where they have no way of their own."""
        if isinstance(self._own, SqliteLog):
            serve_log(self._own, bus)

    def on_show(self, show: Callable[[pa.RecordBatch], None], hears: Callable[[Collection[str]], bool]) -> None:
        """Who is given what transactions show, but for what is on topics none of which it `hears`."""
        if isinstance(self._own, SqliteLog):
            self._own.on_show(show, hears)
        else:
            self._own.on_show(show)

    def on_fault(self, callback: Callable[[DiskFaultError], None]) -> None:
        """Call back when the disk under it has failed."""
        if isinstance(self._own, SqliteLog):
            self._own.on_fault(callback)

    @property
    def sources(self) -> list[Source]:
        """What it measures."""
        return [self._own.measure] if isinstance(self._own, SqliteLog) else []

    @property
    def waiting(self) -> str | None:
        """Why commits wait, where they wait for brokers."""
        return None if isinstance(self._own, SqliteLog) else self._own.waiting


@contextlib.asynccontextmanager
async def workers_log(
    peer: SocketPeer, settings: Settings, show: Callable[[pa.RecordBatch], None] | None = None
) -> AsyncIterator[Log]:
    """The log of a process that is connected to a server. `show` is given what its transactions show, where they do not
    go through the server."""
    if settings.log.url:
        async with kafka_log(settings.log, SystemClock()) as kafka:
            if show is not None:
                kafka.on_show(show)
            yield kafka
        return
    log = RemoteLog(peer, settings.data)
    try:
        yield log
    finally:
        await log.close()


@contextlib.asynccontextmanager
async def anybodys_log(settings: Settings) -> AsyncIterator[Log]:
    """The log for a look: through its server, which wakes whoever waits, or from the file if none runs; or on Kafka."""
    if settings.log.url:
        async with kafka_log(settings.log, SystemClock()) as kafka:
            yield kafka
        return
    try:
        peer = await connect(socket_path(settings.data))
    except LogUnavailableError:
        log = await ReadOnlyLog.open(settings.data)
        try:
            yield log
        finally:
            await log.close()
        return
    try:
        async with workers_log(peer, settings) as remote:
            yield remote
    finally:
        await peer.close()


@contextlib.asynccontextmanager
async def kafka_log(settings: LogSettings, clock: Clock) -> AsyncIterator[KafkaLog]:
    """The log on Kafka. `MissingExtraError`, `LogUnavailableError`."""
    try:
        from millstream.log.kafka import Cluster, KafkaLog
    except ImportError as error:
        raise MissingExtraError(
            "the log is on Kafka, and its client is not installed: pip install 'millstream[kafka]'"
        ) from error
    log = await KafkaLog.open(Cluster.of(settings), clock)
    try:
        yield log
    finally:
        await log.close()
