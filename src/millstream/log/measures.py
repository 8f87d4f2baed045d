"""What any log tells of its groups, as metrics."""

from __future__ import annotations

from collections import Counter

from millstream.log.contract import GroupStatus, Log
from millstream.metrics import Reading, Source, catalog

_OURS = "$"  # what names begin with that only we use


def groups_source(log: Log) -> Source:
    """A source of every group's lag, members and counts."""

    async def read(reading: Reading) -> None:
        for group in await log.groups():
            if not group.name.startswith(_OURS):
                _read_group(group, reading)

    return read


def _read_group(group: GroupStatus, reading: Reading) -> None:
    reading.set(catalog.MEMBERS, group.members, group.name)
    lag: Counter[str] = Counter()
    for (stream, _), events in group.lag.items():
        lag[stream] += events
    for stream, events in lag.items():
        reading.set(catalog.LAG, events, group.name, stream)
    for name, n in group.counts.items():
        reading.set(catalog.COUNTS, n, group.name, name)
