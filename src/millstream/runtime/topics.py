"""Pub/sub for workers: `Topics` over the bus, and the server's end that links it with the gateway's topics.

What a worker that is too slow for its events cannot take is dropped and counted; the bus bounds what waits for it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


class TopicsService:
    """The server's end: serves workers the gateway's topics."""

    def __init__(self, topics: Topics, bus: Bus) -> None:
        self._topics = topics
        self._subscriptions: dict[Peer, dict[int, TopicSubscription]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.dropped = 0
        bus.serve(SUBSCRIBE, self._subscribe)
        bus.serve(UNSUBSCRIBE, self._unsubscribe)
        bus.serve(PUBLISH, self._publish)

    async def close(self) -> None:
        """Finish what the end of connections has begun."""
        await asyncio.gather(*self._closing)

    async def _subscribe(self, peer: Peer, body: bytes) -> bytes:
        wish = _decode_subscribe.decode(body)
        subscription = await self._topics.subscribe(
            wish.topics, wish.name, lambda events: self._give(peer, wish.id, events)
        )
        if peer not in self._subscriptions:
            self._subscriptions[peer] = {}
            peer.on_close(lambda: self._peer_left(peer))
        self._subscriptions[peer][wish.id] = subscription
        return b""

    async def _unsubscribe(self, peer: Peer, body: bytes) -> bytes:
        subscription = self._subscriptions.get(peer, {}).pop(_decode_subscribe.decode(body).id, None)
        if subscription is not None:
            await subscription.close()
        return b""

    async def _publish(self, peer: Peer, body: bytes) -> bytes:
        self._topics.publish(pa.ipc.read_record_batch(pa.py_buffer(body), EVENT_SCHEMA))
        return b""

    def _give(self, peer: Peer, number: int, events: Sequence[Event]) -> None:
        if not peer.notify(EVENTS, _encode(_Events(number, list(events)))):
            self.dropped += len(events)

    def _peer_left(self, peer: Peer) -> None:
        for subscription in self._subscriptions.pop(peer).values():
            task = asyncio.get_running_loop().create_task(subscription.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
