"""A session that is kept: what is remembered of it, where it is in the queue, and how both lie in the log.

Two chunks of the state of the group `$gateway`: `session/CLIENT` with what changes rarely, `flow/CLIENT` with its
position and what is on its way. Every message of its lanes below the position was acknowledged, or is one of the
flights.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from millstream.clock import SECOND, Micros
from millstream.gateway.sessions.page import Page
from millstream.gateway.sessions.queue import Lane, Queue
from millstream.mqtt import Flight, Granted, Memory
from millstream.topic import filter_matches

if TYPE_CHECKING:
    from millstream.gateway.listeners.connection import Connection

SESSION, FLOW = "session/", "flow/"

NEVER = 0xFFFF_FFFF  # of a session expiry interval (3.1.2.11.2)
_AHEAD = 256  # offsets that are looked up together
_TOPICS = 1_024  # whose wishes are remembered


class Wanted(msgspec.Struct, frozen=True):
    """What a session wants of a topic: all of its subscriptions that match, taken together (3.3.4)."""

    qos: int
    no_local: bool
    retain_as_published: bool
    identifiers: tuple[int, ...]

    @classmethod
    def of(cls, granted: Sequence[Granted]) -> Wanted:
        """What these want together; there is at least one."""
        return cls(
            max(each.qos for each in granted),
            all(each.no_local for each in granted),
            any(each.retain_as_published for each in granted),
            tuple(identifier for each in granted for identifier in each.identifiers),
        )


class _Subscription(msgspec.Struct, array_like=True):
    filter: str
    qos: int
    no_local: bool
    retain_as_published: bool
    identifiers: tuple[int, ...]
    since: int


class _Session(msgspec.Struct, omit_defaults=True):
    expiry: int
    left_at: Micros | None = None
    user: str | None = None
    subscriptions: list[_Subscription] = []


class _Flow(msgspec.Struct, omit_defaults=True):
    next: int
    last_id: int = 0
    received: list[int] = []
    flights: list[tuple[int, int, int, bool, str]] = []


class Kept:
    """A session. One whose `memory` is not durable ends with its connection, and takes from the queue only what comes
    by shared subscriptions. `expiry` is in seconds; `left_at` when its connection ended, None while there is one."""

    def __init__(
        self, client_id: str, user: str | None, expiry: int, next_offset: int, memory: Memory | None = None
    ) -> None:
        self.client_id = client_id
        self.user = user
        self.expiry = expiry
        self.left_at: Micros | None = None
        self.memory = memory if memory is not None else Memory(durable=True)
        self.next = next_offset  # in the queue: everything below was sent, or is not for it
        self.since: dict[str, int] = {}  # by filter: where the queue ended when it was subscribed to
        self.own = array("q")  # offsets of messages for this session only
        self.connection: Connection | None = None
        self.shares: dict[str, None] = {}  # names of its shared subscriptions
        self.again: deque[int] = deque()  # packet identifiers that an earlier connection used, to be sent again
        self.page = Page()
        self.is_holding = False  # messages of QoS 2 wait for the disk, and no more are fetched meanwhile
        self._ahead: deque[int] = deque()
        self._wanted: dict[str, Wanted | None] = {}

    def expires_at(self) -> Micros | None:
        """When it ends; None while its connection lasts, or for never."""
        if self.left_at is None or (self.expiry == NEVER):
            return None
        return self.left_at + self.expiry * SECOND

    # --- subscriptions

    def subscribed(self, granted: Granted, queue: Queue) -> None:
        """A subscription is there, new or in the place of one."""
        self.since.setdefault(granted.filter, queue.end)
        self._forget()

    def unsubscribed(self, granted: Granted) -> None:
        """A subscription is gone, and what it alone would have brought."""
        self.since.pop(granted.filter, None)
        self._forget()

    def _forget(self) -> None:
        self._wanted.clear()
        self._ahead.clear()

    def wants(self, topic: str) -> Wanted | None:
        """What it wants of a topic; None for nothing."""
        if topic not in self._wanted:
            if len(self._wanted) >= _TOPICS:
                self._wanted.clear()
            self._wanted[topic] = self._find(topic)
        return self._wanted[topic]

    def _find(self, topic: str) -> Wanted | None:
        found = [each for each in self.memory.subscriptions.values() if filter_matches(each.filter, topic)]
        return Wanted.of(found) if found else None

    # --- its place in the queue

    def ahead(self, queue: Queue) -> deque[int]:
        """The next offsets that it has to get, ascending; empty if there are none."""
        if not self._ahead:
            found = set(self.own[bisect_left(self.own, self.next) :][:_AHEAD])
            for lane, since in self._lanes(queue):
                found.update(lane.after(max(self.next, since), _AHEAD))
            self._ahead.extend(sorted(found)[:_AHEAD])
        return self._ahead

    def wanted(self, offset: int, queue: Queue) -> list[int]:
        """What to read, from an offset on."""
        flights = self.memory.flights or {}
        again = (flights[each].offset for each in self.again if each in flights)
        return sorted({offset, *(each for each in (*again, *self.ahead(queue)) if each >= offset)})

    def passed(self, offset: int) -> None:
        """A message is on its way, or is not to be sent."""
        self.next = offset + 1
        if self._ahead and self._ahead[0] == offset:
            self._ahead.popleft()
        if self.own and self.own[0] <= offset:
            del self.own[: bisect_left(self.own, self.next)]

    def begin_again_if_beyond(self, end: int) -> None:
        """The queue is another one than that of the session: somebody has dropped its stream."""
        if self.next > end:
            self.next = end
            self.since = dict.fromkeys(self.since, end)
            self.memory.flights = None

    def overtaken(self, queue: Queue, first: int) -> int:
        """Go on from `first`, since retention has taken everything below, say. How many messages of its were among
        that."""
        lost = {offset for offset in self.own if self.next <= offset < first}
        for lane, since in self._lanes(queue):
            lost.update(offset for offset in lane.after(max(self.next, since), len(lane.offsets)) if offset < first)
        self.next = first
        self.own = array("q", (offset for offset in self.own if offset >= first))
        self._ahead.clear()
        return len(lost)

    def backlog(self, queue: Queue, offset: int) -> int:
        """How many bytes wait for it from an offset on; what several filters match counts as often."""
        return sum(lane.size(max(offset, since)) for lane, since in self._lanes(queue))

    def _lanes(self, queue: Queue) -> Iterator[tuple[Lane, int]]:
        for mqtt_filter, since in self.since.items():
            lane = queue.lanes.get(mqtt_filter)
            if lane is not None:
                yield lane, since

    # --- in the log

    def session_chunk(self) -> bytes:
        """What changes rarely."""
        return msgspec.msgpack.encode(
            _Session(
                self.expiry,
                self.left_at,
                self.user,
                [
                    _Subscription(
                        its.filter,
                        its.qos,
                        its.no_local,
                        its.retain_as_published,
                        its.identifiers,
                        self.since.get(its.filter, self.next),
                    )
                    for its in self.memory.subscriptions.values()
                ],
            )
        )

    def flow_chunk(self) -> bytes:
        """What changes with every message."""
        flights = (self.memory.flights or {}).items()
        return msgspec.msgpack.encode(
            _Flow(
                self.next,
                self.memory.last_id,
                sorted(self.memory.received or ()),
                [(packet_id, its.qos, its.offset, its.released, its.share) for packet_id, its in flights],
            )
        )

    @classmethod
    def of(cls, client_id: str, session: bytes, flow: bytes, now: Micros) -> Kept:
        """A session as it was committed. If it had a connection then, that ended `now`."""
        its = msgspec.msgpack.decode(session, type=_Session)
        flowing = msgspec.msgpack.decode(flow, type=_Flow)
        kept = cls(client_id, its.user, its.expiry, flowing.next)
        kept.left_at = its.left_at if its.left_at is not None else now
        memory = kept.memory
        for each in its.subscriptions:
            granted = Granted(each.filter, each.qos, each.no_local, each.identifiers, each.retain_as_published)
            memory.subscriptions[each.filter] = granted
            kept.since[each.filter] = each.since
        memory.last_id = flowing.last_id
        memory.received = set(flowing.received) or None
        memory.flights = {
            packet_id: Flight(qos, offset, released, share)
            for packet_id, qos, offset, released, share in flowing.flights
        }
        return kept
