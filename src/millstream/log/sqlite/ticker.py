"""Ticks: records that the log appends where somebody has asked to be told that a time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from millstream.clock import SECOND, Clock, Micros
from millstream.errors import DiskFaultError, DiskFullError, LogClosedError
from millstream.log.sqlite.stage import Stage
from millstream.log.sqlite.store import Store
from millstream.log.sqlite.writer import Writer
from millstream.log.waiting import Timer

RETRY_SECONDS = 1.0  # when there was no room on the disk for a tick
LONGEST_SLEEP = 60.0  # towards a due time: the wall clock may be set forward meanwhile


class Ticker:
    """One timer over all that is due. `ticked` is called with what each tick has changed."""

    def __init__(self, writer: Writer, clock: Clock, ticked: Callable[[Stage], None]) -> None:
        self._writer = writer
        self._clock = clock
        self._ticked = ticked
        self._next: Micros | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer = Timer(clock, self._tick_if_due)

    def plan(self, at: Micros | None) -> None:
        """The next tick is due `at` the clock's wall time; None: none is."""
        self._next = at
        if at is None:
            self._timer.set(None)
        else:
            seconds = max(0.0, (at - self._clock.now()) / SECOND)
            self._timer.set(self._clock.monotonic() + min(seconds, LONGEST_SLEEP))

    async def close(self) -> None:
        """Finish a tick that is being committed."""
        await self._timer.close()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _tick_if_due(self) -> None:
        if self._next is None or self._next > self._clock.now():
            self.plan(self._next)
        elif self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        try:
            self._ticked(await self._writer.call(Store.tick))
        except DiskFullError:
            self._timer.set(self._clock.monotonic() + RETRY_SECONDS)
        except (DiskFaultError, LogClosedError):
            return  # everybody is told, and the process ends
