"""What sessions that are kept lose, because they were away or too slow for too long: counted, and told in the log."""

from __future__ import annotations

import logging

from millstream.gateway.sessions.kept import Kept
from millstream.gateway.sessions.queue import Queue
from millstream.gateway.sessions.roster import Roster
from millstream.gateway.sessions.share import Share
from millstream.gateway.statistics import Statistics

_log = logging.getLogger(__name__)


class Losses:
    """Finds them, when they happen and not when a client comes back. At most `backlog` bytes wait for one session, or
    for one shared subscription; beyond, its oldest messages are dropped."""

    def __init__(self, backlog: int, queue: Queue, roster: Roster, statistics: Statistics) -> None:
        self._backlog = backlog
        self._queue = queue
        self._roster = roster
        self._statistics = statistics

    async def look(self) -> bool:
        """Whom has retention overtaken, and for whom does too much wait? Whether any session has changed. Raises what
        the log raises."""
        if not len(self._roster):
            return False
        first = await self._queue.first()
        changed = [self._look_at(kept, first) for kept in self._roster]
        if self._queue.held_bytes > self._backlog:  # else it is too much for nobody
            pullers: list[Kept | Share] = [*self._roster, *self._roster.shares]
            changed += [self._look_at(puller, self._allowed(puller)) for puller in pullers]
        return any(changed)

    def lost(self, puller: Kept | Share, count: int) -> None:
        """So many messages for a session, or a shared subscription, are gone."""
        self._statistics.overflowed += count
        _log.warning(
            "client %r was away or too slow for too long: %d of its messages were dropped, see settings "
            "'sessions.queue_age', 'sessions.queue_bytes' and 'sessions.backlog_bytes'",
            puller.client_id if isinstance(puller, Kept) else puller.name,
            count,
        )

    def _allowed(self, puller: Kept | Share) -> int:
        """The offset from which on what waits for it is not too much."""
        if puller.backlog(self._queue, puller.next) <= self._backlog:
            return puller.next
        low, high = puller.next, self._queue.end
        while low < high:
            middle = (low + high) // 2
            if puller.backlog(self._queue, middle) <= self._backlog:
                high = middle
            else:
                low = middle + 1
        return low

    def _look_at(self, puller: Kept | Share, first: int) -> bool:
        lost = puller.overtaken(self._queue, first) if puller.next < first else 0
        if lost:
            self.lost(puller, lost)
            self._roster.unsaved.move(puller)
        return bool(lost)
