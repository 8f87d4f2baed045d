"""What the gateway knows of a topic, found once and shared by all connections that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millstream.log import Router, Target
from millstream.mqtt import text

if TYPE_CHECKING:
    from millstream.gateway.fanout import Audience

_TOPICS = 100_000  # that are known by name; beyond, the table is cleared and fills again


class Topic:
    """A topic name with what was last found out about it: where it goes, and who listens. Compared by identity."""

    __slots__ = ("_router", "_targets", "audience", "audience_version", "encoded", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.encoded = text(name)  # as it stands in a packet
        self._router: Router | None = None
        self._targets: tuple[Target, ...] = ()
        self.audience: Audience | None = None  # kept here by the fan-out, for its subscriptions' `version`
        self.audience_version = -1

    def targets(self, router: Router) -> tuple[Target, ...]:
        """The streams and partitions that capture it."""
        if self._router is not router:
            self._targets = router.route(self.name)
            self._router = router
        return self._targets


class TopicTable:
    """Topics by name. Bounded: one that it has forgotten lives on where it is in use, and is found anew elsewhere."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}

    def __len__(self) -> int:
        return len(self._topics)

    def resolve(self, name: str) -> Topic:
        """The topic of that (valid) name."""
        topic = self._topics.get(name)
        if topic is None:
            if len(self._topics) >= _TOPICS:
                self._topics.clear()
            topic = self._topics[name] = Topic(name)
        return topic
