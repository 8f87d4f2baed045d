"""Pub/sub for workers: `Topics` over the bus, and the server's end that links it with the gateway's topics.

Of the workers that subscribe under one name, each event goes to one, in turn; one whose buffer is full is passed over.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa

from millstream.bus import Bus, Peer
from millstream.errors import LogUnavailableError
from millstream.event import EVENT_SCHEMA, Event
from millstream.runtime.peer import SocketPeer
from millstream.worker import Topics, TopicSubscription

SUBSCRIBE = "topics.subscribe"
UNSUBSCRIBE = "topics.unsubscribe"
PUBLISH = "topics.publish"
EVENTS = "topics.events"

_log = logging.getLogger(__name__)


class _Subscribe(msgspec.Struct, array_like=True, frozen=True):
    id: int
    topics: str
    name: str


class _Events(msgspec.Struct, array_like=True, frozen=True):
    id: int
    events: list[Event]


_encode = msgspec.msgpack.Encoder().encode
_decode_subscribe = msgspec.msgpack.Decoder(_Subscribe)
_decode_events = msgspec.msgpack.Decoder(_Events)


class BusTopics:
    """A worker's `Topics`. It outlives connections: `attach` gives it the next one."""

    def __init__(self) -> None:
        self._peer: SocketPeer | None = None
        self._subscriptions: dict[int, _Subscription] = {}
        self._ids = itertools.count(1)
        self.dropped = 0

    async def attach(self, peer: SocketPeer) -> None:
        """Use this connection from now on, and subscribe there to what was subscribed before."""
        peer.serve(EVENTS, self._take)
        self._peer = peer
        for subscription in list(self._subscriptions.values()):
            await peer.request(SUBSCRIBE, _encode(subscription.wish))

    def publish(self, events: pa.RecordBatch) -> None:
        """See `Topics.publish`."""
        if self._peer is None or not self._peer.notify(PUBLISH, events.serialize().to_pybytes()):
            self.dropped += events.num_rows

    async def subscribe(self, topics: str, name: str, callback: Callable[[Sequence[Event]], None]) -> TopicSubscription:
        """See `Topics.subscribe`. `LogUnavailableError` if the server is gone."""
        if self._peer is None:
            raise LogUnavailableError("not connected to a server")
        wish = _Subscribe(next(self._ids), topics, name)
        subscription = self._subscriptions[wish.id] = _Subscription(self, wish, callback)
        try:
            await self._peer.request(SUBSCRIBE, _encode(wish))
        except BaseException:
            del self._subscriptions[wish.id]
            raise
        return subscription

    async def end(self, wish: _Subscribe) -> None:
        """End a subscription; one that has ended is fine."""
        if self._subscriptions.pop(wish.id, None) is None or self._peer is None:
            return
        try:
            await self._peer.request(UNSUBSCRIBE, _encode(wish))
        except LogUnavailableError:
            return  # it ended with the connection

    async def _take(self, peer: Peer, body: bytes) -> bytes:
        message = _decode_events.decode(body)
        subscription = self._subscriptions.get(message.id)
        if subscription is not None:
            subscription.callback(message.events)
        return b""


@dataclass(frozen=True, slots=True)
class _Subscription:
    topics: BusTopics
    wish: _Subscribe
    callback: Callable[[Sequence[Event]], None]

    async def close(self) -> None:
        await self.topics.end(self.wish)


@dataclass(slots=True)
class _Share:
    """The workers that share the events of a filter under one name."""

    members: list[tuple[Peer, int]] = field(default_factory=list)
    subscription: TopicSubscription | None = None
    turn: int = 0
    dropped: int = 0

    def give(self, events: Sequence[Event]) -> None:
        """Spread events over the members, in turn; those of one call go out in one message a member."""
        hands: list[list[Event]] = [[] for _ in self.members]
        for event in events:
            if hands:
                hands[self.turn % len(hands)].append(event)
                self.turn += 1
        for number, hand in enumerate(hands):
            if hand and not self._hand_over(number, hand):
                self.dropped += len(hand)

    def _hand_over(self, first: int, events: list[Event]) -> bool:
        count = len(self.members)
        ring = (self.members[(first + step) % count] for step in range(count))
        return any(peer.notify(EVENTS, _encode(_Events(number, events))) for peer, number in ring)


class TopicsService:
    """The server's end: serves workers the gateway's topics."""

    def __init__(self, topics: Topics, bus: Bus) -> None:
        self._topics = topics
        self._shares: dict[tuple[str, str], _Share] = {}
        self._changing = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._seen: set[Peer] = set()
        bus.serve(SUBSCRIBE, self._subscribe)
        bus.serve(UNSUBSCRIBE, self._unsubscribe)
        bus.serve(PUBLISH, self._publish)

    @property
    def dropped(self) -> int:
        """Events that no worker of their subscription could take."""
        return sum(share.dropped for share in self._shares.values())

    async def close(self) -> None:
        """Finish what the end of connections has begun."""
        await asyncio.gather(*self._leaving)

    async def _subscribe(self, peer: Peer, body: bytes) -> bytes:
        wish = _decode_subscribe.decode(body)
        if peer not in self._seen:
            self._seen.add(peer)
            peer.on_close(lambda: self._peer_left(peer))
        async with self._changing:
            share = self._shares.get((wish.topics, wish.name))
            if share is None:
                share = _Share()
                share.subscription = await self._topics.subscribe(wish.topics, wish.name, share.give)
                self._shares[wish.topics, wish.name] = share
            share.members.append((peer, wish.id))
        return b""

    async def _unsubscribe(self, peer: Peer, body: bytes) -> bytes:
        wish = _decode_subscribe.decode(body)
        await self._remove(lambda member: member == (peer, wish.id))
        return b""

    async def _publish(self, peer: Peer, body: bytes) -> bytes:
        self._topics.publish(pa.ipc.read_record_batch(pa.py_buffer(body), EVENT_SCHEMA))
        return b""

    def _peer_left(self, peer: Peer) -> None:
        self._seen.discard(peer)
        task = asyncio.get_running_loop().create_task(self._remove(lambda member: member[0] is peer))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _remove(self, unwanted: Callable[[tuple[Peer, int]], bool]) -> None:
        async with self._changing:
            for key, share in list(self._shares.items()):
                share.members = [member for member in share.members if not unwanted(member)]
                if not share.members:
                    del self._shares[key]
                    if share.subscription is not None:
                        await share.subscription.close()
