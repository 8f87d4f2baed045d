"""Whoever is refused too often waits for the answer: so ten thousand wrong passwords, tokens or keys a second keep the
server busy with a few hundred of them, and its clients do not feel it.

Each address has an allowance of refusals that are told at once, for the device with a wrong password and the person who
has mistyped. Beyond it they are told one after the other, at a rate for all of them together, and none within a second.
What is right is not held, wherever it comes from.
"""

from __future__ import annotations

import asyncio
from collections import deque

from millstream.clock import Clock
from millstream.gateway.listeners.auth import (
    Authenticator,
    Credentials,
    Identity,
    NotAuthenticatedError,
    TooManyFailuresError,
)
from millstream.gateway.listeners.failures import Failures

_STEP = 0.05  # seconds between looks at those who wait
_A_STEP = 25  # of them are answered then: 500 a second, some 150 µs each
_LEAST_SECONDS = 1.0
_MOST = 10_000  # who wait; beyond, they are answered at once


class HoldingAuthenticator:
    """See `Authenticator`: `others` decides."""

    def __init__(self, others: Authenticator, clock: Clock) -> None:
        self._others = others
        self._clock = clock
        self._failures = Failures(clock)
        self._held: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._released = False

    def recall(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator`."""
        return self._others.recall(credentials)

    async def authenticate(self, credentials: Credentials) -> Identity:
        """See `Authenticator`."""
        try:
            return await self._others.authenticate(credentials)
        except NotAuthenticatedError:
            if not self._failures.may_fail(credentials.address):
                await self._hold()
            raise
        except TooManyFailuresError:
            await self._hold()
            raise

    def release(self) -> None:
        """Answer all who wait, and let nobody wait any more."""
        self._released = True
        self._answer(len(self._held))

    def close(self) -> None:
        """See `Authenticator`."""
        self.release()
        self._others.close()

    async def _hold(self) -> None:
        if self._released or len(self._held) >= _MOST:
            return
        told = asyncio.get_running_loop().create_future()
        self._held.append((self._clock.monotonic() + _LEAST_SECONDS, told))
        if self._answering is None or self._answering.done():
            self._answering = asyncio.get_running_loop().create_task(self._answer_later())
        await told

    async def _answer_later(self) -> None:
        while self._held:
            await self._clock.sleep(_STEP)
            now = self._clock.monotonic()
            due = 0
            while due < min(_A_STEP, len(self._held)) and self._held[due][0] <= now:
                due += 1
            self._answer(due)

    def _answer(self, count: int) -> None:
        for _ in range(count):
            _, told = self._held.popleft()
            if not told.done():  # it was cancelled
                told.set_result(None)
