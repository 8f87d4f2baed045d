"""Which sessions are kept, and what of the queue each listens to: its own lanes, and its shared subscriptions."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from millstream.clock import Micros
from millstream.errors import MillstreamError, NotAuthorizedError
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.sessions.kept import Kept
from millstream.gateway.sessions.queue import Lane, Queue
from millstream.gateway.sessions.share import Share
from millstream.gateway.sessions.shares import Shares
from millstream.gateway.sessions.unsaved import Unsaved
from millstream.mqtt import Granted
from millstream.rights import Right, Rights

_log = logging.getLogger(__name__)


class TooManySessionsError(MillstreamError):
    """No more can be kept."""


class Roster:
    """Sessions by client identifier, `most` of them. Every change is noted in `unsaved`."""

    def __init__(self, most: int, queue: Queue, fan_out: FanOut) -> None:
        self._most = most
        self._queue = queue
        self._fan_out = fan_out
        self._kept: dict[str, Kept] = {}
        self.unsaved = Unsaved(self._lives)
        self.shares = Shares(queue, fan_out)

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._kept.values())

    def get(self, client_id: str) -> Kept | None:
        """The session of a client."""
        return self._kept.get(client_id)

    def lifetime(self, client_id: str) -> int:
        """How long a client's session outlives its connection, in seconds."""
        kept = self._kept.get(client_id)
        return kept.expiry if kept is not None else 0

    def make(self, client_id: str, user: str | None) -> Kept:
        """A new session. `TooManySessionsError`."""
        if len(self._kept) >= self._most:
            raise TooManySessionsError("too many sessions are kept, see setting 'sessions.count'")
        kept = self._kept[client_id] = Kept(client_id, user, 0, self._queue.end)
        return kept

    def restore(self, kept: Kept) -> None:
        """Take on one that was committed."""
        self._kept[kept.client_id] = kept
        for granted in kept.memory.subscriptions.values():
            if granted.is_shared:
                self.shares.join(kept, granted, self.unsaved)
            elif granted.qos:
                self._join(kept, granted)

    def end(self, kept: Kept) -> list[Share]:
        """Forget a session. The shared subscriptions that have something for others now."""
        for granted in kept.memory.subscriptions.values():
            self._leave(kept, granted)
        del self._kept[kept.client_id]
        self.unsaved.end(kept)
        kept.connection = None
        return self.shares.leave_all(kept, self.unsaved)

    def subscribed(self, kept: Kept, granted: Granted) -> None:
        """A session has a subscription, perhaps in the place of another one of the same filter."""
        kept.subscribed(granted, self._queue)
        self.unsaved.change(kept)
        if granted.qos:
            self._join(kept, granted)
        else:
            self._leave(kept, granted)

    def unsubscribed(self, kept: Kept, granted: Granted) -> None:
        """A session has a subscription no longer."""
        kept.unsubscribed(granted)
        self.unsaved.change(kept)
        self._leave(kept, granted)

    def withdraw(self, kept: Kept, rights: Rights) -> None:
        """End subscriptions that are not permitted any more."""
        for granted in list(kept.memory.subscriptions.values()):
            try:
                rights.check(Right.SUBSCRIBE, granted.topics)
            except NotAuthorizedError:
                del kept.memory.subscriptions[granted.filter]
                self.unsubscribed(kept, granted)
                self.shares.leave(kept, granted.filter, self.unsaved)

    def expired(self, now: Micros) -> list[Kept]:
        """Those that have outlived their connections for as long as they may."""
        return [kept for kept in self if (at := kept.expires_at()) is not None and at <= now]

    def _lives(self, puller: Kept | Share) -> bool:
        if isinstance(puller, Share):
            return self.shares.get(puller.name) is puller
        return self._kept.get(puller.client_id) is puller

    def _join(self, kept: Kept, granted: Granted) -> None:
        lane: Lane | None = self._queue.join(kept, granted.filter)
        if lane is not None:
            self._fan_out.add_lane(lane)

    def _leave(self, kept: Kept, granted: Granted) -> None:
        lane = self._queue.leave(kept, granted.filter)
        if lane is not None:
            self._fan_out.remove_lane(lane)
