"""The sessions that are kept: which there are, and what of them goes to disk with the next commit.

Every transaction of the gateway carries all changes of sessions that were made before it, beside the events that came
in the meantime and the messages that entered the queue. So what a client is told after a commit (PUBACK, PUBREC,
PUBCOMP, SUBACK, CONNACK of a session that is kept) holds whatever is killed. Acknowledgements of QoS 1 messages by
subscribers go to disk within a second: at worst they get a message again, which QoS 1 allows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from millstream.clock import Clock
from millstream.errors import LogError, MillstreamError, NotAuthorizedError
from millstream.gateway.auth import Identity
from millstream.gateway.fanout import FanOut, post_of
from millstream.gateway.kept import FLOW, SESSION, Kept
from millstream.gateway.post import Post
from millstream.gateway.pump import Pump
from millstream.gateway.queue import Lane, Queue
from millstream.gateway.queued import Queued
from millstream.gateway.retained import RETAINED, Retained
from millstream.gateway.sealed import Sealed
from millstream.gateway.share import Share
from millstream.gateway.shares import Shares
from millstream.gateway.statistics import Statistics
from millstream.gateway.unsaved import Unsaved
from millstream.gateway.wills import WILL, Wills
from millstream.log import Committed, Log, Transaction
from millstream.mqtt import Ended, Granted
from millstream.mqtt.packet import Connect
from millstream.rights import Right, Rights
from millstream.settings import Settings

if TYPE_CHECKING:
    from millstream.gateway.connection import Connection
    from millstream.gateway.ingest import Ingest

_log = logging.getLogger(__name__)

_SECONDS = 1.0  # between looks at what has expired, or was acknowledged and is not on disk yet
_STATE = 0  # the number of the partition whose state holds the chunks


class TooManySessionsError(MillstreamError):
    """No more can be kept."""


class Sessions:
    """All sessions that are kept. `start` comes first, `close` last.

    Whoever commits calls `prepare`, then `put` with every attempt, then `committed` (before anybody is answered) and
    `answered` (after that)."""

    def __init__(self, settings: Settings, fan_out: FanOut, statistics: Statistics, clock: Clock) -> None:
        its, limits = settings.sessions, settings.limits
        self._most = its.count
        self._most_waiting = limits.pending_bytes
        self._fan_out = fan_out
        self._statistics = statistics
        self._clock = clock
        self.queue = Queue(its.queue_age, its.queue_bytes)
        self.retained = Retained(limits.retained, limits.retained_bytes)
        self._wills = Wills()
        self._kept: dict[str, Kept] = {}
        self._shares = Shares(self.queue, fan_out)
        self._unsaved = Unsaved(self._lives)
        self._pump = Pump(self.queue, statistics, clock, self._unsaved.move, self._hold, self._lose, self.pump)
        self._chunks: dict[str, bytes | None] = {}  # for the commit under way; None drops one
        self._due: dict[Kept | Share, None] = {}  # whom the last commit brought something
        self._ingest: Ingest | None = None
        self._watching: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._kept)

    async def start(self, log: Log, state: Mapping[str, bytes], ingest: Ingest) -> None:
        """Take on what was committed."""
        self._ingest = ingest
        await self.queue.open(log)
        self.retained.restore({name: chunk for name, chunk in state.items() if name.startswith(RETAINED)})
        now = self._clock.now()
        for name, chunk in state.items():
            if name.startswith(SESSION):
                client_id = name.removeprefix(SESSION)
                self._restore(Kept.of(client_id, chunk, state[FLOW + client_id], now))
        if self._kept:
            await self.queue.make()
        for kept in self._kept.values():
            kept.begin_again_if_beyond(self.queue.end)
        self._shares.restore(state)
        if self._kept:
            lowest = [kept.next for kept in self._kept.values()] + [share.next for share in self._shares]
            await self.queue.rebuild(min(lowest), self._give_own)
            await self._look_at_retention()
        for client_id in self._wills.restore({name: chunk for name, chunk in state.items() if name.startswith(WILL)}):
            self._wills.schedule(client_id, now, self._lifetime(client_id))
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
        kept = self._kept.get(client_id)
        if kept is not None and (connect.clean_start or kept.user != identity.name):
            self._end(kept)
            kept = None
        present = kept is not None
        if kept is None and expiry:
            kept = self._make(client_id, identity.name)
        if kept is not None:
            self._withdraw(kept, identity.rights)
            self._attach(kept, connection, expiry)
        has_will = self._wills.set(client_id, connect.will)
        self._watch()
        return present, kept is not None or has_will

    def _withdraw(self, kept: Kept, rights: Rights) -> None:
        """End subscriptions that are not permitted any more."""
        for granted in list(kept.memory.subscriptions.values()):
            try:
                rights.check(Right.SUBSCRIBE, granted.topics)
            except NotAuthorizedError:
                del kept.memory.subscriptions[granted.filter]
                kept.unsubscribed(granted)
                self._leave(kept, granted)
                self._shares.leave(kept, granted.filter, self._unsaved)

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
            self._wills.schedule(connection.client_id, self._clock.now(), self._lifetime(connection.client_id))
        kept = connection.kept
        if kept is not None and kept.connection is connection:
            self._detach(kept, ended.session_expiry)
        elif kept is None and connection.taker is not None:
            self._leave_shares(connection.taker)
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
        """Let a connection have the retained messages that match a subscription, after the next commit. What a session
        that is kept has to get at QoS 1 or 2 goes through its queue, so that it is not lost either."""
        found = self.retained.match(granted.filter)
        if not found:
            return
        direct: list[str] = []
        for message in found:
            qos = min(message.post.qos, granted.qos)
            if qos and connection.kept is not None:
                self._queue_retained(message, qos, granted, connection.client_id)
            else:
                direct.append(message.post.topic.name)
        if connection.retained is None:
            connection.retained = {}
        connection.retained.update(((topic, granted.filter), granted) for topic in direct)
        self._after_commit(connection.send_retained)

    def _queue_retained(self, message: Queued, qos: int, granted: Granted, client_id: str) -> None:
        now = self._clock.now()
        if not message.is_expired(now):
            its = msgspec.structs.replace(message.remaining(now), subscription_identifiers=granted.identifiers)
            post = msgspec.structs.replace(message.post, qos=qos, properties=its)
            self.queue.append(Queued(post, session=client_id))

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
        kept.subscribed(granted, self.queue)
        self._unsaved.change(kept)
        if granted.qos:
            self._join(kept, granted)
        else:
            self._leave(kept, granted)

    def unsubscribed(self, kept: Kept, granted: Granted) -> None:
        """A session has a subscription no longer."""
        kept.unsubscribed(granted)
        self._unsaved.change(kept)
        self._leave(kept, granted)

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

    # --- what whoever commits calls

    def prepare(self, sealed: Sealed) -> bool:
        """Find what of a batch, without its duplicates, enters the queue, and what of the sessions is to be saved.
        Whether there is anything to commit."""
        for post, lanes in self._fan_out.queued(sealed):
            self.queue.append(Queued(post, _client_of(post)), lanes)
        self.queue.seal()
        self._chunks = {**self._unsaved.take(), **self._wills.changes(), **self._retain(sealed)}
        return bool(self._chunks or self.queue.is_under_way)

    def _retain(self, sealed: Sealed) -> dict[str, bytes | None]:
        """Take on the retained messages of a batch; what of them goes to disk."""
        chunks: dict[str, bytes | None] = {}
        duplicates = set(sealed.duplicates) if sealed.gathering.arrivals.retained else ()
        for row in sealed.gathering.arrivals.retained:
            if row not in duplicates:
                post = post_of(sealed, row)
                message = Queued(post, _client_of(post))
                message.time = self._clock.now()
                chunks |= self.retained.apply(message)
        return chunks

    def put(self, transaction: Transaction) -> None:
        """Let a transaction make it durable, behind everything else that it appends."""
        for name, chunk in self._chunks.items():
            if chunk is None:
                transaction.drop(_STATE, name)
            else:
                transaction.save(_STATE, name, chunk)
        self.queue.put(transaction)

    def committed(self, committed: Committed) -> None:
        """It is."""
        for message, lanes in self.queue.committed(committed):
            self._statistics.queued += 1
            for lane in lanes:
                self._due |= lane.users
            if message.session:
                self._give_own(message.session, message.offset)

    def answered(self) -> None:
        """Publishers know; now subscribers get it."""
        due, self._due = self._due, {}
        for puller in due:
            if isinstance(puller, Kept):
                self._pump.run(puller)
            else:
                self._pump.share(puller)

    # ---

    def _after_commit(self, done: Callable[[], None]) -> None:
        assert self._ingest is not None, "start comes first"
        self._ingest.after_commit(done)

    def _lifetime(self, client_id: str) -> int:
        """How long a client's session outlives its connection, in seconds."""
        kept = self._kept.get(client_id)
        return kept.expiry if kept is not None else 0

    def _publish_wills(self) -> None:
        for client_id in self._wills.due(self._clock.now()):
            self._publish_will(client_id)

    def _publish_will(self, client_id: str) -> None:
        will = self._wills.take(client_id)
        if will is not None and self._ingest is not None:
            self._ingest.put(will.topic, will.payload, will.qos, will.properties, retain=will.retain)

    def _make(self, client_id: str, user: str | None) -> Kept:
        if len(self._kept) >= self._most:
            raise TooManySessionsError("too many sessions are kept, see setting 'sessions.count'")
        kept = self._kept[client_id] = Kept(client_id, user, 0, self.queue.end)
        return kept

    def _restore(self, kept: Kept) -> None:
        self._kept[kept.client_id] = kept
        for granted in kept.memory.subscriptions.values():
            if granted.is_shared:
                self._shares.join(kept, granted, self._unsaved)
            elif granted.qos:
                self._join(kept, granted)

    def _end(self, kept: Kept) -> None:
        """Forget a session. A will that was waiting for its client to come back is published."""
        if kept.left_at is not None:
            self._publish_will(kept.client_id)
        for granted in kept.memory.subscriptions.values():
            self._leave(kept, granted)
        self._leave_shares(kept)
        del self._kept[kept.client_id]
        self._unsaved.end(kept)
        kept.connection = None

    def _lives(self, puller: Kept | Share) -> bool:
        if isinstance(puller, Share):
            return self._shares.get(puller.name) is puller
        return self._kept.get(puller.client_id) is puller

    def _join(self, kept: Kept, granted: Granted) -> None:
        lane = self.queue.join(kept, granted.filter)
        if lane is not None:
            self._fan_out.add_lane(lane)

    def _leave(self, kept: Kept, granted: Granted) -> None:
        lane = self.queue.leave(kept, granted.filter)
        if lane is not None:
            self._fan_out.remove_lane(lane)

    def _leave_shares(self, member: Kept) -> None:
        """A member's session has ended: what it did not finish goes to the others."""
        given_back = self._shares.leave_all(member, self._unsaved)
        if given_back:
            self._due |= dict.fromkeys(given_back)
            self._after_commit(_nothing)

    def _give_own(self, client_id: str, offset: int) -> None:
        kept = self._kept.get(client_id)
        if kept is not None and offset >= kept.next:
            kept.own.append(offset)
            self._due[kept] = None

    def _hold(self, kept: Kept, send: Callable[[], None]) -> None:
        self._unsaved.flow(kept)
        self._after_commit(send)

    def _lose(self, puller: Kept | Share, count: int) -> None:
        self._statistics.overflowed += count
        _log.warning(
            "client %r was away or too slow for too long: %d of its messages were dropped, see settings "
            "'sessions.queue_age' and 'sessions.queue_bytes'",
            puller.client_id if isinstance(puller, Kept) else puller.name,
            count,
        )

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
        while self._kept or len(self._wills):
            await self._clock.sleep(_SECONDS)
            self._expire()
            self._publish_wills()
            self.settle()
            self.queue.forget()
            try:
                await self._look_at_retention()
            except LogError:  # whoever commits finds out as well, and ends the gateway
                return

    def _expire(self) -> None:
        now = self._clock.now()
        for kept in list(self._kept.values()):
            at = kept.expires_at()
            if at is not None and at <= now:
                self._end(kept)
                self._after_commit(_nothing)

    async def _look_at_retention(self) -> None:
        """Whom has it overtaken? They are told in the log, also while they are away."""
        first = await self.queue.first() if self._kept else 0
        for kept in self._kept.values():
            if kept.next < first and (lost := kept.overtaken(self.queue, first)):
                self._lose(kept, lost)
                self._unsaved.flow(kept)
                self._after_commit(_nothing)


def _nothing() -> None:
    pass


def _client_of(post: Post) -> str:
    """The client that published an event, if one did."""
    return getattr(post.publisher, "client_id", "")
