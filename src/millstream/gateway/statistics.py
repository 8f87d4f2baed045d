"""What the gateway counts. The counts balance: received = committed + duplicates + rejected + transient + pending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from millstream.gateway.tally import Tally
from millstream.ledger.names import COMMITTED, DUPLICATES, TRANSIENT
from millstream.ledger.rejection import Rejection
from millstream.metrics import Histogram
from millstream.metrics.histogram import EVENTS, SECONDS


@dataclass(slots=True)
class Statistics:
    """Counts since the start. The `tally` has those that last: `received`, and where the events ended."""

    tally: Tally
    received: int = 0
    """Events that came in, by MQTT or HTTP."""
    committed: int = 0
    """Events that at least one stream captured."""
    duplicates: int = 0
    """Events with an id that was committed before: acknowledged, and kept once."""
    transient: int = 0
    """Events that no stream captured: given to the subscribers of the moment."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Events that were refused, by reason."""
    delivered: int = 0
    """Copies handed to subscribers."""
    dropped: int = 0
    """Copies that a subscriber was too slow for, or that were larger than it takes."""
    queued: int = 0
    """Messages that entered the queue of the sessions that are kept."""
    expired: int = 0
    """Copies that waited for a subscriber for longer than their publisher wanted (Message Expiry Interval)."""
    overflowed: int = 0
    """Copies that retention took before a session that is kept could get them."""
    throttled: int = 0
    """Times that a client was slowed down, because it sent more than it may."""
    connections: Counter[str] = field(default_factory=Counter)
    """MQTT connections that ended, by reason."""
    commits: int = 0
    """Transactions with events of clients."""
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    """How long they took."""
    commit_events: Histogram = field(default_factory=lambda: Histogram(EVENTS))
    """How many events they held."""

    def reject(
        self, reason: str, events: int = 1, *, text: str = "", client: str = "", topic: str = "", payload: bytes = b""
    ) -> None:
        """Count events as received and refused. The rest is for their trace; see `Rejection`."""
        self.received += events
        self.rejected[reason] += events
        self.tally.reject(Rejection(reason, text, client, topic, payload), events)

    def note(self, ends: Mapping[str, int]) -> None:
        """Count where the events of a batch ended, which were counted as received when it was made."""
        self.committed += ends[COMMITTED]
        self.duplicates += ends[DUPLICATES]
        self.transient += ends[TRANSIENT]

    def commit(self, seconds: float, events: int) -> None:
        """Count a transaction."""
        self.commits += 1
        self.commit_seconds.observe(seconds)
        self.commit_events.observe(events)

    def report(
        self,
        *,
        connected: int,
        readers: int,
        sessions: int,
        retained: int,
        gathered: int,
        pending: int,
        pending_bytes: int,
    ) -> dict[str, Any]:
        """All counts by their documented names; `rejected` and `ended` are by reason. Events are counted as received
        when their batch is made: `gathered` are those that wait for it."""
        return {
            "received": self.received + gathered,
            "committed": self.committed,
            "duplicates": self.duplicates,
            "transient": self.transient,
            "rejected": dict(self.rejected),
            "pending": pending,
            "pending_bytes": pending_bytes,
            "commits": self.commits,
            "delivered": self.delivered,
            "dropped": self.dropped,
            "sessions": sessions,
            "retained": retained,
            "queued": self.queued,
            "expired": self.expired,
            "overflowed": self.overflowed,
            "throttled": self.throttled,
            "connections": connected,
            "readers": readers,
            "ended": dict(self.connections),
        }
