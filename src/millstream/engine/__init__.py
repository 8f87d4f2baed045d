"""The stream engine: pure steps over batches, without I/O and without a clock of their own."""

from millstream.engine.plan import WindowPlan
from millstream.engine.step import Processor, Rejected, Step
from millstream.engine.windowed import WindowedQuery

__all__ = ["Processor", "Rejected", "Step", "WindowPlan", "WindowedQuery"]
