"""What connections have read in one turn of the event loop, taken in together.

A server with many connections reads from hundreds of them in a turn, a packet or two each. One scan of all these reads
costs half of what a scan of each would. Nothing waits for it longer than the rest of the turn.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from millstream.gateway.ingest.ingest import Ingest
from millstream.mqtt import Read, scan

if TYPE_CHECKING:
    from millstream.gateway.listeners.connection import Connection

_MOST = 64  # reads that are held
_LARGE = 16 << 10  # bytes of a read that gains nothing by waiting, so that what is held is bounded


class Intake:
    """Reads by their connections, in order. `limit` is the largest packet in bytes."""

    def __init__(self, ingest: Ingest, limit: int) -> None:
        self._ingest = ingest
        self._limit = limit
        self._reads: list[Read[Connection]] = []

    def add(self, connection: Connection, data: bytes) -> None:
        """Take `data` in with what else comes in this turn."""
        reads = self._reads
        reads.append((connection, connection.incoming, data, 0))
        if len(reads) == _MOST or len(data) >= _LARGE:
            self.take()
        elif len(reads) == 1:
            asyncio.get_running_loop().call_soon(self.take)

    def take(self) -> None:
        """Take everything in that was read."""
        reads, self._reads = self._reads, []
        for (connection, _, data, _), position in scan(reads, self._limit, self._ingest.gathering.arrivals):
            connection.receive(data, position)
        self._ingest.came()
