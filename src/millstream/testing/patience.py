"""How long a test waits for its plant to come to rest.

A machine that is busy with other things must not fail a right test. So real time is counted in turns. One in which this
process worked counts for the processor time that it got, one in which it did next to nothing was spent waiting and
counts whole, and one that took long, because the process was stopped or its event loop busy, is still one turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millstream.clock import processor_seconds

TURNS = 50  # that patience is made of
IDLE = 0.05  # the part of a turn that a process which only waits stays below


class Patience:
    """So many seconds, which are spent turn by turn. `is_over` tells whether they are."""

    def __init__(self, seconds: float) -> None:
        self.turn = seconds / TURNS
        self._turns_left = float(TURNS)

    @property
    def is_over(self) -> bool:
        return self._turns_left < IDLE / 2  # sums of fractions are not exact

    def spend(self, worked: float) -> None:
        """A turn has passed, in which the process got `worked` seconds of the processor."""
        part = min(worked / self.turn, 1.0)
        self._turns_left -= part if part >= IDLE else 1.0

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Cancel what is done in it when patience is over, and raise `TimeoutError`."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def pass_turn(before: float) -> None:
            nonlocal timer
            now = processor_seconds()
            self.spend(now - before)
            if self.is_over:
                scope.reschedule(loop.time())
            else:
                timer = loop.call_later(self.turn, pass_turn, now)

        timer = loop.call_later(self.turn, pass_turn, processor_seconds())
        try:
            async with asyncio.timeout(None) as scope:
                yield
        finally:
            timer.cancel()
