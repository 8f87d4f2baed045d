"""What any log tells of its groups, as metrics."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from millstream.errors import LogUnavailableError
from millstream.log.contract import GroupStatus, Log
from millstream.metrics import Reading, Source, catalog

_PATIENCE_SECONDS = 2.0  # a scrape is given up after some ten
_OURS = "$"  # what names begin with that only we use


def groups_source(log: Log) -> Source:
    """A source of every group's lag, members and counts. They are missing where the log does not tell them in time,
    and it is not asked again before it has answered."""
    asked: asyncio.Task[Sequence[GroupStatus]] | None = None

    async def read(reading: Reading) -> None:
        nonlocal asked
        if asked is None:
            asked = asyncio.ensure_future(log.groups())
        if not (await asyncio.wait([asked], timeout=_PATIENCE_SECONDS))[0]:
            return
        answer, asked = asked, None
        try:
            groups = answer.result()
        except LogUnavailableError:
            return
        for group in groups:
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
