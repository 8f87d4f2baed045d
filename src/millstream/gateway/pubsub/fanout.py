"""Pub/sub: events of a batch to the subscribers of the moment.

Who listens to a topic is kept with the topic until the subscriptions change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from millstream.clock import Micros
from millstream.gateway.attributes import PLAIN
from millstream.gateway.ingest.routing import distinct
from millstream.gateway.ingest.sealed import Sealed
from millstream.gateway.pubsub.audience import Audience, Desk, Reader, Subscriber, Wish, assemble
from millstream.gateway.pubsub.delivery import Delivery
from millstream.gateway.pubsub.post import Post
from millstream.gateway.pubsub.topic_table import Topic
from millstream.gateway.sessions.queue import Lane
from millstream.gateway.sessions.share import Share
from millstream.gateway.statistics import Statistics
from millstream.mqtt import Granted
from millstream.topic import Trie


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
        if self._lanes:
            for post, audience in self._heard(sealed, lambda audience: bool(audience.lanes)):
                if post.qos:
                    yield post, audience.lanes

    def give(self, sealed: Sealed, captured: bool, time: Micros) -> None:
        """Give the events of a batch that streams capture (or the others) to who listens now. Not the duplicates."""
        if not len(self._wishes):
            return
        delivery = Delivery(self._statistics, time)
        for post, audience in self._heard(sealed, Audience.is_present, captured):
            delivery.give(post, audience)
        delivery.finish()

    def _heard(
        self, sealed: Sealed, heeds: Callable[[Audience], bool], captured: bool | None = None
    ) -> Iterator[tuple[Post, Audience]]:
        """The events of a batch that have an audience of some kind, and are no duplicates; only those that streams
        capture (or the others), if that is said."""
        topics = sealed.gathering.table.topics
        used, codes = distinct(sealed.numbers, len(topics))
        audiences = [self.audience(topics[number]) for number in used.tolist()]
        heeded = [audience is not None and heeds(audience) for audience in audiences]
        if not any(heeded):
            return
        wanted = np.array(heeded, bool)[codes]
        wanted[np.array(sealed.duplicates, np.int64)] = False
        if captured is not None:
            wanted &= sealed.is_captured == captured
        rows = np.flatnonzero(wanted)
        for post, code in zip(posts_of(sealed, rows), codes[rows].tolist(), strict=True):
            audience = audiences[code]
            assert audience is not None
            yield post, audience

    def audience(self, topic: Topic) -> Audience | None:
        """Who listens to a topic; None for nobody."""
        if topic.audience_version != self._wishes.version:
            topic.audience = assemble(self._wishes.match(topic.name))
            topic.audience_version = self._wishes.version
        return topic.audience


def posts_of(sealed: Sealed, rows: npt.NDArray[np.int64]) -> Iterator[Post]:
    """Events of a batch, by their rows (ascending)."""
    arrivals, attributes, data = sealed.gathering.arrivals, sealed.gathering.attributes, sealed.data
    topics, payloads, retained = sealed.gathering.table.topics, arrivals.payloads, arrivals.retained
    sources = (np.searchsorted(arrivals.starts, rows, side="right") - 1).tolist()
    grades = (np.searchsorted(arrivals.quality_starts, rows, side="right") - 1).tolist()
    numbers = sealed.numbers[rows].tolist()
    for row, number, grade, source in zip(rows.tolist(), numbers, grades, sources, strict=True):
        yield Post(
            topics[number],
            arrivals.qualities[grade],
            payloads[row],
            data[row],
            attributes.get(row, PLAIN),
            arrivals.properties.get(row),
            arrivals.publishers[source],
            row in retained,
        )
