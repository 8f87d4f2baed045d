"""What a worker asks of pub/sub. The runtime gives it the bus; a test gives it a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import pyarrow as pa

from millstream.event import Event


class TopicSubscription(Protocol):
    """What `Topics.subscribe` gives."""

    async def close(self) -> None:
        """No more calls after this has returned. Idempotent."""
        ...


class Topics(Protocol):
    """Publishing to, and subscribing among, the subscribers of the moment: at most once, nothing is kept."""

    def publish(self, events: pa.RecordBatch) -> None:
        """Give events (columns of `EVENT_SCHEMA`) to whoever subscribes now. They are in their streams already where
        any stream captures them. Never blocks: what a slow subscriber cannot take is dropped and counted."""
        ...

    async def subscribe(self, topics: str, name: str, callback: Callable[[Sequence[Event]], None]) -> TopicSubscription:
        """Have `callback` called, in the event loop, with the events on topics that match a filter in MQTT's notation.

        Of several subscribers of one `name` each event goes to one. Returns when the subscription stands; it then
        stands again by itself after the connection behind it was lost."""
        ...
