"""Queries of a worker take turns.

Fifty queries on a stream all have something to do at once. Were they all to read and to step at the same time, each
would be done when all are done, with what was there when they began. So only as many of them as there are cores have
a step under way; the others wait before they read, and then take everything that has come meanwhile.
"""

from __future__ import annotations

import asyncio


class Turns:
    """So many at a time, in the order in which they came (None: all of them)."""

    def __init__(self, at_once: int | None = None) -> None:
        self._free = None if at_once is None else asyncio.Semaphore(at_once)

    def one(self) -> Turn:
        """For somebody who takes turns."""
        return Turn(self._free)


class Turn:
    """What one query asks for again and again."""

    def __init__(self, free: asyncio.Semaphore | None) -> None:
        self._free = free
        self._is_mine = False

    @property
    def is_shared(self) -> bool:
        """Whether there may be others who wait."""
        return self._free is not None

    async def take(self) -> None:
        """Return when it is mine. Whoever has it keeps it."""
        if self._free is not None and not self._is_mine:
            await self._free.acquire()
            self._is_mine = True

    def give(self) -> None:
        """Let the next one have it, if it is mine."""
        if self._free is not None and self._is_mine:
            self._is_mine = False
            self._free.release()
