"""What the gateway counts, as metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from millstream.gateway.statistics import Statistics
from millstream.metrics import Metric, Reading, Source, catalog

_COUNTS = {
    "received": catalog.RECEIVED,
    "committed": catalog.COMMITTED,
    "duplicates": catalog.DUPLICATES,
    "transient": catalog.TRANSIENT,
    "delivered": catalog.DELIVERED,
    "dropped": catalog.DROPPED,
    "pending": catalog.PENDING_EVENTS,
    "pending_bytes": catalog.PENDING_BYTES,
    "connections": catalog.CONNECTIONS,
    "readers": catalog.READERS,
    "sessions": catalog.SESSIONS,
    "retained": catalog.RETAINED,
    "queued": catalog.QUEUED,
    "expired": catalog.EXPIRED,
    "overflowed": catalog.OVERFLOWED,
    "throttled": catalog.THROTTLED,
}
_COUNTS_BY_REASON = {"rejected": catalog.REJECTED, "ended": catalog.ENDED}


def gateway_source(
    statistics: Statistics, report: Callable[[], Mapping[str, Any]], unready: Callable[[], str | None]
) -> Source:
    """A source of what `report` counts (see `Statistics.report`), of its commits, and of its readiness."""

    async def read(reading: Reading) -> None:
        counted = report()
        for name, metric in _COUNTS.items():
            reading.set(metric, counted[name])
        for name, metric in _COUNTS_BY_REASON.items():
            _set_by_reason(reading, metric, counted[name])
        reading.set(catalog.COMMIT_SECONDS, statistics.commit_seconds.distribution)
        reading.set(catalog.COMMIT_EVENTS, statistics.commit_events.distribution)
        reading.set(catalog.READY, int(unready() is None))

    return read


def _set_by_reason(reading: Reading, metric: Metric, counts: Mapping[str, int]) -> None:
    for reason, n in counts.items():
        reading.set(metric, n, reason)
