"""Work that costs little by the piece and much by itself: what comes while some is under way is done together then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from millstream.errors import OverloadError

W = TypeVar("W")
R = TypeVar("R")

_AT_ONCE = 500  # pieces in a transaction


class Gathered(Generic[W, R]):
    """Does pieces of work in the order in which they come. `act` gives what became of each, or the error that is
    raised to whoever wanted it. At most `most` wait."""

    def __init__(self, act: Callable[[Sequence[W]], Awaitable[Sequence[R | Exception]]], most: int) -> None:
        self._act = act
        self._most = most
        self._waiting: list[tuple[W, asyncio.Future[R]]] = []
        self._acting: asyncio.Task[None] | None = None

    async def do(self, piece: W) -> R:
        """What became of it. `OverloadError`: too much waits already."""
        if len(self._waiting) >= self._most:
            raise OverloadError(f"{self._most} requests of this kind wait already; come again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((piece, future))
        if self._acting is None:
            self._acting = loop.create_task(self._run())
        return await future

    async def drain(self) -> None:
        """Return when nothing waits."""
        if self._acting is not None:
            await self._acting

    async def _run(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            try:
                outcomes: Sequence[R | Exception] = await self._act([piece for piece, _ in some])
            except Exception as error:
                outcomes = [error] * len(some)
            for (_, future), outcome in zip(some, outcomes, strict=True):
                if future.done():  # nobody waits for it any more
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self._acting = None
