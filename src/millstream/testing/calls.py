"""Which calls of the user's functions are under way, and which of them only wait for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from millstream.clock import Micros, VirtualClock
from millstream.testing.failures import Failures
from millstream.worker import Failure, Watch


class _Call:
    """One call. `asleep` counts what in it sleeps on the plant's clock, in tasks of its own or not."""

    __slots__ = ("asleep", "processor")

    def __init__(self, processor: str) -> None:
        self.processor = processor
        self.asleep = 0


_current: ContextVar[_Call] = ContextVar("millstream_testing_call")


class Calls(Watch):
    """The calls of all workers of a plant."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._open: dict[_Call, None] = {}
        self._waiter: asyncio.Future[None] | None = None

    @contextmanager
    def under_way(self, processor: str) -> Iterator[None]:
        call = _Call(processor)
        self._open[call] = None
        _current.set(call)
        try:
            yield
        finally:
            del self._open[call]
            self.moved()

    def failed(self, failure: Failure) -> None:
        self._failures.add(failure)

    @property
    def awake(self) -> list[str]:
        """The processors with a call that goes on, or waits for something else than the clock."""
        return sorted({call.processor for call in self._open if not call.asleep})

    def moved(self) -> None:
        """A call has ended or fallen asleep."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def move(self) -> None:
        """Return when a call has ended or fallen asleep."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter


class PlantClock(VirtualClock):
    """A virtual clock that knows whose calls sleep on it."""

    def __init__(self, start: Micros, calls: Calls) -> None:
        super().__init__(start)
        self._calls = calls

    async def sleep(self, seconds: float) -> None:
        call = _current.get(None)
        if call is None or seconds <= 0:
            await super().sleep(seconds)
            return
        call.asleep += 1
        self._calls.moved()
        try:
            await super().sleep(seconds)
        finally:
            call.asleep -= 1
