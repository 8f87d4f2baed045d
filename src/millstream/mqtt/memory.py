"""What the server remembers of a client's session (4.1), besides the messages themselves.

Of a session that ends with its connection it lives in memory. One that is kept outlives connections and the server:
what changes here is committed to the log before the client is told of it (`durable`).
"""

from __future__ import annotations

from typing import NamedTuple

from millstream.mqtt.action import Granted

_LAST_ID = 0xFFFF


class Flight(NamedTuple):
    """A message on its way to the client, which has not acknowledged it: at QoS 2, not even that it has it, or (once
    `released`) not that it is through. `offset` is where a session that is kept finds the message again."""

    qos: int
    offset: int = -1
    released: bool = False
    share: str = ""
    """The shared subscription that it came from; empty for the client's own."""


class Memory:
    """Subscriptions by filter; `received`, the packet identifiers of QoS 2 messages that were taken and not released
    yet; and `flights`, by packet identifier, in the order of sending."""

    __slots__ = ("changed", "durable", "flights", "last_id", "received", "subscriptions")

    def __init__(self, durable: bool = False) -> None:
        self.durable = durable
        self.changed = False  # something that must be on disk before the client is told
        self.subscriptions: dict[str, Granted] = {}
        self.received: set[int] | None = None  # most sessions never see QoS 2, and many are never sent QoS 1
        self.flights: dict[int, Flight] | None = None
        self.last_id = 0

    def take(self, packet_id: int) -> bool:
        """A message of QoS 2 has come. False: it came before, and is not to be taken again (4.3.3)."""
        if self.received is None:
            self.received = set()
        if packet_id in self.received:
            return False
        self.received.add(packet_id)
        self.changed = True
        return True

    def release(self, packet_id: int) -> bool:
        """The client knows that it was taken: the identifier is free. False: it was not in use."""
        if self.received is None or packet_id not in self.received:
            return False
        self.received.remove(packet_id)
        self.changed = True
        return True

    def launch(self, flight: Flight) -> int:
        """Give a message the next free packet identifier. There must be one: receive maximums are below 65,535."""
        if self.flights is None:
            self.flights = {}
        packet_id = self.last_id
        while True:
            packet_id = packet_id % _LAST_ID + 1
            if packet_id not in self.flights:
                break
        self.last_id = packet_id
        self.flights[packet_id] = flight
        return packet_id

    def flight(self, packet_id: int) -> Flight | None:
        """The message under this identifier, if there is one on its way."""
        return self.flights.get(packet_id) if self.flights else None

    def land(self, packet_id: int) -> None:
        """The client has it, or will not have it."""
        if self.flights is not None:
            del self.flights[packet_id]
