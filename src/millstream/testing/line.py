"""A worker's line to the log, which can be cut: the log then sees what it sees when a worker's process is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from millstream.log import Committed, Group, Log, Transaction

When = Literal["now", "before commit", "after commit"]
"""When a worker is killed: at once; when it next wants to commit; when it has, and does not know it yet."""


class Line:
    """See `millstream.log.Log`. `dies` says when the worker behind it dies; `is_dead` that it has."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._groups: list[Group] = []
        self.dies: When | None = None
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def join(self, group: str, streams: Sequence[str], **more: Any) -> Group:
        joined = await self._log.join(group, streams, **more)
        self._groups.append(joined)
        return _LineGroup(joined, self)

    def transaction(self) -> Transaction:
        return _LineTransaction(self._log.transaction(), self)

    async def cut(self) -> None:
        """End the memberships at once, as the log does when a process is gone."""
        self.is_dead = True
        for group in self._groups:
            await group.leave()

    async def commit(self, transaction: Transaction) -> Committed:
        """Commit, unless the worker dies before it."""
        if self.dies == "before commit":
            self.is_dead = True
        if not self.is_dead:
            committed = await transaction.commit()
            if self.dies != "after commit":
                return committed
            self.is_dead = True
        nobody_answers: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        return await nobody_answers


class _LineGroup:
    def __init__(self, group: Group, line: Line) -> None:
        self._group = group
        self._line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def transaction(self) -> Transaction:
        return _LineTransaction(self._group.transaction(), self._line)


class _LineTransaction:
    def __init__(self, transaction: Transaction, line: Line) -> None:
        self._transaction = transaction
        self._line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    async def commit(self) -> Committed:
        return await self._line.commit(self._transaction)
