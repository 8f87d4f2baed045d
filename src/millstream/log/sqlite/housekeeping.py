"""When the file is tidied up.

The event loop calls for slices of the housekeeper's work while there is something to do, each behind the commits that
wait already. An idle system has nothing to do.
"""

from __future__ import annotations

import asyncio

from millstream.clock import SECOND, Clock
from millstream.errors import DiskFaultError, DiskFullError, LogClosedError
from millstream.log.sqlite.folder import Ballast
from millstream.log.sqlite.stage import Stage
from millstream.log.sqlite.waiting import Timer
from millstream.log.sqlite.writer import Writer

PAUSE_SECONDS = 0.05  # between merges while commits come: they get at least nine tenths of the thread
RETRY_SECONDS = 5.0  # when there was no room on the disk


class Housekeeping:
    """Runs the housekeeper of a writer's store whenever there is something to do, and keeps the ballast."""

    def __init__(self, writer: Writer, clock: Clock, ballast: Ballast | None) -> None:
        self._writer = writer
        self._ballast = ballast
        self._ballast_missing = ballast is not None
        self._try_ballast_at = 0.0
        self._clock = clock
        self._wanted = False
        self._aged = False
        self._commits = 0
        self._task: asyncio.Task[None] | None = None
        self._timer = Timer(clock, self.look_at_ages)

    def note(self, stage: Stage) -> None:
        """A commit was made."""
        self._commits += 1
        if stage.chores or self._may_take_ballast:
            self.wake()

    def free_ballast(self) -> None:
        """The disk is full. Called from the writer's thread."""
        if self._ballast is not None:
            self._ballast.free()
            self._ballast_missing = True

    def look_at_ages(self) -> None:
        """Something may be too old by now, or there are new limits."""
        self._aged = True
        self.wake()

    def wake(self) -> None:
        """There may be something to do."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Finish the slice that is being done."""
        await self._timer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self._work()
        except DiskFullError:
            self._timer.set(self._clock.monotonic() + RETRY_SECONDS)
        except (DiskFaultError, LogClosedError):
            return  # everybody is told, and the process ends

    async def _work(self) -> None:
        if self._may_take_ballast and self._ballast is not None:
            self._try_ballast_at = self._clock.monotonic() + RETRY_SECONDS
            self._ballast_missing = not await asyncio.to_thread(self._ballast.take)
        aged, self._aged = self._aged, False
        while await self._writer.call(lambda store: store.housekeeper.drop(store.now(), aged)):
            pass
        while True:
            commits = self._commits
            if not await self._writer.call(lambda store: store.housekeeper.merge()):
                break
            if commits != self._commits:
                await self._clock.sleep(PAUSE_SECONDS)
        if aged:
            await self._plan()

    @property
    def _may_take_ballast(self) -> bool:
        return self._ballast_missing and self._clock.monotonic() >= self._try_ballast_at

    async def _plan(self) -> None:
        at = await self._writer.call(lambda store: store.housekeeper.next_expiry(store.now()))
        if at is not None:
            self._timer.set(self._clock.monotonic() + (at - self._clock.now()) / SECOND)
