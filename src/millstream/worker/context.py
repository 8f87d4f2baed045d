"""What the processors of a worker share: the log, pub/sub, the clock, the app's resources, and where outputs go."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from millstream.clock import Clock
from millstream.errors import DiskFullError, FencedError, LogUnavailableError, UnknownStreamError
from millstream.event import Batch, Event
from millstream.log import Committed, Log, Router, StreamSpec, Transaction
from millstream.worker.deadletter import append_dead_letters
from millstream.worker.measures import Measures
from millstream.worker.resources import Resources
from millstream.worker.topics import Topics
from millstream.worker.watch import UnderWay, Watch

if TYPE_CHECKING:
    from millstream.worker.call import Caller
    from millstream.worker.traces import Traces

logger = logging.getLogger("millstream.worker")

RECOVERABLE = (FencedError, LogUnavailableError, UnknownStreamError)
"""What a processor goes on after: it forgets what is under way, joins again, and begins where the log says it was."""

_DISK_FULL_SECONDS = 1.0  # between two tries of the same commit


class Outputs(NamedTuple):
    """What a transaction publishes (columns of `EVENT_SCHEMA`, one batch after the other), and its dead letters."""

    events: list[pa.RecordBatch]
    dead_letters: list[Event]


class Context:
    """One a worker."""

    def __init__(
        self,
        log: Log,
        topics: Topics,
        clock: Clock,
        streams: Mapping[str, StreamSpec],
        resources: Resources,
        watch: Watch,
        measures: Measures,
        traces: Traces | None = None,
    ) -> None:
        self.log = log
        self.measures = measures
        self._traces = traces
        self.topics = topics
        self.clock = clock
        self.resources = resources
        self.watch = watch
        self._wanted = dict(streams)
        self._router = Router(streams.values())
        log.watch_streams(self._streams_changed)

    def under_way(self, processor: str) -> UnderWay:
        """What is entered around the calls and steps of a processor."""
        return partial(self.watch.under_way, processor)

    def want(self, streams: Iterable[StreamSpec]) -> None:
        """More streams that `prepare` makes."""
        self._wanted.update({spec.name: spec for spec in streams})

    async def prepare(self) -> None:
        """Make the streams that the app declares, and learn which others there are."""
        for spec in self._wanted.values():
            await self.log.create(spec)
        self._streams_changed(await self.log.streams())

    def append(self, transaction: Transaction, outputs: Outputs) -> None:
        """Append what is published to whatever streams capture it, and show it; the dead letters go to theirs."""
        for events in outputs.events:
            if not events.num_rows:
                continue
            spread = self._router.split(events)
            for rows in spread.together:
                transaction.show(rows)
            for stream, partition, rows in spread.appends:
                transaction.append(stream, partition, rows)
        append_dead_letters(transaction, self._router, outputs.dead_letters)

    async def commit(self, transaction: Transaction, name: str, events: int) -> Committed:
        """Commit what completes so many events; while the disk is full, again and again."""
        measures, began = self.measures.of(name), self.clock.monotonic()
        while True:
            try:
                committed = await transaction.commit()
                measures.commit_seconds.observe(self.clock.monotonic() - began)
                measures.commit_events.observe(events)
                return committed
            except DiskFullError as error:
                logger.error("%s waits for room on the disk: %s", name, error)
                await self.clock.sleep(_DISK_FULL_SECONDS)

    def traced(self, caller: Caller, name: str, *, per_batch: bool) -> Caller:
        """The caller of a handler, with spans where there is a tracer."""
        return caller if self._traces is None else self._traces.caller(caller, name, per_batch=per_batch)

    @property
    def is_traced(self) -> bool:
        """Whether there is a tracer."""
        return self._traces is not None

    def traced_step(self, name: str, batches: Sequence[Batch]) -> AbstractContextManager[None]:
        """Around a query's step: its span, likewise."""
        return nullcontext() if self._traces is None else self._traces.step(name, batches)

    def _streams_changed(self, streams: Mapping[str, StreamSpec]) -> None:
        self._router = Router({**self._wanted, **streams}.values())
