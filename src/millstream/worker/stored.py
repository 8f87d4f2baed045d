"""What runs over stored streams, beside everything that is live, has in common."""

from __future__ import annotations

from millstream.engine import WindowPlan
from millstream.errors import UnknownStreamError
from millstream.log import Log, StreamSpec


async def spec_of(log: Log, plan: WindowPlan) -> StreamSpec:
    """The stream that a query reads. `UnknownStreamError`: it is not there."""
    spec = (await log.streams()).get(plan.stream)
    if spec is None:
        raise UnknownStreamError(f"query {plan.name!r} reads the stream {plan.stream!r}, which is not in this log yet")
    return spec
