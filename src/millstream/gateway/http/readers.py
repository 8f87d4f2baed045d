"""Everybody who reads streams by HTTP: how many there may be, and when they have to go.

What one of them can cost in memory is bounded; so is their number. One that waits must not outlive its client, nor keep
the server from stopping.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from millstream.clock import Clock
from millstream.gateway.http.answer import LATER

T = TypeVar("T")


class Readers:
    """At most `most` at a time, until `end`."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._over = asyncio.Event()
        self.count = 0

    @property
    def over(self) -> bool:
        """Whether they have to go."""
        return self._over.is_set()

    def end(self) -> None:
        """The server stops: whoever waits goes on with what there is."""
        self._over.set()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """A reader's time here. Refuses with 503 one too many."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        """One more, until `leave`; see `admitted`."""
        if self.over:
            raise HTTPException(503, "the server is stopping; try again later", LATER)
        if self.count >= self._most:
            raise HTTPException(503, f"{self._most} clients read already (setting 'limits.readers')", LATER)
        self.count += 1

    def leave(self) -> None:
        """It has gone."""
        self.count -= 1

    async def wait(self, wanted: Coroutine[Any, Any, T], request: Request) -> T | None:
        """What `wanted` gives; None when the client has gone or the server stops before."""
        return await first(wanted, _gone(request), self._over.wait())

    async def idle(self, wanted: Coroutine[Any, Any, T], seconds: float) -> T | None:
        """What `wanted` gives; None after `seconds`, or when the server stops."""
        return await first(wanted, self._clock.sleep(seconds), self._over.wait())


async def first(wanted: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, Any]) -> T | None:
    """What `wanted` gives, or None when one of the others ends before it. None of them goes on afterwards."""
    winner = asyncio.ensure_future(wanted)
    tasks: list[asyncio.Future[Any]] = [winner, *(asyncio.ensure_future(each) for each in others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return winner.result() if winner.done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
