"""What has arrived while the last commit was running, in order, and who is owed an answer for it: connections their
PUBACKs, HTTP requests the number of their duplicates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from millstream.gateway.attributes import PLAIN, Attributes
from millstream.gateway.pubsub.topic_table import TopicTable
from millstream.mqtt import Arrivals

_ROW_BYTES = 100  # what an event costs besides its payload: the header of a bytes object, references, its PUBACK


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits for the commit of its events."""

    rows: range
    duplicates: asyncio.Future[int]


class Gathering:
    """Events that will be committed together."""

    def __init__(self, table: TopicTable) -> None:
        self.table = table
        self.arrivals = Arrivals(table)
        self.attributes: dict[int, Attributes] = {}
        self.waiters: list[Waiter] = []
        self.done: list[Callable[[], None]] = []
        """To be called after the commit; there may be some without any event."""

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit, and nobody to answer."""
        return not self.arrivals.publishers and not self.done

    @property
    def size(self) -> int:
        """About what they cost in memory, in bytes."""
        return self.arrivals.size + _ROW_BYTES * len(self.arrivals)

    def extend(self, topic: str, contents: Sequence[tuple[bytes, Attributes]]) -> range:
        """Append events (payload and attributes; at least one) on a valid topic. Gives their rows."""
        start = len(self)
        self.arrivals.extend(topic, 1, [payload for payload, _ in contents])
        self.attributes.update((row, its) for row, (_, its) in enumerate(contents, start) if its is not PLAIN)
        return range(start, len(self))

    def wait(self, rows: range) -> asyncio.Future[int]:
        """The number of duplicates among these rows, once they are committed."""
        waiter = Waiter(rows, asyncio.get_running_loop().create_future())
        self.waiters.append(waiter)
        return waiter.duplicates
