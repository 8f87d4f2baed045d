"""Spans of events on their way from a listener into the log. Imported only where there is a tracer.

A gateway takes in hundreds of thousands of events a second, so not even a sampler is asked about each: a batch, and a
second, may begin a few traces, which the SDK's sampler then takes or leaves, and continue a few more. So a quiet
gateway traces whatever the sampler likes, and a busy one a sample. The context of the other events goes on untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import msgspec
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from millstream.clock import Clock
from millstream.gateway.attributes import PLAIN
from millstream.gateway.ingest.sealed import Sealed
from millstream.tracing import TRACEPARENT, is_sampled, trace_of
from millstream.tracing.context import Trace
from millstream.tracing.spans import SYSTEM, context_of, headers_of

T = TypeVar("T")

# Two spans cost some 60 µs, so that all that a second allows is less than a tenth of a core.
_BEGUN, _BEGUN_A_SECOND = 8, 100  # traces that a batch, and a second, may begin
_CONTINUED, _CONTINUED_A_SECOND = 64, 1_000  # traces of publishers that they continue


@dataclass(frozen=True, slots=True)
class _Arrival:
    row: int
    span: Span
    commit: Span


class _Allowance:
    """So many a second."""

    def __init__(self, a_second: int, clock: Clock) -> None:
        self._a_second = a_second
        self._clock = clock
        self._second = -1
        self._left = 0

    def take(self, wanted: list[T]) -> list[T]:
        """The first of them, as many as are left."""
        if (second := int(self._clock.monotonic())) != self._second:
            self._second, self._left = second, self._a_second
        given = wanted[: self._left]
        self._left -= len(given)
        return given


class ArrivalTraces:
    """One batch after the other: `begin`, `committed`, `end`."""

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._may_begin = _Allowance(_BEGUN_A_SECOND, clock)
        self._may_continue = _Allowance(_CONTINUED_A_SECOND, clock)
        self._arrivals: list[_Arrival] = []

    def begin(self, sealed: Sealed) -> None:
        """The batch is complete: begin the spans, and put their contexts into the events' headers."""
        continued = self._may_continue.take(list(islice(_continued(sealed), _CONTINUED)))
        begun: Iterable[tuple[int, Trace]] = ((row, {}) for row in self._may_begin.take(list(_candidates(sealed))))
        self._arrivals = [*self._begin(sealed, continued), *self._begin(sealed, begun)]

    def committed(self, sealed: Sealed) -> None:
        """Its events are on disk, those that are for the disk."""
        duplicates = set(sealed.duplicates)
        for arrival in self._arrivals:
            outcome = "transient" if not sealed.is_captured[arrival.row] else "committed"
            arrival.span.set_attribute("millstream.outcome", "duplicate" if arrival.row in duplicates else outcome)
            arrival.commit.end()

    def end(self) -> None:
        """It is answered, and subscribers have it."""
        for arrival in self._arrivals:
            arrival.span.end()
        self._arrivals = []

    def abandon(self) -> None:
        """The log has failed before."""
        for arrival in self._arrivals:
            arrival.span.set_status(Status(StatusCode.ERROR, "the log failed before it had committed the event"))
            arrival.commit.end()
        self.end()

    def _begin(self, sealed: Sealed, rows: Iterable[tuple[int, Trace]]) -> Iterator[_Arrival]:
        attributes, payloads = sealed.gathering.attributes, sealed.gathering.arrivals.payloads
        for row, trace in rows:
            its = attributes.get(row, PLAIN)
            told: dict[str, str | int] = {
                **SYSTEM,
                "messaging.operation.type": "receive",
                "messaging.destination.name": sealed.topic(row).name,
                "messaging.message.body.size": len(payloads[row]),
                "messaging.batch.message_count": len(sealed),
            }
            if its.id is not None:
                told["messaging.message.id"] = its.id
            span = self._tracer.start_span("receive", context_of(trace), SpanKind.SERVER, told)
            if span.is_recording():
                commit = self._tracer.start_span("commit", set_span_in_context(span))
                attributes[row] = msgspec.structs.replace(its, headers={**its.headers, **headers_of(span)})
                yield _Arrival(row, span, commit)


def _continued(sealed: Sealed) -> Iterator[tuple[int, Trace]]:
    """The events that came in a sampled trace, and its context."""
    for row, its in sealed.gathering.attributes.items():
        if TRACEPARENT in its.headers and is_sampled(trace := trace_of(its.headers)):
            yield row, trace


def _candidates(sealed: Sealed) -> Iterator[int]:
    """Some events that came in none, evenly from all over the batch."""
    attributes = sealed.gathering.attributes
    for row in range(0, len(sealed), -(-len(sealed) // _BEGUN) or 1):
        if TRACEPARENT not in attributes.get(row, PLAIN).headers:
            yield row
