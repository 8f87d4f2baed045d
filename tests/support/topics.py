"""The gateway's pub/sub, without a gateway."""

from __future__ import annotations

from collections.abc import Sequence

from millstream.clock import Clock
from millstream.event import Event, to_columns
from millstream.gateway.pubsub.audience import Reader
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.pubsub.topics import Topics
from millstream.gateway.statistics import Statistics
from millstream.gateway.tally import Tally
from millstream.mqtt import Granted


class RecordedTopics(Topics):
    """Remembers what was published."""

    def __init__(self, clock: Clock) -> None:
        statistics = Statistics(Tally(clock))
        fan_out = FanOut(statistics, clock)
        super().__init__(fan_out, statistics, clock)
        self.published: list[Event] = []
        fan_out.add(Reader(self.published.extend), Granted("#", 1, False, ()))

    def send(self, events: Sequence[Event]) -> None:
        """Publish as a device does."""
        self.publish(to_columns(events))
