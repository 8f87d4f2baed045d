"""Pub/sub: events to the subscribers of the moment.

A message is encoded once for each way in which subscribers want it (version, QoS, subscription identifiers), and its
pieces are shared by all of them. Who listens to a topic is kept with the topic until the subscriptions change. What
cannot be written at once waits in the subscriber's own bounded buffer, so that a slow one costs the others nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from millstream.clock import Micros, to_datetime
from millstream.event import Event
from millstream.gateway.attributes import PLAIN, Attributes, to_properties
from millstream.gateway.routing import distinct
from millstream.gateway.sealed import Sealed
from millstream.gateway.statistics import Statistics
from millstream.gateway.topic_table import Topic
from millstream.mqtt import Granted, Message, Outcome, Properties, Version, encode_message
from millstream.topic import Trie


class Subscriber(Protocol):
    """A connection that events go to. Compared by identity."""

    @property
    def version(self) -> Version:
        """What it speaks."""
        ...

    def deliver(self, message: Message, qos: int) -> Outcome:
        """Take a message, to be written with the next `flush`."""
        ...

    def flush(self) -> None:
        """Write what was delivered."""
        ...


class Reader:
    """A subscriber that is no connection: gets the events of a batch in one call."""

    __slots__ = ("call", "events")

    def __init__(self, call: Callable[[Sequence[Event]], None]) -> None:
        self.call = call
        self.events: list[Event] = []


class Wish(NamedTuple):
    """Who wants what: the values in the trie of filters."""

    who: Subscriber | Reader
    granted: Granted


class Listener(NamedTuple):
    """What a connection wants of a topic: all of its subscriptions that match, taken together (3.3.4)."""

    who: Subscriber
    qos: int
    no_local: bool
    identifiers: tuple[int, ...]


class Audience(NamedTuple):
    """Everybody who listens to a topic."""

    listeners: list[Listener]
    readers: list[Reader]


class Post(msgspec.Struct, frozen=True):
    """An event on its way to subscribers. `publisher` is the connection that it came from. Connections get the
    `payload` as it was published (3.3.3); `data` is what a CloudEvent in it carries, else the same."""

    topic: Topic
    qos: int
    payload: bytes
    data: bytes
    attributes: Attributes = PLAIN
    properties: Properties | None = None
    publisher: object = None


class FanOut:
    """The subscriptions of the moment."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._wishes: Trie[Wish] = Trie()

    def add(self, who: Subscriber | Reader, granted: Granted) -> None:
        """From now on, `who` listens."""
        self._wishes.add(granted.filter, Wish(who, granted))

    def remove(self, who: Subscriber | Reader, granted: Granted) -> None:
        """No longer. Absent is fine."""
        self._wishes.remove(granted.filter, Wish(who, granted))

    def give(self, sealed: Sealed, captured: bool, time: Micros) -> None:
        """Give the events of a batch that streams capture (or the others) to who listens now. Not the duplicates."""
        if not len(self._wishes):
            return
        gathering = sealed.gathering
        used, codes = distinct(sealed.numbers, len(gathering.table.topics))
        audiences = [self.audience(gathering.table.topics[number]) for number in used.tolist()]
        if all(audience is None for audience in audiences):
            return
        wanted = np.array([audience is not None for audience in audiences], bool)[codes]
        wanted &= sealed.is_captured == captured
        wanted[np.array(sealed.duplicates, np.int64)] = False
        delivery = Delivery(self._statistics, time)
        for row in np.flatnonzero(wanted).tolist():
            audience = audiences[codes[row]]
            assert audience is not None
            delivery.give(_post(sealed, row), audience)
        delivery.finish()

    def audience(self, topic: Topic) -> Audience | None:
        """Who listens to a topic; None for nobody."""
        if topic.audience_version != self._wishes.version:
            topic.audience = _assemble(self._wishes.match(topic.name))
            topic.audience_version = self._wishes.version
        return topic.audience


class Delivery:
    """Events to their audiences, then everything to the sockets at once."""

    def __init__(self, statistics: Statistics, time: Micros) -> None:
        self._statistics = statistics
        self._time = to_datetime(time)
        self._subscribers: dict[Subscriber, None] = {}
        self._readers: dict[Reader, None] = {}

    def give(self, post: Post, audience: Audience) -> None:
        """Hand one event to everybody in its audience."""
        encoded: dict[tuple[Version, int, tuple[int, ...]], Message] = {}
        for who, wanted, no_local, identifiers in audience.listeners:
            if no_local and who is post.publisher:
                continue
            qos = min(wanted, post.qos)
            form = (who.version, qos, identifiers)
            message = encoded.get(form)
            if message is None:
                message = encoded[form] = _encode(post, *form)
            if who.deliver(message, qos) is Outcome.SENT:
                self._statistics.delivered += 1
                self._subscribers[who] = None
            else:
                self._statistics.dropped += 1
        if audience.readers:
            event = self._event(post)
            for reader in audience.readers:
                reader.events.append(event)
                self._readers[reader] = None

    def finish(self) -> None:
        """Write, and call."""
        for subscriber in self._subscribers:
            subscriber.flush()
        for reader in self._readers:
            events, reader.events = reader.events, []
            self._statistics.delivered += len(events)
            reader.call(events)

    def _event(self, post: Post) -> Event:
        its = post.attributes
        return Event(
            topic=post.topic.name,
            payload=post.data,
            key=its.key,
            id=its.id,
            type=its.type,
            content_type=its.content_type,
            headers=its.headers,
            time=self._time,
        )


def _post(sealed: Sealed, row: int) -> Post:
    arrivals = sealed.gathering.arrivals
    return Post(
        sealed.topic(row),
        arrivals.quality(row),
        arrivals.payloads[row],
        sealed.data[row],
        sealed.gathering.attributes.get(row, PLAIN),
        arrivals.properties.get(row),
        arrivals.publisher(row),
    )


def _encode(post: Post, version: Version, qos: int, identifiers: tuple[int, ...]) -> Message:
    """An MQTT 5 subscriber gets the publisher's own properties if it has any (3.3.2.3), and what CloudEvents has for
    the attributes of an event that came otherwise."""
    its = post.properties or to_properties(post.attributes)
    if identifiers:
        its = msgspec.structs.replace(its, subscription_identifiers=identifiers)
    return encode_message(post.topic.encoded, qos, post.payload, version, its)


def _assemble(wishes: Sequence[Wish]) -> Audience | None:
    listeners: dict[Subscriber, Listener] = {}
    readers: list[Reader] = []
    for who, granted in wishes:
        if isinstance(who, Reader):
            readers.append(who)
            continue
        found = listeners.get(who)
        listeners[who] = Listener(
            who,
            max(granted.qos, found.qos) if found else granted.qos,
            granted.no_local and (found.no_local if found else True),
            (*(found.identifiers if found else ()), *granted.identifiers),
        )
    return Audience(list(listeners.values()), readers) if wishes else None
