"""Topics as numbers, so that columns of topics are made of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Numbering(Protocol):
    """Numbers for topics, from 0."""

    @property
    def known(self) -> Mapping[bytes, int]:
        """The numbers of known topics by `topic_key`."""
        ...

    def number(self, topic: str) -> int:
        """The number of a valid topic, a new one if it is not known."""
        ...


def topic_key(topic: str) -> bytes:
    """A topic as `scan` looks it up: its bytes behind their length, as in the packet."""
    raw = topic.encode()
    return len(raw).to_bytes(2, "big") + raw
