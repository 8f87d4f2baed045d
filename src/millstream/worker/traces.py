"""Spans of what processors do with events that are traced. Imported only where there is a tracer.

Only events whose trace is sampled have spans; nothing is begun here. A span is the current one while a handler runs,
so that the spans of the libraries which it uses are its children, and its context goes to what the handler publishes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from millstream.event import Batch
from millstream.tracing import carry, is_sampled, traces_of
from millstream.tracing.context import Trace
from millstream.tracing.spans import SYSTEM, context_of, headers_of, links_to
from millstream.worker.call import Caller, Ran
from millstream.worker.segment import Item


class Traces:
    """Makes spans with a tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def caller(self, caller: Caller, group: str, *, per_batch: bool) -> Caller:
        """The same caller, with spans."""
        return TracedBatches(caller, self._tracer, group) if per_batch else TracedEvents(caller, self._tracer, group)

    @contextlib.contextmanager
    def step(self, group: str, batches: Sequence[Batch]) -> Iterator[None]:
        """A span of a query's step, which has links to the traced events of its batches; none without any."""
        links = links_to(trace for batch in batches for trace in traces_of(batch.events.column("headers")).values())
        if not links:
            yield
            return
        told: dict[str, str | int] = {**SYSTEM, "messaging.batch.message_count": sum(map(len, batches))}
        with self._tracer.start_as_current_span(f"step {group}", attributes=told, links=links):
            yield


class TracedEvents:
    """Calls a handler for each event. What is not traced is passed on as it comes; what is, one by one."""

    def __init__(self, caller: Caller, tracer: Tracer, group: str) -> None:
        self.at_a_time = caller.at_a_time
        self.limit = caller.limit
        self._caller = caller
        self._tracer = tracer
        self._group = group

    async def run(self, items: list[Item], *, last_try: bool) -> Ran:
        """See `Caller.run`."""
        if not any(map(_sampled, items)):
            ran = await self._caller.run(items, last_try=last_try)
            self.limit = self._caller.limit  # which says nothing when it was given pieces
            return ran
        ran = Ran()
        while items:
            piece, items = _cut(items)
            trace = _sampled(piece[0])
            run = self._run_traced(piece[0], trace, last_try) if trace else self._caller.run(piece, last_try=last_try)
            _add(ran, await run)
            if ran.failures or ran.left:  # events of the same keys must not be begun
                ran.left += items
                break
        return ran

    async def _run_traced(self, item: Item, trace: Trace, last_try: bool) -> Ran:
        segment, index = item
        told: dict[str, str | int] = {
            **SYSTEM,
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": self._group,
            "messaging.destination.name": segment.stream or segment.topics[index],
        }
        event = segment.event(index)
        if event.id is not None or event.stream is not None:
            told["messaging.message.id"] = event.id or event.position
        with _span(self._tracer, f"process {self._group}", trace, told) as span:
            ran = await self._caller.run([item], last_try=last_try)
            _tell(span, ran)
        return ran


class TracedBatches:
    """Calls a handler for many events at once: one span, with links to those that are traced."""

    def __init__(self, caller: Caller, tracer: Tracer, group: str) -> None:
        self.at_a_time = caller.at_a_time
        self.limit = caller.limit
        self._caller = caller
        self._tracer = tracer
        self._group = group

    async def run(self, items: list[Item], *, last_try: bool) -> Ran:
        """See `Caller.run`."""
        links = links_to(map(_sampled, items))
        if not links:
            return await self._caller.run(items, last_try=last_try)
        told: dict[str, str | int] = {
            **SYSTEM,
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": self._group,
            "messaging.batch.message_count": len(items),
        }
        with _span(self._tracer, f"process {self._group}", {}, told, links) as span:
            ran = await self._caller.run(items, last_try=last_try)
            _tell(span, ran)
        return ran


def _span(
    tracer: Tracer, name: str, parent: Trace, told: dict[str, str | int], links: Sequence[Link] = ()
) -> AbstractContextManager[Span]:
    return tracer.start_as_current_span(name, context_of(parent), SpanKind.CONSUMER, told, links)


def _tell(span: Span, ran: Ran) -> None:
    """What came of it: errors into the span, the span's context into what was published."""
    for failure in ran.failures:
        if isinstance(failure.error, Exception):
            span.record_exception(failure.error)
        span.set_status(Status(StatusCode.ERROR, f"{type(failure.error).__name__}: {failure.error}"))
    if span.is_recording():
        headers = headers_of(span)
        ran.outputs = [(item, carry(headers, events)) for item, events in ran.outputs]


def _sampled(item: Item) -> Trace:
    """The context of an event if its trace is sampled; none else."""
    segment, index = item
    trace = segment.traces.get(index, {})
    return trace if is_sampled(trace) else {}


def _cut(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """The first event if it is traced, else all up to one that is; and the rest."""
    number = next((number for number, item in enumerate(items) if _sampled(item)), len(items))
    end = number or 1
    return items[:end], items[end:]


def _add(ran: Ran, more: Ran) -> None:
    ran.done += more.done
    ran.outputs += more.outputs
    ran.failures += more.failures
    ran.left += more.left
