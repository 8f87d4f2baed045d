"""An encoded PUBLISH that many subscribers share."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """Two pieces, between which the packet identifier of QoS 1 and 2 goes: `head` ends with the topic, `tail` begins
    with the properties (of MQTT 5)."""

    head: bytes
    tail: bytes

    @property
    def size(self) -> int:
        """Bytes of the packet (of QoS 0 two fewer)."""
        return len(self.head) + len(self.tail) + 2
