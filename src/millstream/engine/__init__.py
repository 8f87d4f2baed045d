"""The stream engine: pure steps over batches, without I/O and without a clock of their own."""

from millstream.engine.plain import PlainQuery
from millstream.engine.plan import WindowPlan
from millstream.engine.step import Processor, Rejected, Step
from millstream.engine.windowed import WindowedQuery


def processor_of(plan: WindowPlan) -> Processor:
    """What runs a plan."""
    return WindowedQuery(plan) if plan.windows else PlainQuery(plan)


__all__ = ["PlainQuery", "Processor", "Rejected", "Step", "WindowPlan", "WindowedQuery", "processor_of"]
