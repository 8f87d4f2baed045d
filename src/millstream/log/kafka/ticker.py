"""Ticks: records that carry nothing but the time, appended where a member of this process has asked for one.

What is due stands with the group's position, so that it outlives the member: the next owner of the partition asks for
it again. Members of one process share a tick; those of others may get one each, which changes no result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from millstream.clock import SECOND, Clock, Micros
from millstream.errors import LogError
from millstream.log.kafka.fetcher import Place
from millstream.log.waiting import Timer

_RETRY_SECONDS = 1.0
_LONGEST_SLEEP = 60.0  # towards a due time: the wall clock may be set forward meanwhile

_log = logging.getLogger(__name__)


class Ticker:
    """One timer over all that is due. `append` appends a tick to each of some places."""

    def __init__(self, clock: Clock, append: Callable[[list[Place]], Awaitable[None]]) -> None:
        self._clock = clock
        self._append = append
        self._dues: dict[Place, dict[object, Micros]] = {}
        self._timer = Timer(clock, self._tick_if_due)
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def ask(self, member: object, place: Place, at: Micros | None) -> None:
        """A member wants a tick at `at`, up to the next whole second; None: it wants none."""
        if at is not None:
            self._dues.setdefault(place, {})[member] = -(-at // SECOND) * SECOND
        elif (asked := self._dues.get(place)) is not None:
            asked.pop(member, None)
            if not asked:
                del self._dues[place]
        self._plan()

    def heard(self, member: object, place: Place, time: Micros) -> None:
        """A member has read a tick of that time, whoever appended it."""
        asked = self._dues.get(place, {}).get(member)
        if asked is not None and asked <= time:
            self.ask(member, place, None)

    def forget(self, member: object) -> None:
        """A member has gone."""
        for place in [place for place, asked in self._dues.items() if member in asked]:
            self.ask(member, place, None)

    async def close(self) -> None:
        """Tick no more, whoever asks: members leave after this."""
        self._closed = True
        await self._timer.close()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _plan(self) -> None:
        if self._closed:
            return
        at = min((min(asked.values()) for asked in self._dues.values()), default=None)
        if at is None:
            self._timer.set(None)
        else:
            seconds = max(0.0, (at - self._clock.now()) / SECOND)
            self._timer.set(self._clock.monotonic() + min(seconds, _LONGEST_SLEEP))

    def _tick_if_due(self) -> None:
        if self._task is not None and not self._task.done():
            return  # it plans again when it is done
        now = self._clock.now()
        due = [place for place, asked in self._dues.items() if min(asked.values()) <= now]
        if due:
            self._task = asyncio.get_running_loop().create_task(self._tick(due, now))
        else:
            self._plan()

    async def _tick(self, places: list[Place], now: Micros) -> None:
        try:
            await self._append(places)
        except LogError as error:
            if not self._closed:
                _log.warning("a tick has to wait: %s", error)
                self._timer.set(self._clock.monotonic() + _RETRY_SECONDS)
            return
        for place in places:
            asked = self._dues.get(place, {})
            for member in [member for member, at in asked.items() if at <= now]:
                self.ask(member, place, None)
        self._task = None
        self._plan()
