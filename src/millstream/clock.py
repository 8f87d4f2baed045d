"""Time, injected. No other module asks the system for it.

Instants are integers: microseconds since 1970-01-01T00:00:00Z (`Micros`), the resolution of the log.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

Micros = int
"""Microseconds since the Unix epoch, UTC."""

SECOND: Micros = 1_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(instant: Micros) -> datetime:
    """The instant as an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=instant)


def to_micros(moment: datetime) -> Micros:
    """An aware datetime as microseconds since the epoch. A naive one is a `ValueError`."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_text(instant: Micros) -> str:
    """The instant in RFC 3339, with as many fractional digits as it needs: `2026-01-01T00:00:10Z`."""
    return to_datetime(instant).isoformat().replace("+00:00", "Z")


def processor_seconds() -> float:
    """The processor time that this process has used, in all its threads: what it did, however busy the machine is."""
    return time.process_time()


class Clock(Protocol):
    """What Millstream asks of time."""

    def now(self) -> Micros:
        """The wall clock. It may step backwards."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary point; never steps back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed on this clock."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> Micros:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """Time that moves only when it is told to: `advance` wakes the sleepers in the order of their due times."""

    def __init__(self, start: Micros = 1_767_225_600 * SECOND) -> None:
        self._start = start
        self._now = start
        self._sleepers: list[tuple[Micros, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> Micros:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start) / SECOND

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:  # they have passed, and others have their turn, as in asyncio.sleep
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + round(seconds * SECOND), next(self._order), woken))
        await woken

    @property
    def next_due(self) -> Micros | None:
        """When the first of the sleepers is to wake; None while nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():  # cancelled
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def advance(self, seconds: float) -> None:
        """Move time on by `seconds`, and let whoever sleeps until then run."""
        target = self._now + round(seconds * SECOND)
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not woken.done():
                woken.set_result(None)
            await asyncio.sleep(0)
        self._now = target
        await asyncio.sleep(0)
