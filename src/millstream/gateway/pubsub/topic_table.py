"""The topics that are in use, numbered, and shared by all connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millstream.mqtt import topic_key

if TYPE_CHECKING:
    from millstream.gateway.pubsub.audience import Audience

_TOPICS = 100_000
_BYTES = 16 << 20


class Topic:
    """A topic name, with who listens to it as last found out."""

    __slots__ = ("audience", "audience_version", "encoded", "name")

    def __init__(self, name: str, encoded: bytes) -> None:
        self.name = name
        self.encoded = encoded  # as it stands in a packet
        self.audience: Audience | None = None  # kept here by the fan-out, for its subscriptions' `version`
        self.audience_version = -1


class TopicTable:
    """Topics by number and by name. It only grows, so that numbers hold; once it `is_full`, begin a new one."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}
        self.topics: list[Topic] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it has grown as large as it should."""
        return len(self.topics) >= _TOPICS or self._bytes >= _BYTES

    def number(self, name: str) -> int:
        """The number of a valid topic."""
        key = topic_key(name)
        number = self.known.get(key)
        if number is None:
            number = self.known[key] = len(self.topics)
            self.topics.append(Topic(name, key))
            self._bytes += len(key)
        return number

    def topic(self, name: str) -> Topic:
        """A valid topic by its name."""
        return self.topics[self.number(name)]
