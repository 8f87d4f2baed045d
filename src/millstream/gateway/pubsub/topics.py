"""Pub/sub for the rest of Millstream: what `millstream.worker.Topics` asks for, among the gateway's subscribers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from millstream.clock import Clock
from millstream.event import EVENT_FIELDS, Event
from millstream.gateway.attributes import Attributes
from millstream.gateway.pubsub.audience import Reader, Subscriber
from millstream.gateway.pubsub.delivery import Delivery
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.pubsub.post import Post, encode_post
from millstream.gateway.pubsub.topic_table import Topic, TopicTable
from millstream.gateway.statistics import Statistics
from millstream.mqtt import Granted, Outcome, topic_key
from millstream.topic import check_filter

if TYPE_CHECKING:
    from millstream.gateway.sessions.queue import Lane

_FEW = 64  # events; of more, those that nobody listens to are left out before they become Python's objects


class Topics:
    """Publishing to, and subscribing among, the subscribers of the moment. Nothing is kept but for the sessions that
    are, which `keep(post, lanes)` is told of."""

    def __init__(
        self,
        fan_out: FanOut,
        statistics: Statistics,
        clock: Clock,
        keep: Callable[[Post, Sequence[Lane]], None] = lambda post, lanes: None,
    ) -> None:
        self._fan_out = fan_out
        self._keep = keep
        self._table = TopicTable()
        self._statistics = statistics
        self._clock = clock
        self._shared: dict[tuple[str, str], _Shared] = {}

    def publish(self, events: pa.RecordBatch) -> None:
        """Give events (columns of `EVENT_SCHEMA`) to whoever subscribes now, and to no stream. Never blocks: what a
        slow subscriber cannot take is dropped and counted."""
        if self._table.is_full:
            self._table = TopicTable()
        if events.num_rows > _FEW:
            events = self._heard(events)
        delivery = Delivery(self._statistics, self._clock)
        columns = (events.column(field.name).to_pylist() for field in EVENT_FIELDS)
        for name, key, id_, type_, content_type, headers, data in zip(*columns, strict=True):
            topic = self._table.topic(name)
            audience = self._fan_out.audience(topic)
            if audience is None:
                continue
            its = Attributes(id=id_, type=type_, key=key, content_type=content_type, headers=dict(headers or ()))
            post = Post(topic, 1, data, data, its)
            delivery.give([post], audience)
            if audience.lanes:
                self._keep(post, audience.lanes)
        delivery.finish()

    def hears(self, topics: Collection[str]) -> bool:
        """Whether somebody listens to one of these topics now."""
        if self._table.is_full:
            self._table = TopicTable()
        return any(self._fan_out.audience(self._table.topic(name)) is not None for name in topics)

    def give(self, who: Subscriber, event: Event) -> bool:
        """Give an event to one subscriber, at QoS 0, whether it has subscribed or not. False: it was dropped, and
        counted, because that one is too slow or gone."""
        its = Attributes(id=event.id, type=event.type, content_type=event.content_type)
        topic = Topic(event.topic, topic_key(event.topic))
        message = encode_post(Post(topic, 0, event.payload, event.payload, its), who.version, 0)
        if who.deliver(message, 0) is not Outcome.SENT:
            self._statistics.dropped += 1
            return False
        self._statistics.delivered += 1
        who.flush()
        return True

    def _heard(self, events: pa.RecordBatch) -> pa.RecordBatch:
        """Those that somebody listens to: most results of a query go to their stream and to nobody else."""
        encoded = events.column("topic").dictionary_encode()
        topics = [self._table.topic(name) for name in encoded.dictionary.to_pylist()]
        heard = pa.array([self._fan_out.audience(topic) is not None for topic in topics], pa.bool_())
        return events.filter(heard.take(encoded.indices))

    async def subscribe(self, topics: str, name: str, callback: Callable[[Sequence[Event]], None]) -> Subscription:
        """Have `callback` called with the events on topics that match a filter in MQTT's notation. It must not block:
        it is called in the event loop, between two commits. Of several subscribers of one `name`, each batch of events
        goes to one, in turn. Raises `TopicError` for what is no filter."""
        check_filter(topics)
        shared = self._shared.get((topics, name))
        if shared is None:
            shared = self._shared[topics, name] = _Shared(topics)
            self._fan_out.add(shared.reader, shared.granted)
        shared.callbacks.append(callback)
        return Subscription(self, (topics, name), callback)

    def _leave(self, key: tuple[str, str], callback: Callable[[Sequence[Event]], None]) -> None:
        shared = self._shared[key]
        shared.callbacks.remove(callback)
        if not shared.callbacks:
            self._fan_out.remove(shared.reader, shared.granted)
            del self._shared[key]


class Subscription:
    """What `Topics.subscribe` gives."""

    def __init__(self, topics: Topics, key: tuple[str, str], callback: Callable[[Sequence[Event]], None]) -> None:
        self._leave: Callable[[], None] | None = lambda: topics._leave(key, callback)

    async def close(self) -> None:
        """No more calls. Idempotent."""
        if self._leave is not None:
            self._leave()
            self._leave = None


class _Shared:
    """Subscribers of one name, among whom batches go round."""

    def __init__(self, topics: str) -> None:
        self.callbacks: list[Callable[[Sequence[Event]], None]] = []
        self.reader = Reader(self._call)
        self.granted = Granted(topics, 1, False, ())
        self._turn = 0

    def _call(self, events: Sequence[Event]) -> None:
        self._turn = (self._turn + 1) % len(self.callbacks)
        self.callbacks[self._turn](events)
