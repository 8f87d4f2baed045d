"""Blocking calls of a client, in a thread of their own, one after another."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from millstream.errors import LogClosedError

P = ParamSpec("P")
T = TypeVar("T")


class Calls:
    """A thread that calls for the event loop. Python does not wait for it when it ends: a call may never return."""

    def __init__(self, name: str) -> None:
        self._asked: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self.is_closed = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, function: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Raises what the function raises. A call that is cancelled goes on, and nobody is told."""
        if self.is_closed:
            raise LogClosedError("the log is closed")
        return await self._ask(partial(function, *given, **named))

    async def close(self, last: Callable[[], object] | None = None) -> None:
        """Finish what was asked for, then call `last`. Idempotent."""
        if self.is_closed:
            return
        self.is_closed = True
        if last is not None:
            await self._ask(last)
        self._asked.put(None)

    async def _ask(self, call: Callable[[], T]) -> T:
        future: Future[T] = Future()
        self._asked.put((future, call))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            future, call = asked
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            del asked, future, call  # which hold what the caller may want to be rid of


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to. It goes on when whoever waits for it is cancelled, and nobody hears of its errors then."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    return await asyncio.shield(task)
