"""Blocking calls of a client, in a thread of their own, one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from millstream.errors import LogClosedError

P = ParamSpec("P")
T = TypeVar("T")


class Calls:
    """A thread that calls for the event loop."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._closed = False

    async def run(self, function: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Raises what the function raises. A call that is cancelled goes on, and nobody is told."""
        if self._closed:
            raise LogClosedError("the log is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *given, **named))

    async def close(self, last: Callable[[], object] | None = None) -> None:
        """Finish what was asked for, then call `last`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if last is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, last)
        self._thread.shutdown(wait=False)
