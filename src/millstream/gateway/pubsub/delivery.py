"""Events to those who listen now.

A message is encoded once for each form in which subscribers want it (version, QoS, subscription identifiers), and its
bytes are shared by all who want that. Messages that one after the other go to the same audience are handed to each of
it together. What cannot be written at once waits in the subscriber's own bounded buffer, so
that a slow one costs the others nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from millstream.clock import SECOND, Clock, Micros, to_datetime
from millstream.event import Event
from millstream.gateway.pubsub.audience import Audience, Desk, Form, Reader, Subscriber
from millstream.gateway.pubsub.post import Post, encode_post
from millstream.gateway.sessions.share import Share
from millstream.gateway.statistics import Statistics
from millstream.mqtt import Bundle, Expiring, Message


class Delivery:
    """Events to their audiences, then everything to the sockets at once."""

    def __init__(self, statistics: Statistics, clock: Clock, time: Micros | None = None) -> None:
        """Of events of a `time`; now, unless it is given."""
        self._statistics = statistics
        self._clock = clock
        self._micros = clock.now() if time is None else time
        self._time = to_datetime(self._micros)
        self._subscribers: dict[Subscriber, None] = {}
        self._readers: dict[Reader, None] = {}
        self._desks: dict[Desk, None] = {}

    def give(self, posts: Sequence[Post], audience: Audience) -> None:
        """Hand events of one QoS, in their order, to everybody in their audience."""
        for form, subscribers in audience.forms:
            qos = min(form.qos, posts[0].qos)
            if form.have_queue and qos:
                continue
            messages = [self._encode(post, form, qos) for post in posts]
            if form.no_local:
                self._give_to_others(posts, messages, qos, subscribers)
            else:
                bundle = Bundle(messages)
                self._count(sum(who.deliver_all(bundle, qos) for who in subscribers), len(posts) * len(subscribers))
            self._subscribers.update(subscribers)
        for post in posts if audience.shares and not posts[0].qos else ():
            for share in audience.shares:
                self._give_to_one(share, post)
        for desk in audience.desks:
            desk.posts += posts
            self._desks[desk] = None
        if audience.readers:
            events = [self._event(post) for post in posts]
            for reader in audience.readers:
                reader.events += events
                self._readers[reader] = None

    def _give_to_others(
        self, posts: Sequence[Post], messages: Sequence[Message], qos: int, subscribers: Mapping[Subscriber, None]
    ) -> None:
        """To who does not want what is its own (3.8.3.1)."""
        for who in subscribers:
            others = [message for post, message in zip(posts, messages, strict=True) if post.publisher is not who]
            self._count(who.deliver_all(Bundle(others), qos), len(others))

    def _count(self, sent: int, wanted: int) -> None:
        self._statistics.delivered += sent
        self._statistics.dropped += wanted - sent

    def _encode(self, post: Post, form: Form, qos: int) -> Message:
        """How a form has it."""
        retain = form.retain_as_published and post.retain
        message = encode_post(post, form.version, qos, form.identifiers, retain=retain)
        if qos and post.properties is not None and post.properties.message_expiry_interval is not None:
            message = self._expiring(message, post, post.properties.message_expiry_interval, form)
        return message

    def _expiring(self, message: Message, post: Post, lifetime: int, form: Form) -> Message:
        """It may have to wait for its turn in the window of a subscriber (3.3.2.3.3)."""
        clock, began, statistics = self._clock, self._micros, self._statistics
        encode = partial(
            encode_post,
            post,
            form.version,
            min(form.qos, post.qos),
            form.identifiers,
            retain=form.retain_as_published and post.retain,
        )

        def fresh() -> Message | None:
            waited = (clock.now() - began) // SECOND
            if waited < lifetime:
                return encode(waited=waited)
            statistics.expired += 1
            return None

        return Expiring.of(message, fresh)

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
