"""A processor's place in its consumer group: joining, leaving, and joining again after a fault."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence

from millstream.errors import LogError, MillstreamError
from millstream.log import Group
from millstream.log.contract import Start
from millstream.topic import Filter
from millstream.worker.context import RECOVERABLE, Context
from millstream.worker.tasks import Signal, first_of

logger = logging.getLogger("millstream.worker")

_FIRST_SECONDS, _LAST_SECONDS = 0.1, 5.0  # between two tries to join again


class Membership:
    """One member of the group `name`. `group` is the member; it is another one after every `join`. `stopping` is set to
    let `keep` end."""

    group: Group

    def __init__(
        self,
        context: Context,
        name: str,
        streams: Sequence[str],
        start: Start,
        also: tuple[type[MillstreamError], ...] = (),
        topics: Filter | None = None,
        columns: Collection[str] | None = None,
    ) -> None:
        self._context = context
        self.name = name
        self._streams = streams
        self._start = start
        self._topics = topics
        self._columns = columns
        self._recoverable: tuple[type[MillstreamError], ...] = (*RECOVERABLE, *also)
        self._delay = 0.0
        self.stopping = Signal()

    async def join(self) -> None:
        """Returns when the group has a position in every partition, durably."""
        self.group = await self._context.log.join(
            self.name, self._streams, start=self._start, topics=self._topics, columns=self._columns
        )

    def works(self) -> None:
        """Something was committed: the next fault is a new one."""
        self._delay = 0.0

    async def keep(self, session: Callable[[], Awaitable[None]]) -> None:
        """Run sessions until `stopping`: one, and another one after each fault that joining again mends (and `also`).

        A session forgets what is under way when it ends by an error. Raises the errors that nothing mends."""
        while not self.stopping.is_set:
            try:
                await session()
            except self._recoverable as error:
                logger.warning("%s joins again and goes on from its last commit: %s", self.name, error)
                await self._rejoin()
        with contextlib.suppress(LogError):  # the log forgets a member by itself when it cannot be told
            await self.group.leave()

    async def _rejoin(self) -> None:
        while not self.stopping.is_set:
            if self._delay:
                await first_of(self._context.clock.sleep(self._delay), self.stopping.wait())
            self._delay = min(_LAST_SECONDS, 2 * self._delay or _FIRST_SECONDS)
            try:
                with contextlib.suppress(LogError):
                    await self.group.leave()
                await self._context.prepare()
                await self.join()
                return
            except RECOVERABLE as error:
                logger.warning("%s cannot join: %s", self.name, error)
