"""What is on its way to one subscriber: bytes to be written, messages that wait for acknowledgements, and their bound.

Without I/O: whoever owns the connection takes `output`, and tells how much of what it took is still unwritten.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import NamedTuple

from millstream.mqtt.decode import MAX_PACKET


class Outcome(enum.Enum):
    """What became of a message for a subscriber."""

    SENT = "sent"  # or waiting for its turn
    DROPPED = "dropped"  # QoS 0 beyond the bound, or larger than the subscriber takes
    OVERFLOW = "overflow"  # QoS 1 beyond the bound: the promise cannot be kept, the connection must end


class Message(NamedTuple):
    """An encoded PUBLISH in two pieces, shared by its subscribers; the packet identifier of QoS 1 goes between them."""

    head: bytes
    tail: bytes


class Outgoing:
    """At most `window` QoS 1 messages are unacknowledged (4.9), the others wait here. All that waits, here or
    unwritten, is at most `limit` bytes; a message larger than `largest` is not sent at all (3.1.2.11.4)."""

    __slots__ = ("_inflight", "_last_id", "_limit", "_queue", "_queued", "_window", "largest", "output", "unwritten")

    def __init__(self, window: int, limit: int) -> None:
        self._window = window
        self._limit = limit
        self.largest = MAX_PACKET
        self.output: list[bytes] = []
        self.unwritten = 0  # bytes in `output`, and those that the owner took and has not written yet
        self._inflight: set[int] | None = None  # most connections never receive QoS 1
        self._queue: deque[Message] | None = None
        self._queued = 0
        self._last_id = 0

    def accept(self, window: int | None, largest: int | None) -> None:
        """The client's own limits, where it has any."""
        self._window = min(self._window, window or self._window)
        self.largest = largest or self.largest

    @property
    def waiting(self) -> int:
        """Bytes of messages that are not written yet."""
        return self._queued + self.unwritten

    @property
    def inflight(self) -> int:
        """Messages that were sent and not acknowledged."""
        return len(self._inflight) if self._inflight else 0

    def send(self, packet: bytes) -> None:
        """An answer of the protocol. It is not bounded here: each costs the peer a packet of its own."""
        self.output.append(packet)
        self.unwritten += len(packet)

    def deliver(self, message: Message, qos: int) -> Outcome:
        """A published message."""
        size = len(message.head) + len(message.tail) + 2 * qos
        if size > self.largest:
            return Outcome.DROPPED
        if self._queued + self.unwritten + size > self._limit:
            return Outcome.OVERFLOW if qos else Outcome.DROPPED
        if not qos:
            self.output += message
            self.unwritten += size
        elif self._inflight is not None and len(self._inflight) >= self._window:
            self._wait(message, size)
        else:
            self._transmit(message, size)
        return Outcome.SENT

    def acknowledge(self, packet_id: int) -> None:
        """The subscriber has a message; the next one may go. An identifier that is not in flight changes nothing."""
        if self._inflight is None or packet_id not in self._inflight:
            return
        self._inflight.remove(packet_id)
        if self._queue:
            message = self._queue.popleft()
            size = len(message.head) + len(message.tail) + 2
            self._queued -= size
            self._transmit(message, size)

    def take(self) -> bytes:
        """The bytes to write now."""
        data = b"".join(self.output)
        self.output.clear()
        return data

    def _wait(self, message: Message, size: int) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(message)
        self._queued += size

    def _transmit(self, message: Message, size: int) -> None:
        if self._inflight is None:
            self._inflight = set()
        packet_id = self._last_id
        while True:
            packet_id = packet_id % 0xFFFF + 1
            if packet_id not in self._inflight:
                break
        self._last_id = packet_id
        self._inflight.add(packet_id)
        self.output += (message.head, packet_id.to_bytes(2, "big"), message.tail)
        self.unwritten += size
