"""When the file is tidied up.

The event loop calls for slices of the housekeeper's work while there is something to do, each behind the commits that
wait already. An idle system has nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from millstream.clock import SECOND, Clock
from millstream.errors import DiskFaultError, DiskFullError, LogClosedError, LogError
from millstream.log.sqlite.folder import Ballast
from millstream.log.sqlite.stage import Stage
from millstream.log.sqlite.writer import Writer
from millstream.log.waiting import Timer

PAUSE_SECONDS = 0.05  # between merges while commits come, at least
PAUSE_SHARE = 25  # times as long as the last merge, with its wait for the thread: merging waits for quieter times
RETRY_SECONDS = 5.0  # when there was no room on the disk

_log = logging.getLogger(__name__)


class Chore:
    """Does `work` whenever it is wanted: once more if it was wanted again meanwhile."""

    def __init__(self, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._work = work
        self._clock = clock
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        self._retry = Timer(clock, self.wake)

    def wake(self) -> None:
        """There may be something to do."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop; a slice that the writer has begun is finished there."""
        await self._retry.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self._work()
        except DiskFullError:
            self._retry.set(self._clock.monotonic() + RETRY_SECONDS)
        except (DiskFaultError, LogClosedError):
            return  # everybody is told, and the process ends
        except LogError as error:
            _log.error("tidying up has failed, and will be tried again later: %s", error)


class Housekeeping:
    """Runs the housekeeper of a writer's store, and keeps the ballast."""

    def __init__(self, writer: Writer, clock: Clock, ballast: Ballast | None) -> None:
        self._writer = writer
        self._clock = clock
        self._ballast = ballast
        self._ballast_missing = ballast is not None
        self._try_ballast_at = 0.0
        self._aged = False
        self._commits = 0
        self._dropping = Chore(self._drop, clock)
        self._merging = Chore(self._merge, clock)
        self._filling = Chore(self._take_ballast, clock)
        self._ages = Timer(clock, self.look_at_ages)

    def start(self) -> None:
        """Do what an earlier run has left."""
        self._merging.wake()
        self._filling.wake()
        self.look_at_ages()

    def note(self, stage: Stage) -> None:
        """A commit was made."""
        self._commits += 1
        if stage.oversized:
            self._dropping.wake()
        if stage.crumbs:
            self._merging.wake()
        if self._ballast_missing and self._clock.monotonic() >= self._try_ballast_at:
            self._filling.wake()

    def look_at_ages(self) -> None:
        """Something may be too old by now, or limits or streams have changed."""
        self._aged = True
        self._dropping.wake()

    def free_ballast(self) -> None:
        """The disk is full. Called from the writer's thread."""
        if self._ballast is not None:
            self._ballast.free()
            self._ballast_missing = True

    async def close(self) -> None:
        """Stop."""
        await self._ages.close()
        for chore in (self._dropping, self._merging, self._filling):
            await chore.close()

    async def _drop(self) -> None:
        aged, self._aged = self._aged, False
        try:
            while await self._writer.call(lambda store: store.housekeeper.drop(store.now(), aged)):
                pass
        except DiskFullError:
            self._aged = aged
            raise
        if aged:
            at = await self._writer.call(lambda store: store.housekeeper.next_expiry(store.now()))
            self._ages.set(None if at is None else self._clock.monotonic() + (at - self._clock.now()) / SECOND)

    async def _merge(self) -> None:
        commits = self._commits
        begin = self._clock.monotonic()
        while await self._writer.call(lambda store: store.housekeeper.merge()):
            before, commits = commits, self._commits
            if commits != before:
                spent = self._clock.monotonic() - begin
                await self._clock.sleep(max(PAUSE_SECONDS, PAUSE_SHARE * spent))
            begin = self._clock.monotonic()

    async def _take_ballast(self) -> None:
        if self._ballast is not None:
            self._try_ballast_at = self._clock.monotonic() + RETRY_SECONDS
            self._ballast_missing = not await asyncio.to_thread(self._ballast.take)
