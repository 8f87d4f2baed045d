"""What the processors of a process measure.

It outlives workers, which are made anew for every connection to a server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from millstream.clock import SECOND, Micros
from millstream.metrics import Distribution, Histogram, Metric, Reading, catalog
from millstream.metrics.histogram import CALL_SECONDS, EVENTS, SECONDS

if TYPE_CHECKING:
    from millstream.engine.scratch import Room


class ProcessorMeasures:
    """Those of one handler, query or subscription."""

    def __init__(self) -> None:
        self.call_seconds = Histogram(CALL_SECONDS)
        self.call_events = Histogram(EVENTS)
        self.step_seconds = Histogram(SECONDS)
        self.commit_seconds = Histogram(SECONDS)
        self.commit_events = Histogram(EVENTS)
        self.errors = 0
        self.retries = 0
        self.dropped: int | None = None
        self.watermark_delay: float | None = None
        self.room: Room | None = None

    def called(self, seconds: float, events: int, calls: int) -> None:
        """A handler was given events in one go, and that made so many calls."""
        self.call_events.observe(events)
        if calls:
            self.call_seconds.observe(seconds / calls, calls)

    def drop(self, events: int) -> None:
        """A subscription had no room for events."""
        self.dropped = (self.dropped or 0) + events

    def stepped_to(self, watermark: Micros | None, now: Micros) -> None:
        """A query's clock has come to `watermark` by `now`."""
        if watermark is not None:
            self.watermark_delay = (now - watermark) / SECOND

    def read(self, reading: Reading, process: str, group: str) -> None:
        """Add what was measured; what this kind of processor does not do has nothing to say."""
        for metric, distribution in self._distributions():
            if distribution.count:
                reading.set(metric, distribution, process, group)
        reading.set(catalog.ERRORS, self.errors, process, group)
        reading.set(catalog.RETRIES, self.retries, process, group)
        if self.dropped is not None:
            reading.set(catalog.SUBSCRIPTION_DROPPED, self.dropped, process, group)
        if self.watermark_delay is not None:
            reading.set(catalog.WATERMARK_DELAY, self.watermark_delay, process, group)
        if self.room is not None:
            reading.set(catalog.STATE_BYTES, self.room.memory, process, group, "memory")
            reading.set(catalog.STATE_BYTES, self.room.disk, process, group, "disk")

    def _distributions(self) -> Iterable[tuple[Metric, Distribution]]:
        yield catalog.CALL_SECONDS, self.call_seconds.distribution
        yield catalog.CALL_EVENTS, self.call_events.distribution
        yield catalog.STEP_SECONDS, self.step_seconds.distribution
        yield catalog.PROCESSOR_COMMIT_SECONDS, self.commit_seconds.distribution
        yield catalog.PROCESSOR_COMMIT_EVENTS, self.commit_events.distribution


class Measures:
    """Those of all processors of a process, by their groups."""

    def __init__(self, process: str = "worker") -> None:
        self._process = process
        self._by_group: dict[str, ProcessorMeasures] = {}

    def of(self, group: str) -> ProcessorMeasures:
        """A processor's."""
        return self._by_group.setdefault(group, ProcessorMeasures())

    async def read(self, reading: Reading) -> None:
        """A source of all of them."""
        for group, measures in self._by_group.items():
            measures.read(reading, self._process, group)
