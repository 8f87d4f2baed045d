"""What is on its way to one subscriber: bytes to be written, messages that wait for acknowledgements, and their bound.

Without I/O: whoever owns the connection takes `output`, and tells how much of what it took is still unwritten.

Messages come in two ways. A session that ends with its connection is given them (`deliver`), and what its window has no
room for waits here. One that is kept is given them at QoS 0 only; others lie in a queue on disk, and its owner takes
from there what the window has room for (`reserve`, then `transmit`).
"""

from __future__ import annotations

import enum
from collections import deque

from millstream.mqtt.aliases import ALIAS_BYTES, OutgoingAliases
from millstream.mqtt.decode import MAX_PACKET
from millstream.mqtt.memory import Flight, Memory
from millstream.mqtt.message import Bundle, Expiring, Message

_DUPLICATE = 0x08  # in the first byte of a PUBLISH
_IN_MEMORY = (Flight(0), Flight(1), Flight(2))  # by QoS
_RELEASED = Flight(2, released=True)


class Outcome(enum.Enum):
    """What became of a message for a subscriber."""

    SENT = "sent"  # or waiting for its turn
    DROPPED = "dropped"  # QoS 0 beyond the bound, or larger than the subscriber takes
    OVERFLOW = "overflow"  # QoS 1 or 2 beyond the bound: the promise cannot be kept, the connection must end


# Slow to look up, for what is looked up with every message.
_SENT, _DROPPED, _OVERFLOW = Outcome


class Outgoing:
    """At most `window` messages of QoS 1 and 2 are unacknowledged (4.9). All that waits, here or unwritten, is at most
    `limit` bytes; a message larger than `largest` is not sent at all (3.1.2.11.4)."""

    __slots__ = (
        "_aliases",
        "_limit",
        "_memory",
        "_queue",
        "_queued",
        "_window",
        "largest",
        "output",
        "quota",
        "unwritten",
    )

    def __init__(self, window: int, limit: int) -> None:
        self._window = window
        self._limit = limit
        self._memory = Memory()
        self._aliases: OutgoingAliases | None = None
        self.quota = window  # messages that may be sent before the next acknowledgement
        self.largest = MAX_PACKET
        self.output: list[bytes] = []
        self.unwritten = 0  # bytes in `output`, and those that the owner took and has not written yet
        self._queue: deque[tuple[Message, int]] | None = None  # with their QoS
        self._queued = 0

    def accept(self, window: int | None, largest: int | None, memory: Memory, aliases: int = 0) -> None:
        """The client's own limits, where it has any, what is remembered of it, and how many topic aliases it takes."""
        self.quota = self._window = min(self._window, window or self._window)
        self.largest = largest or self.largest
        self._memory = memory
        self._aliases = OutgoingAliases(aliases) if aliases else None

    @property
    def waiting(self) -> int:
        """Bytes of messages that are not written yet."""
        return self._queued + self.unwritten

    @property
    def inflight(self) -> int:
        """Messages that were sent and not acknowledged."""
        return len(self._memory.flights or ())

    def send(self, packet: bytes) -> None:
        """An answer of the protocol. It is not bounded here: each costs the peer a packet of its own."""
        self.output.append(packet)
        self.unwritten += len(packet)

    def deliver(self, message: Message, qos: int) -> Outcome:
        """A published message, for a session that ends with its connection, or of QoS 0."""
        head, tail = message
        size = len(head) + len(tail) + (2 if qos else 0)
        if size > self.largest:
            return _DROPPED
        if self._queued + self.unwritten + size > self._limit:
            return _OVERFLOW if qos else _DROPPED
        if not qos:
            self.output += message if self._aliases is None else self._shorten(message)
            self.unwritten += size
        elif self.quota <= 0:
            self._wait(message, qos)
        else:
            self._launch(message, qos)
        return _SENT

    def deliver_together(self, bundle: Bundle) -> bool:
        """Published messages at QoS 0 as one piece, where it is plain that `deliver` would send each of them as it is.
        False: they are to be delivered one by one."""
        data = bundle.together()
        size = len(data)
        if self._aliases is not None or size > self.largest or self._queued + self.unwritten + size > self._limit:
            return False
        self.output.append(data)
        self.unwritten += size
        return True

    def reserve(self, flight: Flight) -> int:
        """A packet identifier for a message that will be transmitted once that is on disk. There must be quota."""
        self.quota -= 1
        return self._memory.launch(flight)

    def transmit(self, message: Message, packet_id: int, *, duplicate: bool = False) -> None:
        """A message under an identifier that it has already."""
        head, tail = message if self._aliases is None else self._shorten(message)
        if duplicate:
            head = bytes((head[0] | _DUPLICATE,)) + head[1:]
        self.output += (head, packet_id.to_bytes(2, "big"), tail)
        self.unwritten += len(head) + len(tail) + 2

    def resume(self) -> None:
        """A message that an earlier connection sent goes on: it is sent again, or PUBREL is. It takes quota, since what
        ends it gives quota back."""
        self.quota -= 1

    def acknowledge(self, packet_id: int) -> None:
        """PUBACK: the subscriber has a message; the next one may go. An identifier that is not in flight changes
        nothing."""
        flight = self._memory.flight(packet_id)
        if flight is not None and flight.qos == 1:
            self._land(packet_id)

    def receive(self, packet_id: int, refused: bool) -> bool:
        """PUBREC: the subscriber has a message of QoS 2 (or refuses it), and shall be told PUBREL. False: there is
        none of that identifier on its way."""
        flight = self._memory.flight(packet_id)
        if flight is None or flight.qos != 2:
            return False
        if refused:
            self._land(packet_id)
        elif not flight.released:
            assert self._memory.flights is not None
            self._memory.flights[packet_id] = _RELEASED if flight.offset < 0 else flight._replace(released=True)
            self._memory.changed = True
        return True

    def complete(self, packet_id: int) -> None:
        """PUBCOMP: a message of QoS 2 is through."""
        flight = self._memory.flight(packet_id)
        if flight is not None and flight.qos == 2:
            self._land(packet_id)

    def take(self) -> bytes:
        """The bytes to write now."""
        data = b"".join(self.output)
        self.output.clear()
        return data

    def _shorten(self, message: Message) -> Message:
        """With a topic alias if the client takes one; it makes the first message of a topic longer."""
        if self._aliases is None or message.size + ALIAS_BYTES > self.largest:
            return message
        return self._aliases.apply(message)

    def _land(self, packet_id: int) -> None:
        self._memory.land(packet_id)
        self.quota = min(self.quota + 1, self._window)
        while self._queue and self.quota > 0:
            message, qos = self._queue.popleft()
            self._queued -= message.size
            fresh = message.fresh() if isinstance(message, Expiring) else message
            if fresh is not None:
                self._launch(fresh, qos)

    def _wait(self, message: Message, qos: int) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append((message, qos))
        self._queued += message.size

    def _launch(self, message: Message, qos: int) -> None:
        self.quota -= 1
        self.transmit(message, self._memory.launch(_IN_MEMORY[qos]))
