"""Pub/sub: events of a batch to the subscribers of the moment.

Who listens to a topic is kept with the topic until the subscriptions change; whether anybody does, in a column by topic
number, so that what nobody listens to costs nothing. Events that go to the same audience one after the other, as those
of many devices to one subscriber, are handed on together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt

from millstream.clock import Clock, Micros
from millstream.gateway.attributes import PLAIN
from millstream.gateway.ingest.sealed import Sealed
from millstream.gateway.pubsub.audience import Audience, Desk, Reader, Subscriber, Wish, assemble
from millstream.gateway.pubsub.delivery import Delivery
from millstream.gateway.pubsub.hearing import AT_ONCE, QUEUED, Hearing
from millstream.gateway.pubsub.post import Post
from millstream.gateway.pubsub.topic_table import Topic
from millstream.gateway.sessions.queue import Lane
from millstream.gateway.sessions.share import Share
from millstream.gateway.statistics import Statistics
from millstream.mqtt import Granted
from millstream.topic import Trie

_ASSEMBLED = 1_000  # audiences that topics may share


class FanOut:
    """The subscriptions of the moment."""

    def __init__(self, statistics: Statistics, clock: Clock) -> None:
        self._statistics = statistics
        self._clock = clock
        self._wishes: Trie[Wish] = Trie()
        self._lanes = 0
        self._hearing: Hearing | None = None
        self._assembled: dict[tuple[Wish, ...], Audience | None] = {}
        self._assembled_version = -1

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
        for post in self._heard(sealed, QUEUED) if self._lanes else ():
            if post.qos and post.topic.audience is not None:
                yield post, post.topic.audience.lanes

    def give(self, sealed: Sealed, captured: bool, time: Micros) -> None:
        """Give the events of a batch that streams capture (or the others) to who listens now. Not the duplicates."""
        posts = self._heard(sealed, AT_ONCE, captured) if len(self._wishes) else ()
        if posts:
            delivery = Delivery(self._statistics, self._clock, time)
            for run, audience in _runs(posts):
                delivery.give(run, audience)
            delivery.finish()

    def audience(self, topic: Topic) -> Audience | None:
        """Who listens to a topic; None for nobody."""
        if topic.audience_version != self._wishes.version:
            topic.audience = self._assemble(topic.name)
            topic.audience_version = self._wishes.version
        return topic.audience

    def _assemble(self, name: str) -> Audience | None:
        """Topics that are wanted for the same share an audience."""
        wishes = tuple(self._wishes.match(name))
        if self._assembled_version != self._wishes.version or len(self._assembled) >= _ASSEMBLED:
            self._assembled.clear()
            self._assembled_version = self._wishes.version
        if wishes not in self._assembled:
            self._assembled[wishes] = assemble(wishes)
        return self._assembled[wishes]

    def _heard(self, sealed: Sealed, how: int, captured: bool | None = None) -> list[Post]:
        """The events of a batch that are heard in some way, and are no duplicates; only those that streams capture (or
        the others), if that is said."""
        table, version = sealed.gathering.table, self._wishes.version
        if self._hearing is None or self._hearing.table is not table or self._hearing.version != version:
            self._hearing = Hearing(table, version, self.audience)
        wanted = self._hearing.ways(sealed.numbers) & how != 0
        if captured is not None:
            wanted &= sealed.is_captured == captured
        wanted[np.array(sealed.duplicates, np.int64)] = False
        return posts_of(sealed, np.flatnonzero(wanted))


def _runs(posts: Sequence[Post]) -> Iterator[tuple[Sequence[Post], Audience]]:
    """Events that follow each other, have the same QoS, and go to the same audience. Where members of shared
    subscriptions take turns, each by itself: a client may be in both, and is to see it in order (4.6)."""
    start, audience, qos = 0, None, -1
    for row, post in enumerate(posts):
        its = post.topic.audience
        if its is not audience or post.qos != qos or (audience is not None and audience.shares):
            if audience is not None:
                yield posts[start:row], audience
            start, audience, qos = row, its, post.qos
    if audience is not None:
        yield posts[start:], audience


def posts_of(sealed: Sealed, rows: npt.NDArray[np.int64]) -> list[Post]:
    """Events of a batch, by their rows (ascending)."""
    if not len(rows):
        return []
    arrivals, attributes, data = sealed.gathering.arrivals, sealed.gathering.attributes, sealed.data
    topics, payloads, retained = sealed.gathering.table.topics, arrivals.payloads, arrivals.retained
    sources = (np.searchsorted(arrivals.starts, rows, side="right") - 1).tolist()
    grades = (np.searchsorted(arrivals.quality_starts, rows, side="right") - 1).tolist()
    places = rows.tolist()
    columns = (
        [topics[number] for number in sealed.numbers[rows].tolist()],
        [arrivals.qualities[grade] for grade in grades],
        [payloads[row] for row in places],
        [data[row] for row in places],
        [attributes.get(row, PLAIN) for row in places] if attributes else repeat(PLAIN),
        [arrivals.properties.get(row) for row in places] if arrivals.properties else repeat(None),
        [arrivals.publishers[source] for source in sources],
        [row in retained for row in places] if retained else repeat(False),
    )
    return list(map(Post, *columns))
