"""The topics `$SYS/broker/…` by which MQTT tools see how a broker is. Their names are those of Mosquitto.

They are published every few seconds to who listens at the moment, at QoS 0, and are neither kept nor counted as events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from millstream.clock import Clock
from millstream.gateway.pubsub.delivery import Delivery
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.pubsub.post import Post
from millstream.gateway.pubsub.topic_table import Topic
from millstream.gateway.statistics import Statistics
from millstream.mqtt import topic_key

_SECONDS = 10.0
_COUNTS = {
    "clients/connected": "connections",
    "clients/persistent": "sessions",
    "messages/received": "received",
    "messages/sent": "delivered",
    "publish/messages/dropped": "dropped",
    "retained messages/count": "retained",
}


class BrokerTopics:
    """Publishes what `report` counts (see `Statistics.report`)."""

    def __init__(
        self, fan_out: FanOut, statistics: Statistics, report: Callable[[], Mapping[str, Any]], clock: Clock
    ) -> None:
        self._fan_out = fan_out
        self._statistics = statistics
        self._report = report
        self._clock = clock
        self._began = clock.monotonic()
        self._due = self._began
        names = ("version", "uptime", *_COUNTS)
        self._topics = {name: Topic(f"$SYS/broker/{name}", topic_key(f"$SYS/broker/{name}")) for name in names}

    def look_at_clock(self) -> None:
        """Publish if it is time."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + _SECONDS
            self._publish(now)

    def _publish(self, now: float) -> None:
        heard = {name: self._fan_out.audience(topic) for name, topic in self._topics.items()}
        if not any(heard.values()):
            return
        counts = self._report()
        values = {name: str(counts[count]) for name, count in _COUNTS.items()}
        values |= {"version": f"millstream {version('millstream')}", "uptime": f"{now - self._began:.0f} seconds"}
        delivery = Delivery(self._statistics, self._clock)
        for name, audience in heard.items():
            if audience is not None:
                payload = values[name].encode()
                delivery.give([Post(self._topics[name], 0, payload, payload)], audience)
        delivery.finish()
