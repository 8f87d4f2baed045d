"""Waiting for something to happen, without looking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress

from millstream.clock import Clock
from millstream.errors import LogError


class Waiters:
    """Those who wait for any of several things, each named by a key. The caller looks whether what it waits for has
    happened already, and then calls `wait` without giving the event loop a turn in between: so nothing is missed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[Hashable, set[asyncio.Future[None]]] = {}
        self._error: LogError | None = None

    async def wait(self, keys: Collection[Hashable], timeout: float | None) -> None:
        """Return when one of `keys` is woken, or after `timeout` seconds. Raises the error of `fail`."""
        if self._error is not None:
            raise self._error
        if timeout is not None and timeout <= 0:
            return
        woken = asyncio.get_running_loop().create_future()
        for key in keys:
            self._waiting.setdefault(key, set()).add(woken)
        timer = None
        if timeout is not None:
            timer = asyncio.ensure_future(self._wake_at(self._clock.monotonic() + timeout, woken))
        try:
            await woken
        finally:
            for key in keys:
                self._remove(key, woken)
            if timer is not None:
                timer.cancel()

    def wake(self, keys: Collection[Hashable]) -> None:
        """Wake whoever waits for any of `keys`."""
        for key in keys:
            for woken in self._waiting.get(key, ()):
                if not woken.done():
                    woken.set_result(None)

    def fail(self, error: LogError) -> None:
        """Raise `error` in everybody who waits, and in all who come."""
        self._error = error
        for waiting in self._waiting.values():
            for woken in waiting:
                if not woken.done():
                    woken.set_exception(error)

    def _remove(self, key: Hashable, woken: asyncio.Future[None]) -> None:
        waiting = self._waiting[key]
        waiting.discard(woken)
        if not waiting:
            del self._waiting[key]

    async def _wake_at(self, at: float, woken: asyncio.Future[None]) -> None:
        await sleep_until(self._clock, at)
        if not woken.done():
            woken.set_result(None)


class Timer:
    """Calls back once, when a given instant of the monotonic clock has come. It may call back earlier than asked for
    last, but never without need: the callback looks what is due, and sets the timer again."""

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._at = 0.0
        self._task: asyncio.Task[None] | None = None

    def set(self, at: float | None) -> None:
        """Call back at `at` seconds of the clock's `monotonic`; None: not at all."""
        if self._task is not None and not self._task.done():
            if at is not None and self._at <= at:
                return
            self._task.cancel()
        self._task = None
        if at is not None:
            self._at = at
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop for good."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        await sleep_until(self._clock, self._at)
        self._task = None
        self._callback()


async def sleep_until(clock: Clock, at: float) -> None:
    """Return when `at` has come on the clock's `monotonic`: at once if it has, as when a task begins late."""
    if (seconds := at - clock.monotonic()) > 0:
        await clock.sleep(seconds)
