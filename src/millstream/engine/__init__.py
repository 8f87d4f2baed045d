"""The stream engine: pure steps over batches, without I/O and without a clock of their own."""

from millstream.engine.counted import CountedQuery
from millstream.engine.join import JoinQuery
from millstream.engine.plain import PlainQuery
from millstream.engine.plan import WindowPlan
from millstream.engine.regrouped import RegroupedQuery
from millstream.engine.step import Processor, Rejected, Step
from millstream.engine.windowed import WindowedQuery


def processor_of(plan: WindowPlan) -> Processor:
    """What runs a plan."""
    if plan.join is not None:
        return JoinQuery(plan, plan.join)
    if plan.counts is not None:
        return CountedQuery(plan, plan.counts)
    if plan.regroups:
        return RegroupedQuery(plan)
    return WindowedQuery(plan) if plan.windows else PlainQuery(plan)


__all__ = [
    "CountedQuery",
    "JoinQuery",
    "PlainQuery",
    "Processor",
    "RegroupedQuery",
    "Rejected",
    "Step",
    "WindowPlan",
    "WindowedQuery",
    "processor_of",
]
