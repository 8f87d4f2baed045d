"""One instance of an app in a plant: a worker that can be killed, and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from millstream.log import Log
from millstream.testing.line import Line, When
from millstream.worker import Worker


class Instance:
    """`make` gives a new worker over a line to the log."""

    def __init__(self, make: Callable[[Log], Worker], log: Log) -> None:
        self._make = make
        self._log = log
        self._line: Line
        self._worker: Worker
        self._running: asyncio.Task[None]

    async def start(self) -> None:
        """Returns when the worker has joined its groups. Raises what `Worker.start` does."""
        self._line = Line(self._log)
        self._worker = self._make(self._line)
        await self._worker.start()
        self._running = asyncio.create_task(self._worker.run())

    def will_die(self, when: When) -> None:
        """Let the worker die at its next commit."""
        self._line.dies = when

    @property
    def is_doomed(self) -> bool:
        """Whether it is to die at its next commit, which has not come."""
        return self._line.dies is not None

    @property
    def is_dead(self) -> bool:
        """Whether the worker has died at a commit."""
        return self._line.is_dead

    async def kill(self) -> None:
        """End the worker as `kill -9` does: what it has not committed did not happen. What runs in a thread runs on to
        its end, and nothing comes of it."""
        line, running = self._line, self._running  # of this worker: the next one may have been started meanwhile
        line.is_dead = True
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await line.cut()

    async def stop(self) -> None:
        """End the worker in order, without waiting for calls under way."""
        if not self._running.done():
            await self._worker.stop(timedelta(0))
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def check(self) -> None:
        """Raise what ended the worker, if it has ended by itself."""
        if self._running.done():
            self._running.result()
