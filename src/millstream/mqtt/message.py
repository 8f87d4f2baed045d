"""Encoded PUBLISH packets that many subscribers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
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


class Expiring(Message):
    """One that may expire where it has to wait (3.3.2.3.3): `fresh()` is what it has become, None if it has."""

    fresh: Callable[[], Message | None]

    @classmethod
    def of(cls, message: Message, fresh: Callable[[], Message | None]) -> Expiring:
        """What `message` is now, and how to ask again."""
        its = cls(*message)
        its.fresh = fresh
        return its


class Bundle:
    """Messages for the same subscribers, in their order."""

    __slots__ = ("_together", "messages")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self._together: bytes | None = None

    def together(self) -> bytes:
        """Their packets of QoS 0 as one piece, made once for all who get it."""
        if self._together is None:
            self._together = b"".join(chain.from_iterable(self.messages))
        return self._together
