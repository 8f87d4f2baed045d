"""Threads that run what would block the event loop: handlers that are not `async`, the engine's steps.

Not `concurrent.futures`: the interpreter waits at its exit for the threads of an executor, so a handler that hangs
would keep a worker from ending after its drain time is over. These are daemons.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from millstream.worker.watch import UnderWay

T = TypeVar("T")


class Threads:
    """A fixed number of threads, started when they are first needed. `under_way` is entered for each job."""

    def __init__(self, count: int, name: str, under_way: UnderWay = contextlib.nullcontext) -> None:
        self._count = count
        self._name = name
        self._under_way = under_way
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = 0
        self._busy = 0

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """What `function` returns or raises, in the caller's context. When the caller is cancelled, the function still
        runs to its end, and what comes of it is thrown away."""
        if self._busy == self._started < self._count:
            self._start_thread()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._busy += 1
        context = contextvars.copy_context()

        def job() -> None:
            try:
                result = context.run(function, *arguments)
            except BaseException as error:
                _tell(loop, self._failed, outcome, error)
            else:
                _tell(loop, self._finished, outcome, result)

        self._jobs.put(job)
        with self._under_way():
            return await outcome

    def close(self) -> None:
        """Let the threads end when they have run what they were given."""
        for _ in range(self._started):
            self._jobs.put(None)
        self._started = self._count = 0

    def _start_thread(self) -> None:
        self._started += 1
        threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it holds the events that it was given

    def _finished(self, outcome: asyncio.Future[T], result: T) -> None:
        self._busy -= 1
        if not outcome.done():
            outcome.set_result(result)

    def _failed(self, outcome: asyncio.Future[T], error: BaseException) -> None:
        self._busy -= 1
        if not outcome.done():
            outcome.set_exception(error)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed while the thread was busy: nobody waits any more
        loop.call_soon_threadsafe(function, *arguments)
