"""The stream engine: pure steps over batches, without I/O and without a clock of their own."""

from millstream.engine.counted import CountedQuery
from millstream.engine.join import JoinQuery
from millstream.engine.parsing import Parsing, parsings
from millstream.engine.plain import PlainQuery
from millstream.engine.plan import WindowPlan
from millstream.engine.regrouped import RegroupedQuery
from millstream.engine.scratch import Room
from millstream.engine.step import Processor, Rejected, Step
from millstream.engine.windowed import WindowedQuery


def processor_of(plan: WindowPlan, parsing: Parsing | None = None, room: Room | None = None) -> Processor:
    """What runs a plan. `parsing` is what it shares with others (`parsings`). Its rows of open windows, and events
    that wait in a join, take `room` (None: memory, as much as they need)."""
    if plan.join is not None:
        return JoinQuery(plan, plan.join, room=room)
    if plan.counts is not None:
        return CountedQuery(plan, plan.counts)
    if plan.regroups:
        return RegroupedQuery(plan, parsing=parsing, room=room)
    return WindowedQuery(plan, parsing=parsing, room=room) if plan.windows else PlainQuery(plan, parsing=parsing)


__all__ = [
    "CountedQuery",
    "JoinQuery",
    "Parsing",
    "PlainQuery",
    "Processor",
    "RegroupedQuery",
    "Rejected",
    "Step",
    "WindowPlan",
    "WindowedQuery",
    "parsings",
    "processor_of",
]
