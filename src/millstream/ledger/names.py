"""The names under which events are counted, and the streams in which those are kept that went astray.

`docs/ledger.md` lists them. Counts are durable: each is committed in the transaction of what it counts.
"""

from __future__ import annotations

GATEWAY = "$gateway"
"""The group on behalf of which the gateway commits, and counts."""

RECEIVED = "received"
COMMITTED, DUPLICATES, TRANSIENT = "committed", "duplicates", "transient"
REJECTED = "rejected:"
"""Before a reason: events that the gateway refused."""

PROCESSED, SKIPPED, FILTERED = "processed", "skipped", "filtered"
LATE, DEAD_LETTERED, EXPIRED = "late", "dead-lettered", "expired"
COMBINED = "combined"
OUTCOMES = (PROCESSED, SKIPPED, FILTERED, LATE, DEAD_LETTERED, EXPIRED, COMBINED)
"""Where an event can end that a group has read (or would have, if retention had not taken it). Whatever else a group
counts is beside the balance."""

WOKEN = "woken"
"""Keys that were woken, which are no events."""

DEAD_LETTERS = "$deadletters"
"""Where events end that could not be processed. It captures no topics; the workers append to it."""

RESOLVED = "$deadletters.resolved"
"""What an operator did with dead letters."""

REJECTIONS = "$rejected"
"""A sample of what the gateway refused."""


def late_stream(group: str) -> str:
    """The stream of a query's late events."""
    return f"{group}.late"
