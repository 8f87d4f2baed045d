"""Events to those who listen now.

A message is encoded once for each form in which subscribers want it (version, QoS, subscription identifiers), and its
pieces are shared by all who want that. What cannot be written at once waits in the subscriber's own bounded buffer, so
that a slow one costs the others nothing.
"""

from __future__ import annotations

from millstream.clock import Micros, to_datetime
from millstream.event import Event
from millstream.gateway.pubsub.audience import Audience, Desk, Reader, Subscriber
from millstream.gateway.pubsub.post import Post, encode_post
from millstream.gateway.sessions.share import Share
from millstream.gateway.statistics import Statistics
from millstream.mqtt import Outcome

_SENT = Outcome.SENT  # slow to look up, for what is looked up with every message


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
        for form, subscribers in audience.forms:
            version, wanted, identifiers, as_published, no_local, have_queue = form
            qos = wanted if wanted < post.qos else post.qos
            if have_queue and qos:
                continue
            message = encode_post(post, version, qos, identifiers, retain=as_published and post.retain)
            own = dropped = 0
            for who in subscribers:
                if no_local and who is post.publisher:
                    own += 1
                elif who.deliver(message, qos) is not _SENT:
                    dropped += 1
            self._subscribers.update(subscribers)
            self._statistics.delivered += len(subscribers) - own - dropped
            self._statistics.dropped += dropped
        if audience.shares and not post.qos:
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
