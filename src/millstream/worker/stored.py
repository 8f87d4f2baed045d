"""What runs over stored streams, beside everything that is live, has in common."""

from __future__ import annotations

from millstream.engine import WindowPlan
from millstream.errors import UnknownStreamError
from millstream.log import Log, StreamSpec


async def spec_of(log: Log, plan: WindowPlan) -> StreamSpec:
    """The stream that a query reads, the first if there are two, with as many partitions. `UnknownStreamError`: one is
    not there."""
    there = await log.streams()
    for stream in plan.streams:
        if stream not in there:
            raise UnknownStreamError(f"query {plan.name!r} reads the stream {stream!r}, which is not in this log yet")
    return there[plan.stream]
