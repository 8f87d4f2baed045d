"""Pub/sub in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from millstream.event import Event
from millstream.topic import filter_matches
from millstream.worker import TopicSubscription


class MemoryTopics:
    """Gives what is published to whoever subscribes; of one name to the first. Remembers what was published."""

    def __init__(self) -> None:
        self.published: list[Event] = []
        self._subscriptions: list[_Subscription] = []

    def publish(self, events: pa.RecordBatch) -> None:
        self.send([_event(row) for row in events.to_pylist()])

    def send(self, events: Sequence[Event]) -> None:
        """Publish as a device does."""
        self.published += events
        for event in events:
            served = set()
            for subscription in list(self._subscriptions):
                if subscription.name not in served and filter_matches(subscription.topics, event.topic):
                    served.add(subscription.name)
                    subscription.callback([event])

    async def subscribe(self, topics: str, name: str, callback: Callable[[Sequence[Event]], None]) -> TopicSubscription:
        subscription = _Subscription(self, topics, name, callback)
        self._subscriptions.append(subscription)
        return subscription

    def remove(self, subscription: _Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)


class _Subscription:
    def __init__(
        self, owner: MemoryTopics, topics: str, name: str, callback: Callable[[Sequence[Event]], None]
    ) -> None:
        self.topics = topics
        self.name = name
        self.callback = callback
        self._owner = owner

    async def close(self) -> None:
        self._owner.remove(self)


def _event(row: dict[str, object]) -> Event:
    headers = row["headers"]
    assert isinstance(headers, list | None)
    return Event(
        topic=str(row["topic"]),
        payload=row["data"] if isinstance(row["data"], bytes) else b"",
        key=row["key"] if isinstance(row["key"], str) else None,
        id=row["id"] if isinstance(row["id"], str) else None,
        content_type=row["content_type"] if isinstance(row["content_type"], str) else None,
        headers=dict(headers or ()),
    )
