"""Runs a subscription: calls a function with what is published at the moment, one event after the other.

At most once: events that come faster than the function takes them wait, up to a bound, and are then dropped and
counted; one that the function fails with is told in the log, and that is all.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from millstream.app import Subscription
from millstream.clock import Micros, to_micros
from millstream.event import Batch, Event, placed, to_columns
from millstream.worker.arguments import Levels
from millstream.worker.call import AsyncEvents, Caller, ThreadedEvents
from millstream.worker.complaints import Complaints
from millstream.worker.context import RECOVERABLE, Context, Outputs
from millstream.worker.function import function_of_events
from millstream.worker.results import Results
from millstream.worker.segment import Segment, caused_by
from millstream.worker.tasks import Signal, first_of
from millstream.worker.threads import Threads
from millstream.worker.topics import TopicSubscription

logger = logging.getLogger("millstream.worker")

_WAITING_EVENTS = 10_000
_WAITING_BYTES = 16 << 20


class Subscriber:
    """One subscription in one worker. `dropped` counts the events for which there was no room."""

    def __init__(self, subscription: Subscription, context: Context) -> None:
        self.name = subscription.name
        self.dropped = 0
        self._subscription = subscription
        self._context = context
        self._measures = context.measures.of(subscription.name)
        self._measures.drop(0)
        self._threads = Threads(1, f"millstream-{subscription.name}", context.under_way(subscription.name))
        self._caller = context.traced(_make_caller(subscription, context, self._threads), self.name, per_batch=False)
        self._complaints = Complaints(context.clock, subscription.name, context.watch)
        self._waiting: deque[Event] = deque()
        self._bytes = 0
        self._arrived = Signal()
        self._stopping = Signal()
        self._drain_seconds = 0.0
        self._topics: TopicSubscription | None = None

    async def join(self) -> None:
        """Returns when the subscription stands."""
        self._topics = await self._context.topics.subscribe(self._subscription.topics.mqtt, self.name, self._take)

    async def run(self) -> None:
        """Call the function until `stop`."""
        try:
            await first_of(self._handle(), self._stop_after())
        finally:
            self._threads.close()
            if self._topics is not None:
                await self._topics.close()

    def stop(self, drain_seconds: float) -> None:
        """Let `run` end when the call under way has ended, or that time is over."""
        self._drain_seconds = drain_seconds
        self._stopping.set()
        self._arrived.set()

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            if len(self._waiting) >= _WAITING_EVENTS or self._bytes >= _WAITING_BYTES:
                self._drop()
            else:
                self._waiting.append(event)
                self._bytes += len(event.payload)
        self._arrived.set()

    def _drop(self) -> None:
        if not self.dropped % _WAITING_EVENTS:
            logger.warning("%s is slower than what is published; it has dropped %d events", self.name, self.dropped + 1)
        self.dropped += 1
        self._measures.drop(1)

    async def _handle(self) -> None:
        while not self._stopping.is_set:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            taken = [self._waiting.popleft() for _ in range(min(self._caller.limit, len(self._waiting)))]
            self._bytes -= sum(len(event.payload) for event in taken)
            await self._call(taken)

    async def _call(self, events: list[Event]) -> None:
        segment = Segment(_as_batch(events, self._context.clock.now()))
        left = [(segment, index) for index in range(len(events))]
        while left:
            began = self._context.clock.monotonic()
            ran = await self._caller.run(left, last_try=True)
            begun = len(left) - len(ran.left)
            self._measures.called(self._context.clock.monotonic() - began, begun, begun)
            for failure in ran.failures:
                self._measures.errors += len(failure.items)
                topic = segment.topics[failure.items[0][1]]
                self._complaints.failed(f"topic {topic!r}", failure.error, "which is not tried again")
            await self._publish([event for item, events in ran.outputs for event in caused_by(item, events)])
            left = ran.left

    async def _publish(self, events: list[Event]) -> None:
        if not events:
            return
        outputs = Outputs([to_columns(events)], [])
        try:
            transaction = self._context.log.transaction()
            self._context.append(transaction, outputs)
            await self._context.commit(transaction, self.name, 0)
        except RECOVERABLE as error:
            logger.warning("%s could not publish %d events: %s", self.name, len(events), error)

    async def _stop_after(self) -> None:
        await self._stopping.wait()
        await self._context.clock.sleep(self._drain_seconds)


def _make_caller(subscription: Subscription, context: Context, threads: Threads) -> Caller:
    signature, levels = subscription.signature, Levels((subscription.topics,))
    results = Results(subscription.name, subscription.into, levels)
    given = context.resources.given(subscription.name)
    function = function_of_events(signature, levels, results, given, threads)
    if signature.is_async:
        return AsyncEvents(function, under_way=context.under_way(subscription.name))
    return ThreadedEvents(function, threads, context.clock.monotonic)


def _as_batch(events: list[Event], now: Micros) -> Batch:
    """Events that stand in no stream, as if they did."""
    times = [now if event.time is None else to_micros(event.time) for event in events]
    return Batch("", -1, placed(to_columns(events), [-1] * len(events), times), 0)
