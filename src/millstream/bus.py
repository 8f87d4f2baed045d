"""The contract of the bus: a small, bounded, at-most-once messenger between the processes of Millstream.

It carries what must not be kept: pub/sub between processes, wake-ups, calls. What must be kept goes through the
log. A process has one `Peer` for each process it is connected to; both ends may call the other, and both serve
calls by subject.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

Handler = Callable[["Peer", bytes], Awaitable[bytes]]
"""Serves a subject: gets the peer that calls and the body, gives the answer's body. A `MillstreamError` that it
raises is raised again at the caller, as the same class with the same text. The handlers of a peer begin in the order in
which it sent; one whose caller cancels its request, or goes away, is cancelled."""


class Peer(Protocol):
    """The other end of a connection."""

    async def request(self, subject: str, body: bytes) -> bytes:
        """Call, and wait for the answer. Raises what the other end's handler raised, or
        `LogUnavailableError` when the connection ends before the answer."""
        ...

    def notify(self, subject: str, body: bytes) -> bool:
        """Send without an answer. False (and counted) when the peer is too slow and its buffer is full, or gone:
        the message is then dropped."""
        ...

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once when the connection has ended, at once if it has."""
        ...


class Bus(Protocol):
    """Where a process serves subjects, for all its peers."""

    def serve(self, subject: str, handler: Handler) -> None:
        """Answer requests and take notices on a subject. One handler a subject."""
        ...
