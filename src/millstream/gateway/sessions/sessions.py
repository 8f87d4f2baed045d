"""The sessions that are kept: what connections ask of them, and what the clock does to them.

Which there are is in the `roster`, what of them goes to disk in `commits`. Acknowledgements of QoS 1 messages by
subscribers go there within a second: at worst they get a message again, which QoS 1 allows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from millstream.clock import Clock
from millstream.errors import LogError
from millstream.gateway.listeners.auth import Identity
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.pubsub.post import Post
from millstream.gateway.sessions.commits import Commits
from millstream.gateway.sessions.kept import FLOW, SESSION, Kept
from millstream.gateway.sessions.losses import Losses
from millstream.gateway.sessions.pump import Pump
from millstream.gateway.sessions.queue import Lane, Queue
from millstream.gateway.sessions.queued import Queued
from millstream.gateway.sessions.retained import Retained
from millstream.gateway.sessions.retaining import Retaining
from millstream.gateway.sessions.roster import Roster
from millstream.gateway.sessions.share import Share
from millstream.gateway.sessions.wills import WILL, Wills
from millstream.gateway.statistics import Statistics
from millstream.log import Log
from millstream.mqtt import Ended, Granted
from millstream.mqtt.packet import Connect
from millstream.settings import Settings

if TYPE_CHECKING:
    from millstream.gateway.ingest.ingest import Ingest
    from millstream.gateway.listeners.connection import Connection

_log = logging.getLogger(__name__)

_SECONDS = 1.0  # between looks at what has expired, or was acknowledged and is not on disk yet


class Sessions:
    """All sessions that are kept. `start` comes first, `close` last."""

    def __init__(self, settings: Settings, fan_out: FanOut, statistics: Statistics, clock: Clock) -> None:
        its, limits = settings.sessions, settings.limits
        self._most_waiting = limits.pending_bytes
        self._statistics = statistics
        self._clock = clock
        self.queue = Queue(its.queue_age, its.queue_bytes)
        self.retained = Retained(limits.retained, limits.retained_bytes)
        self._retaining = Retaining(self.retained, self.queue, clock)
        self._wills = Wills()
        self._roster = Roster(its.count, self.queue, fan_out)
        self._unsaved, self._shares = self._roster.unsaved, self._roster.shares
        self._losses = Losses(its.backlog_bytes, self.queue, self._roster, statistics)
        self._pump = Pump(self.queue, statistics, clock, self._unsaved.move, self._hold, self._losses.lost, self.pump)
        self.commits = Commits(self.queue, self._roster, self._wills, self._retaining, self._pump, fan_out, statistics)
        self._ingest: Ingest | None = None
        self._watching: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._roster)

    async def start(self, log: Log, state: Mapping[str, bytes], ingest: Ingest) -> None:
        """Take on what was committed."""
        self._ingest = ingest
        await self.queue.open(log)
        self._retaining.restore(state)
        now = self._clock.now()
        for name, chunk in state.items():
            if name.startswith(SESSION):
                client_id = name.removeprefix(SESSION)
                self._roster.restore(Kept.of(client_id, chunk, state[FLOW + client_id], now))
        if len(self._roster):
            await self.queue.make()
        for kept in self._roster:
            kept.begin_again_if_beyond(self.queue.end)
        self._shares.restore(state)
        if len(self._roster):
            lowest = [kept.next for kept in self._roster] + [share.next for share in self._shares]
            await self.queue.rebuild(min(lowest), self.commits.give_own)
            await self._losses.look()
        for client_id in self._wills.restore({name: chunk for name, chunk in state.items() if name.startswith(WILL)}):
            self._wills.schedule(client_id, now, self._roster.lifetime(client_id))
        self._watch()

    async def close(self) -> None:
        """Stop what runs. What was acknowledged in the last second is committed by whoever calls `settle` before."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pump.close()

    # --- what connections call

    @property
    def is_ready(self) -> bool:
        """Whether sessions can be kept, or `make_ready` comes first."""
        return self.queue.exists

    async def make_ready(self) -> None:
        """Make the queue, which a server has that ever kept a session."""
        await self.queue.make()
        self._after_commit(_nothing)  # for what waits for it

    def open(
        self, connection: Connection, client_id: str, identity: Identity, connect: Connect, expiry: int
    ) -> tuple[bool, bool]:
        """Give a connection its session, if it shall be kept or was: as `connection.kept`. One of another user ends,
        and so do subscriptions that its user has no right to any more. Whether it was there before, and whether
        anything must be on disk before the client is told.

        `TooManySessionsError`."""
        kept = self._roster.get(client_id)
        if kept is not None and (connect.clean_start or kept.user != identity.name):
            if not connect.clean_start:
                _log.warning("client %r has come as another user: the session that was kept for it ends", client_id)
            self._end(kept)
            kept = None
        present = kept is not None
        if kept is None and expiry:
            kept = self._roster.make(client_id, identity.name)
        if kept is not None:
            self._roster.withdraw(kept, identity.rights)
            self._attach(kept, connection, expiry)
        has_will = self._wills.set(client_id, connect.will)
        self._watch()
        return present, kept is not None or has_will

    def _attach(self, kept: Kept, connection: Connection, expiry: int) -> None:
        kept.expiry, kept.left_at, kept.connection = expiry, None, connection
        kept.again.clear()
        kept.again.extend(kept.memory.flights or ())
        connection.kept = connection.taker = kept
        self._unsaved.change(kept)

    def left(self, connection: Connection, ended: Ended) -> None:
        """A client's connection is over."""
        if ended.will is None:
            self._wills.take(connection.client_id)
        else:
            self._wills.schedule(connection.client_id, self._clock.now(), self._roster.lifetime(connection.client_id))
        kept = connection.kept
        if kept is not None and kept.connection is connection:
            self._detach(kept, ended.session_expiry)
        elif kept is None and connection.taker is not None:
            self._hand_over(self._shares.leave_all(connection.taker, self._unsaved))
        self._publish_wills()
        if kept is not None or self._wills.has_changed:
            self._after_commit(_nothing)

    def _detach(self, kept: Kept, expiry: int | None) -> None:
        kept.connection, kept.left_at = None, self._clock.now()
        kept.page.clear()
        kept.expiry = kept.expiry if expiry is None else expiry
        if kept.expiry:
            self._unsaved.change(kept)
        else:
            self._end(kept)

    def give_retained(self, connection: Connection, granted: Granted) -> None:
        """Let a connection have the retained messages that match a subscription, after the next commit."""
        if self._retaining.give(connection, granted):
            self._after_commit(partial(self.send_retained, connection))

    def send_retained(self, connection: Connection) -> None:
        """Send what it has to get of that, as much as there is room for."""
        self._retaining.send(connection)

    def joined(self, connection: Connection, granted: Granted) -> None:
        """A client has a shared subscription, perhaps in the place of the same one with other options."""
        taker = connection.taker
        if taker is None:
            memory = connection.session.memory
            taker = connection.taker = Kept(connection.client_id, None, 0, self.queue.end, memory)
            taker.connection = connection
        if connection.kept is not None:
            self._unsaved.change(taker)
        self._shares.join(taker, granted, self._unsaved)
        if not self.queue.exists:
            self._spawn(self.make_ready())

    def parted(self, connection: Connection, granted: Granted) -> None:
        """A client has a shared subscription no longer. What is on its way to it stays its."""
        if connection.kept is not None:
            self._unsaved.change(connection.kept)
        if connection.taker is not None:
            self._shares.leave(connection.taker, granted.filter, self._unsaved)

    def subscribed(self, kept: Kept, granted: Granted) -> None:
        """A session has a subscription, perhaps in the place of another one of the same filter."""
        self._roster.subscribed(kept, granted)

    def unsubscribed(self, kept: Kept, granted: Granted) -> None:
        """A session has a subscription no longer."""
        self._roster.unsubscribed(kept, granted)

    def received(self, kept: Kept) -> None:
        """A session's client has sent something else than plain messages: perhaps it can get more now."""
        if kept.memory.changed:
            kept.memory.changed = False
            self._unsaved.flow(kept)
            self._after_commit(_nothing)
        else:
            self._unsaved.move(kept)
        self.pump(kept)

    def pump(self, kept: Kept) -> None:
        """Send a session what can be sent now."""
        self._pump.run(kept)
        for name in kept.shares:
            share = self._shares.get(name)
            if share is not None:
                self._pump.share(share)

    def keep(self, post: Post, lanes: Sequence[Lane]) -> None:
        """Take an event in that comes from elsewhere than a listener, for the sessions of these lanes. It is dropped,
        and counted, where too much waits already: the disk is full, and nobody slows down who publishes so."""
        if self.queue.waiting_bytes > self._most_waiting:
            self._statistics.dropped += sum(len(lane.users) for lane in lanes)
            return
        self.queue.append(Queued(post), lanes)
        self._after_commit(_nothing)

    # ---

    def _after_commit(self, done: Callable[[], None]) -> None:
        assert self._ingest is not None, "start comes first"
        self._ingest.after_commit(done)

    def _publish_wills(self) -> None:
        for client_id in self._wills.due(self._clock.now()):
            self._publish_will(client_id)

    def _publish_will(self, client_id: str) -> None:
        will = self._wills.take(client_id)
        if will is not None and self._ingest is not None:
            self._ingest.put(will.topic, will.payload, will.qos, will.properties, retain=will.retain)

    def _end(self, kept: Kept) -> None:
        """Forget a session. A will that was waiting for its client to come back is published."""
        if kept.left_at is not None:
            self._publish_will(kept.client_id)
        self._hand_over(self._roster.end(kept))

    def _hand_over(self, shares: Sequence[Share]) -> None:
        """A member of shared subscriptions has gone: what it did not finish is for the others."""
        if shares:
            self.commits.bring(shares)
            self._after_commit(_nothing)

    def _hold(self, kept: Kept, send: Callable[[], None]) -> None:
        self._unsaved.flow(kept)
        self._after_commit(send)

    # --- time

    def settle(self) -> None:
        """Let the next commit take along what may still wait."""
        if self._unsaved.settle():
            self._after_commit(_nothing)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._look_at_clock())

    async def _look_at_clock(self) -> None:
        while len(self._roster) or len(self._wills):
            await self._clock.sleep(_SECONDS)
            for kept in self._roster.expired(self._clock.now()):
                self._end(kept)
                self._after_commit(_nothing)
            self._publish_wills()
            self.settle()
            self.queue.forget()
            try:
                await self._losses.look()
            except LogError:  # whoever commits finds out as well, and ends the gateway
                return


def _nothing() -> None:
    pass
