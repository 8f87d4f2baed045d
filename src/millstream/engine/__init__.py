"""The stream engine: pure steps over batches, without I/O and without a clock of their own."""

from millstream.engine.plan import TumblingPlan
from millstream.engine.step import Processor, Rejected, Step
from millstream.engine.tumbling import TumblingQuery

__all__ = ["Processor", "Rejected", "Step", "TumblingPlan", "TumblingQuery"]
