"""What has arrived while the last commit was running, in order, and who is owed an answer for it: connections their
PUBACKs, HTTP requests the number of their duplicates."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

from millstream.gateway.attributes import PLAIN, Attributes
from millstream.gateway.topic_table import TopicTable
from millstream.mqtt import Arrivals, Properties

ROW_BYTES = 100  # what an event costs besides its payload: the header of a bytes object, references, its PUBACK


class Publisher(Protocol):
    """A connection that events came from."""

    def acknowledge(self, packets: bytes) -> None:
        """Write PUBACKs."""
        ...


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits for the commit of its events."""

    rows: range
    duplicates: asyncio.Future[int]


class Gathering:
    """Events that will be committed together. `size` is about what they cost in memory, in bytes."""

    def __init__(self, table: TopicTable) -> None:
        self.table = table
        self.arrivals = Arrivals(table)
        self.attributes: dict[int, Attributes] = {}
        self.size = 0
        self.waiters: list[Waiter] = []
        # Pieces, one for each read of a socket: the row that it begins with, who it came from, and what he is owed.
        self.starts: list[int] = []
        self.publishers: list[Publisher | None] = []
        self.acknowledgements: list[bytes] = []

    def __len__(self) -> int:
        return len(self.arrivals.payloads)

    def add(
        self,
        topic: str,
        payload: bytes,
        attributes: Attributes = PLAIN,
        *,
        qos: int = 1,
        properties: Properties | None = None,
    ) -> None:
        """Append an event that came otherwise, on a valid topic."""
        self.publishers.append(None)
        self.acknowledgements.append(b"")
        self.starts.append(len(self))
        if attributes is not PLAIN:
            self.attributes[len(self)] = attributes
        self.arrivals.add(topic, qos, payload, properties)
        self.size += len(payload) + ROW_BYTES

    def publisher(self, row: int) -> Publisher | None:
        """The connection that an event came from, None for another way."""
        return self.publishers[bisect_right(self.starts, row) - 1]

    def quality(self, row: int) -> int:
        """The QoS of an event."""
        return self.arrivals.qualities[bisect_right(self.arrivals.quality_starts, row) - 1]

    def wait(self, rows: range) -> asyncio.Future[int]:
        """The number of duplicates among these rows, once they are committed."""
        waiter = Waiter(rows, asyncio.get_running_loop().create_future())
        self.waiters.append(waiter)
        return waiter.duplicates
