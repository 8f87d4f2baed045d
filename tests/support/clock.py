"""Time that stands still while anybody works, however slow the machine is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from millstream.clock import SECOND, Micros, VirtualClock
from millstream.log.sqlite import SqliteLog
from millstream.testing.rest import rest

START = VirtualClock().now()


class RestingClock(VirtualClock):
    """A virtual clock that moves from one due time to the next, each time when everything has come to rest: the tasks
    of the event loop, its executors, and what it was told to `attend`. So a thread that is slow, because the machine
    is, takes none of the clock's time."""

    def __init__(self, start: Micros = START) -> None:
        super().__init__(start)
        self._busy: list[Callable[[], bool]] = []

    def attend(self, log: SqliteLog, *others: Callable[[], bool]) -> None:
        """To the thread of a log, to the event loop's executors, and to `others`, as long as they say so."""
        self._busy += [lambda: log.is_busy, _jobs_of(asyncio.get_running_loop()), *others]

    async def advance(self, seconds: float) -> None:
        target = self.now() + round(seconds * SECOND)
        await self.come_to_rest()
        while (due := self.next_due) is not None and due <= target:
            await self._move(due)
        await self._move(target)

    async def come_to_rest(self) -> None:
        """Return when nothing goes on before time passes, or the test does something."""
        await rest()
        while any(busy() for busy in self._busy):
            await asyncio.sleep(0.001)
            await rest()

    async def _move(self, instant: Micros) -> None:
        await super().advance((instant - self.now()) / SECOND)
        await self.come_to_rest()


def _jobs_of(loop: asyncio.AbstractEventLoop) -> Callable[[], bool]:
    """Whether an executor does something of which the event loop has not been told yet."""
    running: set[asyncio.Future[Any]] = set()
    run = loop.run_in_executor

    def run_in_executor(*arguments: Any) -> asyncio.Future[Any]:
        job = run(*arguments)
        running.add(job)
        job.add_done_callback(running.discard)
        return job

    loop.run_in_executor = run_in_executor  # type: ignore[method-assign, assignment]
    return lambda: bool(running)
