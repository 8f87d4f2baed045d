"""Running several coroutines, and ending them without leaving one behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class Signal:
    """A flag to wait for, or to be called back by when it is raised."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._watchers: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()
        for watcher in self._watchers:
            watcher()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self) -> None:
        await self._event.wait()

    def watch(self, callback: Callable[[], None]) -> None:
        self._watchers.append(callback)

    def unwatch(self, callback: Callable[[], None]) -> None:
        self._watchers.remove(callback)


async def unless(coroutine: Coroutine[Any, Any, T], *signals: Signal) -> T | None:
    """Its result; None if a signal is set before it ends, which cancels it.

    It runs in the caller's own task: when it ends, nothing else runs before the caller has its result."""
    loop = asyncio.get_running_loop()
    scope = asyncio.timeout(0 if any(signal.is_set for signal in signals) else None)

    def interrupt() -> None:
        if not scope.expired():  # another signal, while the coroutine ends
            scope.reschedule(loop.time())

    try:
        async with scope:
            for signal in signals:
                signal.watch(interrupt)
            try:
                return await coroutine
            finally:
                for signal in signals:
                    signal.unwatch(interrupt)
    except TimeoutError:
        if scope.expired():
            return None
        raise


async def first_of(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run them until the first has ended, then end the others. Raises what the first raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(tasks)
    for task in done:
        task.result()


async def cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until they have ended, however they do."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
