"""A member of a consumer group, by HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

import msgspec

from millstream.client.connection import Connection
from millstream.client.page import Page, Poll, ShownPage, decode
from millstream.errors import FencedError, MillstreamError, RefusedError, UnreachableError
from millstream.log.contract import Position, Start

_NOT_FOUND, _CONFLICT = 404, 409


class _Joined(msgspec.Struct):
    group: str
    member: str
    lease: float


class _Place(msgspec.Struct):
    stream: str
    partition: int


class _Gained(_Place):
    low: int
    done: tuple[int, ...]


class _Expired(_Place):
    events: int


class _Told(msgspec.Struct):
    poll: int
    lost: frozenset[int]
    gained: list[_Gained]
    expired: list[_Expired]
    batches: list[ShownPage]

    def read(self) -> Poll:
        return Poll(
            self.lost,
            {(its.stream, its.partition): Position(its.low, its.done) for its in self.gained},
            {(its.stream, its.partition): its.events for its in self.expired},
            [batch.page() for batch in self.batches],
        )


class GroupMember:
    """A membership, made by `Client.group`: `async with client.group(…) as member`, then `async for page in member`,
    and `await member.commit(page)`.

    While it is entered, it shows the server that it is alive, however long the work on a page takes."""

    def __init__(self, connection: Connection, group: str, streams: Sequence[str], start: Start, lease: float) -> None:
        self.group = group
        self._connection = connection
        self._wish = {"streams": list(streams), "start": start, "lease": lease}
        self._lease = lease
        self._path = ""
        self._told = 0
        self._polling = asyncio.Lock()
        self._news: list[Poll] = []
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.join()
        self._beating = asyncio.get_running_loop().create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        with contextlib.suppress(MillstreamError):  # then its lease runs out
            await self._connection.request("DELETE", self._path)

    async def join(self) -> None:
        """Become a member, anew if the server knows this one no more: what it gains is told by the next `poll`."""
        response = await self._connection.request("POST", f"{_path(self.group)}/members", json=self._wish)
        member = decode(response.content, _Joined).member
        self._path, self._told, self._news = f"{_path(self.group)}/members/{member}", 0, []

    async def __aiter__(self) -> AsyncGenerator[Page, None]:
        """Pages for ever, each when the one before is done with, also when the server was away. Partitions that another
        member waits for are released between two pages, and a membership that is over is begun again: what was not
        committed may come again."""
        while True:
            for page in await self._next():
                yield page

    async def _next(self) -> Sequence[Page]:
        try:
            poll = await self.poll()
            if poll.lost:
                await self.release(poll.lost)
        except UnreachableError:
            return ()
        except RefusedError as refused:
            if refused.status != _NOT_FOUND:
                raise
            await self.join()
            return ()
        return poll.pages

    async def poll(self, wait: float = 30.0, limit_bytes: int = 1 << 20) -> Poll:
        """What has happened since the last one; see `millstream.log.Group.poll`. `RefusedError` with status 404 when
        the membership is over: `join` again."""
        async with self._polling:
            if self._news:
                return self._news.pop(0)
            return await self._ask(wait, limit_bytes=limit_bytes)

    async def commit(
        self, done: Page | Mapping[tuple[str, int], Position], counts: Mapping[str, int] | None = None
    ) -> None:
        """Move the group's position behind a page, or as given by stream and partition; on disk when this returns.

        `FencedError`: a partition is another member's now, or the membership is over. Forget what you had of it: it
        comes again, to whom it belongs, from where the group is. (That may be behind this commit, if the first answer
        to it was lost.)"""
        moved = {(done.stream, done.partition): Position(done.next_offset)} if isinstance(done, Page) else done
        positions = [
            {"stream": stream, "partition": number, "low": its.low, "done": its.done}
            for (stream, number), its in moved.items()
        ]
        try:
            await self._post("commit", {"positions": positions, "counts": dict(counts or {})})
        except RefusedError as refused:
            if refused.status not in (_NOT_FOUND, _CONFLICT):
                raise
            raise FencedError(str(refused)) from None

    async def release(self, partitions: frozenset[int]) -> None:
        """Give partitions up: those in `Poll.lost`, once what was under way is committed."""
        await self._post("release", {"partitions": sorted(partitions)})

    async def _post(self, what: str, body: object) -> None:
        await self._connection.request("POST", f"{self._path}/{what}", json=body)

    async def _ask(self, wait: float, **more: object) -> Poll:
        body = {"after": self._told, "wait": wait, "attributes": True, **more}
        response = await self._connection.request("POST", f"{self._path}/poll", wait=wait, json=body)
        told = decode(response.content, _Told)
        self._told = told.poll
        return told.read()

    async def _beat(self) -> None:
        """Signs of life, three to a lease. What they bring to light is kept for the next `poll`."""
        while True:
            await self._connection.clock.sleep(self._lease / 3)
            if self._polling.locked():
                continue
            async with self._polling:
                with contextlib.suppress(MillstreamError):  # the next poll says it
                    news = await self._ask(0.0, pause=True)
                    if news != Poll(frozenset(), {}, {}, []):
                        self._news.append(news)


def _path(group: str) -> str:
    return f"/groups/{quote(group)}"
