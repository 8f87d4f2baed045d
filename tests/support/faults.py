"""A log that fails when a test says so, around the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from millstream.clock import Micros
from millstream.errors import LogUnavailableError, MillstreamError
from millstream.log import LATEST, Committed, Group, Log, Poll, Position, Transaction
from millstream.log.contract import Start


class FaultyLog:
    """`before` and `after` are errors of the next commits, raised instead of it, or when it is done already; `joins`
    are outcomes of the next joins, None for one that succeeds. While `away`, nothing can be reached. Commits wait until
    `open` is set, as it is at first."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.before: list[MillstreamError] = []
        self.after: list[MillstreamError] = []
        self.joins: list[MillstreamError | None] = []
        self.away = False
        self.open = asyncio.Event()
        self.open.set()
        self.commits_tried = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def check(self) -> None:
        if self.away:
            raise LogUnavailableError("the server is away")

    async def create(self, spec: Any) -> None:
        self.check()
        await self._log.create(spec)

    async def join(self, group: str, streams: Sequence[str], *, start: Start = LATEST, **more: Any) -> Group:
        self.check()
        if self.joins and (error := self.joins.pop(0)) is not None:
            raise error
        return _FaultyGroup(self, await self._log.join(group, streams, start=start, **more))

    def transaction(self) -> Transaction:
        return _FaultyTransaction(self, self._log.transaction())


class _FaultyGroup:
    def __init__(self, log: FaultyLog, group: Group) -> None:
        self.name = group.name
        self._log = log
        self._group = group

    async def poll(self, limit_bytes: int, timeout: float | None = None, pause: bool = False) -> Poll:
        self._log.check()
        return await self._group.poll(limit_bytes, timeout, pause)

    async def state(self, partition: int) -> Mapping[str, bytes]:
        self._log.check()
        return await self._group.state(partition)

    def transaction(self) -> Transaction:
        return _FaultyTransaction(self._log, self._group.transaction())

    async def release(self, partitions: frozenset[int]) -> None:
        self._log.check()
        await self._group.release(partitions)

    async def leave(self) -> None:
        self._log.check()
        await self._group.leave()


class _FaultyTransaction:
    def __init__(self, log: FaultyLog, transaction: Transaction) -> None:
        self._log = log
        self._transaction = transaction

    def append(self, stream: str, partition: int, events: Any) -> None:
        self._transaction.append(stream, partition, events)

    def save(self, partition: int, name: str, chunk: bytes) -> None:
        self._transaction.save(partition, name, chunk)

    def drop(self, partition: int, name: str) -> None:
        self._transaction.drop(partition, name)

    def position(self, stream: str, partition: int, position: Position) -> None:
        self._transaction.position(stream, partition, position)

    def due(self, stream: str, partition: int, at: Micros | None) -> None:
        self._transaction.due(stream, partition, at)

    def count(self, name: str, n: int) -> None:
        self._transaction.count(name, n)

    def show(self, events: Any) -> None:
        self._transaction.show(events)

    async def commit(self) -> Committed:
        self._log.commits_tried += 1
        await self._log.open.wait()
        self._log.check()
        if self._log.before:
            raise self._log.before.pop(0)
        committed = await self._transaction.commit()
        if self._log.after:
            raise self._log.after.pop(0)
        return committed
