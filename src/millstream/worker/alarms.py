"""Calls back when time has come, on the injected clock, with one task for all that wait."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from millstream.clock import SECOND, Clock
from millstream.worker.tasks import first_of


class Alarms:
    """`after` says what to call and when; `run` does it, for as long as it runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []  # due times in whole microseconds
        self._order = itertools.count()
        self._sooner = asyncio.Event()

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` when `seconds` have passed."""
        due = self._now() + round(seconds * SECOND)
        heapq.heappush(self._waiting, (due, next(self._order), callback))
        if self._waiting[0][0] == due:
            self._sooner.set()

    def clear(self) -> None:
        """Forget everything that waits."""
        self._waiting.clear()

    async def run(self) -> None:
        """Call back for ever. Sleeps while nothing is due."""
        while True:
            while self._waiting and self._waiting[0][0] <= self._now():
                heapq.heappop(self._waiting)[2]()
            self._sooner.clear()
            if self._waiting:
                await first_of(self._sleep_until(self._waiting[0][0]), self._sooner.wait())
            else:
                await self._sooner.wait()

    async def _sleep_until(self, due: int) -> None:
        await self._clock.sleep((due - self._now()) / SECOND)  # from now on, when this runs

    def _now(self) -> int:
        return round(self._clock.monotonic() * SECOND)
