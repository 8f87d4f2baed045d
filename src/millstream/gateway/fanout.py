"""Pub/sub: events to the subscribers of the moment.

A message is encoded once for each way in which subscribers want it (version, QoS, subscription identifiers), and its
pieces are shared by all of them. Who listens to a topic is kept with the topic until the subscriptions change. What
cannot be written at once waits in the subscriber's own bounded buffer, so that a slow one costs the others nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from millstream.clock import Micros, to_datetime
from millstream.event import Event
from millstream.gateway.attributes import PLAIN
from millstream.gateway.post import Post, encode_post
from millstream.gateway.queue import Lane
from millstream.gateway.routing import distinct
from millstream.gateway.sealed import Sealed
from millstream.gateway.share import Share
from millstream.gateway.statistics import Statistics
from millstream.gateway.topic_table import Topic
from millstream.mqtt import Granted, Message, Outcome, Version
from millstream.topic import Trie


class Subscriber(Protocol):
    """A connection that events go to. Compared by identity."""

    @property
    def has_queue(self) -> bool:
        """Whether it gets from the queue of its session what has QoS 1 or 2, and only QoS 0 from here."""
        ...

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


class Desk:
    """Another one: gets events as they were published, so that it knows by whom."""

    __slots__ = ("call", "posts")

    def __init__(self, call: Callable[[list[Post]], None]) -> None:
        self.call = call
        self.posts: list[Post] = []


class Wish(NamedTuple):
    """Who wants what: the values in the trie of filters. A lane wants it for the sessions that are kept."""

    who: Subscriber | Reader | Desk | Lane | Share
    granted: Granted | None = None


class Listener(NamedTuple):
    """What a connection wants of a topic: all of its subscriptions that match, taken together (3.3.4)."""

    who: Subscriber
    qos: int
    no_local: bool
    identifiers: tuple[int, ...]
    retain_as_published: bool
    has_queue: bool


class Audience(NamedTuple):
    """Everybody who listens to a topic."""

    listeners: list[Listener]
    readers: list[Reader]
    desks: list[Desk]
    lanes: list[Lane]
    shares: list[Share]

    def is_present(self) -> bool:
        """Whether anybody in it may get something at once, and not by the queue."""
        return bool(self.listeners or self.readers or self.desks or self.shares)


class FanOut:
    """The subscriptions of the moment."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._wishes: Trie[Wish] = Trie()
        self._lanes = 0

    def add(self, who: Subscriber | Reader | Desk, granted: Granted) -> None:
        """From now on, `who` listens."""
        self._wishes.add(granted.filter, Wish(who, granted))

    def remove(self, who: Subscriber | Reader | Desk, granted: Granted) -> None:
        """No longer. Absent is fine."""
        self._wishes.remove(granted.filter, Wish(who, granted))

    def add_lane(self, lane: Lane) -> None:
        """From now on, sessions that are kept want what matches its filter."""
        self._wishes.add(lane.filter, Wish(lane))
        self._lanes += 1

    def remove_lane(self, lane: Lane) -> None:
        """No longer."""
        self._wishes.remove(lane.filter, Wish(lane))
        self._lanes -= 1

    def add_share(self, share: Share) -> None:
        """From now on, one of the members of a shared subscription gets what matches its filter at QoS 0."""
        self._wishes.add(share.filter, Wish(share))

    def remove_share(self, share: Share) -> None:
        """No longer."""
        self._wishes.remove(share.filter, Wish(share))

    def queued(self, sealed: Sealed) -> Iterator[tuple[Post, Sequence[Lane]]]:
        """The events of a batch that sessions which are kept want, at QoS 1 or 2. Not the duplicates."""
        if not self._lanes:
            return
        for row, audience in self._heard(sealed, lambda audience: bool(audience.lanes)):
            if sealed.gathering.arrivals.quality(row):
                yield post_of(sealed, row), audience.lanes

    def give(self, sealed: Sealed, captured: bool, time: Micros) -> None:
        """Give the events of a batch that streams capture (or the others) to who listens now. Not the duplicates."""
        if not len(self._wishes):
            return
        delivery = Delivery(self._statistics, time)
        for row, audience in self._heard(sealed, Audience.is_present):
            if sealed.is_captured[row] == captured:
                delivery.give(post_of(sealed, row), audience)
        delivery.finish()

    def _heard(self, sealed: Sealed, heeds: Callable[[Audience], bool]) -> Iterator[tuple[int, Audience]]:
        """The rows of a batch that have an audience of some kind, and are no duplicates."""
        topics = sealed.gathering.table.topics
        used, codes = distinct(sealed.numbers, len(topics))
        audiences = [self.audience(topics[number]) for number in used.tolist()]
        heeded = [audience is not None and heeds(audience) for audience in audiences]
        if not any(heeded):
            return
        wanted = np.array(heeded, bool)[codes]
        wanted[np.array(sealed.duplicates, np.int64)] = False
        for row in np.flatnonzero(wanted).tolist():
            audience = audiences[codes[row]]
            assert audience is not None
            yield row, audience

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
        self._desks: dict[Desk, None] = {}

    def give(self, post: Post, audience: Audience) -> None:
        """Hand one event to everybody in its audience."""
        encoded: dict[tuple[Version, int, tuple[int, ...], bool], Message] = {}
        for who, wanted, no_local, identifiers, as_published, has_queue in audience.listeners:
            qos = min(wanted, post.qos)
            if (has_queue and qos) or (no_local and who is post.publisher):
                continue
            form = (who.version, qos, identifiers, as_published and post.retain)
            message = encoded.get(form)
            if message is None:
                message = encoded[form] = encode_post(post, who.version, qos, identifiers, retain=form[3])
            if who.deliver(message, qos) is Outcome.SENT:
                self._statistics.delivered += 1
                self._subscribers[who] = None
            else:
                self._statistics.dropped += 1
        if not post.qos:
            for share in audience.shares:
                self._give_to_one(share, post)
        for desk in audience.desks:
            desk.posts.append(post)
            self._desks[desk] = None
        if audience.readers:
            event = self._event(post)
            for reader in audience.readers:
                reader.events.append(event)
                self._readers[reader] = None

    def _give_to_one(self, share: Share, post: Post) -> None:
        member = share.choose()
        if member is None or member.connection is None:
            self._statistics.dropped += 1
            return
        connection, its = member.connection, share.members[member]
        retain = its.retain_as_published and post.retain
        connection.deliver(encode_post(post, connection.version, 0, its.identifiers, retain=retain), 0)
        self._statistics.delivered += 1
        self._subscribers[connection] = None

    def finish(self) -> None:
        """Write, and call."""
        for subscriber in self._subscribers:
            subscriber.flush()
        for reader in self._readers:
            events, reader.events = reader.events, []
            self._statistics.delivered += len(events)
            reader.call(events)
        for desk in self._desks:
            posts, desk.posts = desk.posts, []
            desk.call(posts)

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


def post_of(sealed: Sealed, row: int) -> Post:
    """An event of a batch."""
    arrivals = sealed.gathering.arrivals
    return Post(
        sealed.topic(row),
        arrivals.quality(row),
        arrivals.payloads[row],
        sealed.data[row],
        sealed.gathering.attributes.get(row, PLAIN),
        arrivals.properties.get(row),
        arrivals.publisher(row),
        row in arrivals.retained,
    )


def _assemble(wishes: Sequence[Wish]) -> Audience | None:
    listeners: dict[Subscriber, Listener] = {}
    readers: list[Reader] = []
    desks: list[Desk] = []
    lanes: list[Lane] = []
    shares: list[Share] = []
    for who, granted in wishes:
        if isinstance(who, Reader):
            readers.append(who)
        elif isinstance(who, Desk):
            desks.append(who)
        elif isinstance(who, Lane):
            lanes.append(who)
        elif isinstance(who, Share):
            shares.append(who)
        elif granted is not None:
            listeners[who] = _together(who, granted, listeners.get(who))
    return Audience(list(listeners.values()), readers, desks, lanes, shares) if wishes else None


def _together(who: Subscriber, granted: Granted, found: Listener | None) -> Listener:
    """What a subscriber wants that had `found` so far."""
    if found is None:
        its = (granted.qos, granted.no_local, granted.identifiers, granted.retain_as_published)
        return Listener(who, *its, who.has_queue)
    return Listener(
        who,
        max(granted.qos, found.qos),
        granted.no_local and found.no_local,
        (*found.identifiers, *granted.identifiers),
        granted.retain_as_published or found.retain_as_published,
        found.has_queue,
    )
